"""Where volumes may be mounted, and which manifests have them."""

import pytest
from msgspec import structs

from sublet.base import limits
from sublet.base.errors import Faults
from sublet.wire.manifest import check_manifest
from sublet.wire.message import Manifest, SealedJob, Tree, Volume
from sublet.wire.volume import RESERVED, find_mount_fault

GOOD = Manifest(
    v=1,
    salt="0123456789abcdef" * 2,
    kind="command",
    argv=("true",),
    env={},
    secrets={},
    inputs=Tree(()),
    outputs=(),
    checkpoint="",
    resume=Tree(()),
    cpus_milli=1_000,
    memory_bytes=1 << 30,
    disk_bytes=1 << 30,
    timeout_s=600,
    image="python:3.12",
    volumes=(
        Volume("db", "/var/lib/postgresql/data", is_persistent=True),
        Volume("db2", "/var/lib/postgresql/data2", is_persistent=True),
        Volume("cache", "/root/.cache"),
    ),
)


def test_good_volumes_pass() -> None:
    check_manifest(GOOD)


@pytest.mark.parametrize(
    "mount",
    [
        *("", "data", "/", "//", "/data/", "//data", "/data//x", "/./data"),
        *("/data/..", "/data/../etc", "/..", "/a\0b", "/a\nb", "/\ud800"),
        *("/" + "x" * 256, "/" + "/".join(["x" * 200] * 6)),
        *(f"/{name}" for name in RESERVED),
        *(f"/{name}/x" for name in RESERVED),
    ],
)
def test_bad_mounts_are_refused(mount: str) -> None:
    assert find_mount_fault(mount)


@pytest.mark.parametrize("mount", ["/data", "/etcetera", "/root", "/usr/share/x"])
def test_ordinary_mounts_are_taken(mount: str) -> None:
    assert find_mount_fault(mount) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"image": ""},
        {"checkpoint": "ckpt"},
        {"volumes": (Volume("a", "/etc/x"),)},
        {"volumes": (Volume("../a", "/data"),)},
        {"volumes": (Volume("..", "/data"),)},
        {"volumes": (Volume("a/b", "/data"),)},
        {"volumes": (Volume("", "/data"),)},
        {"volumes": (Volume("a", "/data"), Volume("a", "/other"))},
        {"volumes": (Volume("a", "/data"), Volume("b", "/data"))},
        {"volumes": (Volume("a", "/data/x"), Volume("b", "/data"))},
        {"volumes": (Volume("a", "/d"), Volume("b", "/d-x"), Volume("c", "/d/x"))},
        {"volumes": tuple(Volume(f"v{n}", f"/v{n}") for n in range(17))},
        {"kind": "sealed", "argv": (), "image": "", "sealed": SealedJob("j", (), b"")},
    ],
)
def test_bad_volumes_are_refused(changes: dict[str, object]) -> None:
    assert limits.VOLUMES_MAX == 16
    with pytest.raises(Faults):
        check_manifest(structs.replace(GOOD, **changes))
