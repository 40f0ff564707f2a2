"""The virtual root: no method of the base class is left to touch a real path."""

import asyncssh
import pytest

from sublet.provider.lease_files import LeaseFiles, _split

# They look at nothing but their arguments.
HARMLESS = {
    "channel",
    "connection",
    "env",
    "logger",
    "convert_attrs",
    "format_user",
    "format_group",
    "format_longname",
    "map_path",
    "reverse_map_path",
}


def test_overrides_whatever_touches_disk() -> None:
    inherited = {name for name in vars(asyncssh.SFTPServer) if not name.startswith("_")}
    own = set(vars(LeaseFiles))
    assert inherited - own - HARMLESS == set()


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        (b"", ["work"]),  # where ordinary tools begin
        (b".", ["work"]),
        (b"/", []),
        (b"/work/./a//b/", ["work", "a", "b"]),
        (b"work", ["work", "work"]),
        (b"/work/a/../b", ["work", "b"]),  # by its word: no link is followed
        (b"../chunks", ["chunks"]),
        (b"../../../../etc/passwd", ["etc", "passwd"]),
    ],
)
def test_reads_plain_paths(path: bytes, parts: list[str]) -> None:
    assert _split(path) == parts


@pytest.mark.parametrize("path", [b"/work/\0", b"/work/\xff", b"/" + b"a" * 2_000])
def test_refuses_other_paths(path: bytes) -> None:
    with pytest.raises(asyncssh.SFTPError):
        _split(path)
