"""What runs in an image: its own program, the tenant's, or the one behind the other."""

import pytest
from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.provider.image_program import make_program
from sublet.service.image_port import Image
from sublet.wire.message import Manifest, Tree

IMAGE = Image(
    root="/images/x",
    digest="sha256:1",
    entrypoint=("/bin/serve", "--safe"),
    cmd=("--port", "80"),
    env={"HOME": "/root", "MODE": "own"},
    directory="/srv",
    uid=10,
    gid=10,
)
NOTHING = Tree(files=())


def manifest(*argv: str, lengthens: bool = False) -> Manifest:
    return Manifest(
        v=1,
        salt="0" * 32,
        kind="command",
        argv=argv,
        env={},
        secrets={},
        inputs=NOTHING,
        outputs=(),
        checkpoint="",
        resume=NOTHING,
        cpus_milli=1,
        memory_bytes=1,
        disk_bytes=1,
        timeout_s=1,
        image="x",
        lengthens=lengthens,
    )


@pytest.mark.parametrize(
    ("wanted", "argv", "directory"),
    [
        (manifest(), ("/bin/serve", "--safe", "--port", "80"), "/srv"),
        (manifest("sh", "-c", "x"), ("sh", "-c", "x"), ""),  # the tenant's, in /work
        (
            manifest("--port", "81", lengthens=True),
            ("/bin/serve", "--safe", "--port", "81"),
            "/srv",
        ),
    ],
)
def test_runs_whose_program(
    wanted: Manifest, argv: tuple[str, ...], directory: str
) -> None:
    program = make_program(wanted, IMAGE)
    assert (program.argv, program.directory) == (argv, directory)
    assert program.env["MODE"] == "own" and "HOME" not in program.env


def test_refuses_an_image_without_program() -> None:
    bare = replace(IMAGE, entrypoint=(), cmd=())
    with pytest.raises(Refused) as caught:
        make_program(manifest(), bare)
    assert caught.value.code == "no_target"
