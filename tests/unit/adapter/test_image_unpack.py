"""What strangers pack, laid out: refused, or harmless. Nothing leaves the root."""

import os
import stat
import tarfile
from pathlib import Path

import pytest

from sublet.adapter.image_unpack import FILES, FOLDERS, RefusedImage, Root, unpack
from tests.image_rig import Entry, entry, folder, link, pack_layer

OUTSIDE = "secret of the host"


class Desk:
    """A root in the making, and a file beside it that nobody may touch."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.out = base / "out"
        self.out.mkdir()
        self.host = base / "host"
        self.host.mkdir()
        (self.host / "file").write_text(OUTSIDE)

    @property
    def root(self) -> Path:
        return self.out / "root"

    def lay_out(
        self, *entries: Entry, bytes_max: int = 1 << 20, files_max: int = 1_000
    ) -> dict[str, object]:
        archive = self.base / "layer.tar"
        archive.write_bytes(pack_layer(entries))
        return unpack(
            "tar", archive, self.out, bytes_max=bytes_max, files_max=files_max
        )

    def is_untouched(self) -> bool:
        names = sorted(path.name for path in self.host.iterdir())
        beside = sorted(path.name for path in self.base.iterdir())
        return (
            names == ["file"]
            and (self.host / "file").read_text() == OUTSIDE
            and beside == ["host", "layer.tar", "out"]
            and [path.name for path in self.out.iterdir()] == ["root"]
        )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


REFUSED = {
    "a path upwards": [entry("../escaped", "x")],
    "a path upwards, further in": [entry("a/b/../../../escaped", "x")],
    "a hard link upwards": [link("a", "../host/file", is_hard=True)],
    "a hard link to the host": [link("a", "/etc/passwd", is_hard=True)],
    "a hard link to a folder": [folder("d"), link("a", "d", is_hard=True)],
    "a hard link to a link": [link("s", "/etc"), link("a", "s", is_hard=True)],
    "links in circles": [link("a", "b"), link("b", "a"), entry("a/x", "x")],
    "a link to itself": [link("a", "a/a"), entry("a/x", "x")],
    "a whiteout of nothing": [entry("d/.wh.", "")],
    "a whiteout of its folder": [folder("d"), entry("d/.wh..", "")],
    "a whiteout of what is above": [folder("d"), entry("d/.wh...", "")],
    "a path too deep": [entry("/".join(["d"] * 300), "x")],
    "a name too long": [entry("n" * 300, "x")],
}


@pytest.mark.parametrize("entries", REFUSED.values(), ids=REFUSED)
def test_refused(desk: Desk, entries: list[Entry]) -> None:
    with pytest.raises((RefusedImage, OSError)):
        desk.lay_out(folder("d"), *entries)
        # Whiteouts concern lower layers: here the folder they mean is not there yet.
        root = Root(desk.base / "second", bytes_max=1 << 20, files_max=100)
        root.resolve(("d",), makes=True)
        root.apply(desk.base / "layer.tar")
    assert (desk.host / "file").read_text() == OUTSIDE
    assert not (desk.base / "escaped").exists()


HARMLESS = {
    "an absolute path": ([entry("/etc/x", "x")], "etc/x"),
    "a link out, written through": (
        [link("out", "../host"), entry("out/file", "x")],
        "host/file",
    ),
    "an absolute link, written through": (
        [link("out", "/host"), entry("out/file", "x")],
        "host/file",
    ),
    "links out by links": (
        [link("a", ".."), link("b", "a/../.."), entry("b/host/file", "x")],
        "host/file",
    ),
    "a file over a link": ([link("f", "/host/file"), entry("f", "x")], "f"),
    "a file over a folder": ([folder("f"), entry("f/g", "1"), entry("f", "x")], "f"),
    "a folder over a file": ([entry("f", "1"), entry("f/g", "x")], "f/g"),
}


@pytest.mark.parametrize(("entries", "place"), HARMLESS.values(), ids=HARMLESS)
def test_lands_inside(desk: Desk, entries: list[Entry], place: str) -> None:
    desk.lay_out(*entries)
    found = desk.root / place
    assert stat.S_ISREG(found.lstat().st_mode)
    assert found.read_text() == "x"
    assert desk.is_untouched()


def test_devices_and_pipes_are_left_out(desk: Desk) -> None:
    kinds = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    desk.lay_out(
        *(entry(f"d{n}", type=kind, devmajor=1) for n, kind in enumerate(kinds)),
        entry("file", "x"),
    )
    assert (desk.root / "file").is_file()
    assert not [path for path in desk.root.iterdir() if path.name.startswith("d0")]
    assert not any((desk.root / f"d{n}").exists() for n in range(len(kinds)))


def test_rights_of_others_are_left_out(desk: Desk) -> None:
    desk.lay_out(
        entry("suid", "x", mode=0o6755, uid=0, gid=0),
        entry("closed", "x", mode=0),
        entry("sticky/x", "x", mode=0o7777),
    )
    found = {
        name: stat.S_IMODE((desk.root / name).stat().st_mode)
        for name in ("suid", "closed", "sticky/x")
    }
    assert found == {"suid": 0o755, "closed": 0o644, "sticky/x": 0o755}
    assert (desk.root / "suid").stat().st_uid == os.geteuid()


MOUNTS = {
    "links": [link("proc", "/etc"), link("work", "../host"), link("run", "/host")],
    "files": [entry("proc", "x"), entry("work", "x"), entry("run", "x")],
    "links to follow": [folder("run"), link("run/init", "/host/file")],
    "links to itself": [link("tmp", "tmp")],
}


@pytest.mark.parametrize("entries", MOUNTS.values(), ids=MOUNTS)
def test_mount_points_are_real(desk: Desk, entries: list[Entry]) -> None:
    desk.lay_out(*entries)
    for name in FOLDERS:
        assert stat.S_ISDIR((desk.root / name).lstat().st_mode)
    for name in FILES:
        assert stat.S_ISREG((desk.root / name).lstat().st_mode)
    assert desk.is_untouched()


def test_too_many_bytes(desk: Desk) -> None:
    with pytest.raises(RefusedImage, match="larger"):
        desk.lay_out(
            *(entry(f"f{n}", bytes(1_000)) for n in range(20)), bytes_max=9_999
        )


def test_too_many_files(desk: Desk) -> None:
    with pytest.raises(RefusedImage, match="more files"):
        desk.lay_out(*(entry(f"f{n}") for n in range(101)), files_max=100)


def test_devices_count_as_well(desk: Desk) -> None:
    with pytest.raises(RefusedImage, match="more files"):
        pipes = [entry(f"f{n}", type=tarfile.FIFOTYPE) for n in range(102)]
        desk.lay_out(*pipes, files_max=100)


def test_folders_that_nobody_packed_count(desk: Desk) -> None:
    deep = [entry(f"{n}/" + "/".join("abcdefghij"), "") for n in range(30)]
    with pytest.raises(RefusedImage, match="more files"):
        desk.lay_out(*deep, files_max=100)


def test_times_are_kept(desk: Desk) -> None:
    desk.lay_out(entry("f", "x", mtime=1_600_000_000), entry("g", "x", mtime=1 << 40))
    assert (desk.root / "f").stat().st_mtime == 1_600_000_000
    assert (desk.root / "g").stat().st_mtime == 0


USERS = {
    "nobody named": ("", (0, 0)),
    "by name": ("app", (4242, 4343)),
    "by number": ("4242", (4242, 4343)),
    "by number alone": ("9", (9, 0)),
    "with a group": ("app:wheel", (4242, 77)),
    "all numbers": ("5:6", (5, 6)),
}


@pytest.mark.parametrize(("text", "expected"), USERS.values(), ids=USERS)
def test_user(tmp_path: Path, text: str, expected: tuple[int, int]) -> None:
    root = Root(tmp_path / "root", bytes_max=1 << 20, files_max=100)
    (tmp_path / "root/etc").mkdir()
    rows = "broken\napp:x:4242:4343::/:/bin/sh\nx:x:y:z:\n"
    (tmp_path / "root/etc/passwd").write_text(rows)
    (tmp_path / "root/etc/group").write_text("wheel:x:77:\n")
    assert root.find_user(text) == expected


@pytest.mark.parametrize("text", ["nobody-here", "1:no-group", "4294967295", "-1"])
def test_unknown_user(tmp_path: Path, text: str) -> None:
    root = Root(tmp_path / "root", bytes_max=1 << 20, files_max=100)
    with pytest.raises(RefusedImage):
        root.find_user(text)


def test_accounts_are_not_read_through_a_link(desk: Desk) -> None:
    secret = desk.host / "passwd"
    secret.write_text("app:x:1:1::/:\n")
    (desk.out / "x").mkdir()
    root = Root(desk.out / "x/root", bytes_max=1 << 20, files_max=100)
    (desk.out / "x/root/etc").mkdir()
    (desk.out / "x/root/etc/passwd").symlink_to(secret)
    with pytest.raises(RefusedImage):
        root.find_user("app")
