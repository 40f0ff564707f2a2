"""Messages: a manifest travels whole and shows nothing of itself."""

import io

from rich.console import Console
from rich.pretty import Pretty

from sublet.base import limits
from sublet.wire.codec import decode, encode
from sublet.wire.message import Deliver, Manifest, TenantSays, Tree

MANIFEST = Manifest(
    v=1,
    salt="5a17" * 8,
    kind="command",
    argv=("curl", "--user", "me:hunter1"),
    env={"PASSWORD": "hunter2"},
    secrets={"TOKEN": "hunter3"},
    inputs=Tree(()),
    outputs=(),
    checkpoint="",
    resume=Tree(()),
    cpus_milli=1_000,
    memory_bytes=1,
    disk_bytes=1,
    timeout_s=1,
)


def test_manifest_never_shows_its_secrets() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(Pretty(Deliver(MANIFEST)))
    assert isinstance(console.file, io.StringIO)
    rich = console.file.getvalue()
    for shown in (repr(MANIFEST), str(MANIFEST), repr(Deliver(MANIFEST)), rich):
        assert "Manifest" in shown
        assert "hunter" not in shown
        assert "5a17" not in shown  # with the salt, a guess could be checked


def test_manifest_travels_whole() -> None:
    said = encode(Deliver(MANIFEST))
    heard = decode(said, TenantSays, size_max=limits.MANIFEST_BYTES_MAX)
    assert heard == Deliver(MANIFEST)
    assert heard.manifest.secrets == {"TOKEN": "hunter3"}
