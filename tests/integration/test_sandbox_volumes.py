"""Volumes in images, in every kind of sandbox: there, writable, and led nowhere else."""

import os
from pathlib import Path

import pytest

from sublet.adapter.image_place import ENTRIES_MAX, find_underlays
from sublet.base.errors import Refused
from sublet.service.ports import Bind
from tests.image_rig import lay_out_root
from tests.integration.test_sandbox_isolation import GVISOR, KINDS, PODMAN, Cell

EACH = [pytest.param("bubblewrap", marks=pytest.mark.sandbox), PODMAN, GVISOR]
ENV = {"PATH": "/bin"}
MOUNTS = {
    "given": "/srv/given",  # a folder of the image
    "top": "/data",  # missing in its root
    "deep": "/var/lib/db/data",  # missing below a folder of its own
    "beside": "/var/lib/other",  # missing there, too
    "below": "/usr/share/a/b",  # missing in a folder that is otherwise empty
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "root"
    lay_out_root(place)
    for folder in ("srv/given", "var/lib/apt", "usr/share", "etc"):
        (place / folder).mkdir(parents=True)
    (place / "srv/given/hidden").write_text("of the image")
    (place / "var/lib/list").write_text("listed\n")
    (place / "var/lib/link").symlink_to("apt/../list")
    (place / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    return place


def lay_out(base: Path, mounts: dict[str, str]) -> tuple[Bind, ...]:
    binds = [Bind(str(base / "work"), "/work", is_writable=True)]
    for name, mount in mounts.items():
        folder = base / "volumes" / name
        folder.mkdir(mode=0o700, parents=True)
        (folder / "before").write_text(f"kept in {name}\n")
        binds.append(Bind(str(folder), mount, is_writable=True))
    return tuple(binds)


def list_all(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


@pytest.mark.parametrize("kind", EACH)
async def test_job_writes_where_the_image_has_no_folder(
    tmp_path: Path, root: Path, kind: str
) -> None:
    cell = Cell(tmp_path, KINDS[kind]())
    binds, before = lay_out(tmp_path, MOUNTS), list_all(root)
    mounts = " ".join(MOUNTS.values())
    look = f"""
        for place in {mounts}; do
            cat $place/before && ls $place && echo made > $place/after
        done
        cat /var/lib/list /var/lib/link; ls /var/lib /usr/share
        for place in / /var/lib /var/lib/db /var/lib/apt /usr/share/a /srv; do
            touch $place/x 2>/dev/null && echo "$place is open"
        done
        touch /work/x && echo end"""
    state = await cell.run("sh", "-c", look, root=str(root), binds=binds, env=ENV)
    assert state.exit_code == 0, cell.complained()
    said = [line for name in MOUNTS for line in (f"kept in {name}", "before")]
    said += ["listed", "listed", "/usr/share:", "a", "", "/var/lib:"]
    said += ["apt", "db", "link", "list", "other", "end"]
    assert sorted(cell.said().splitlines()) == sorted(said), cell.complained()
    for name in MOUNTS:
        made = tmp_path / "volumes" / name / "after"
        assert (made.read_text(), made.stat().st_uid) == ("made\n", 64_200)
    assert list_all(root) == before  # other jobs share it


@pytest.mark.parametrize("kind", EACH)
@pytest.mark.parametrize(
    ("place", "target", "mount"),
    [
        ("data", "etc", "/data"),
        ("data", "/etc", "/data"),
        ("data", "../../../../../etc", "/data"),
        ("data", "/", "/data/etc"),
        ("var/lib/db", "/etc", "/var/lib/db/passwd"),
        ("var/lib/db", "nowhere", "/var/lib/db"),
    ],
)
async def test_image_leads_no_volume_elsewhere(
    tmp_path: Path, root: Path, kind: str, place: str, target: str, mount: str
) -> None:
    cell = Cell(tmp_path, KINDS[kind]())
    (root / place).symlink_to(target)
    binds = lay_out(tmp_path, {"evil": mount})
    with pytest.raises(Refused) as caught:
        await cell.run("true", root=str(root), binds=binds, env=ENV)
    assert caught.value.code == "bad_mount"
    assert list((tmp_path / "volumes/evil").iterdir()) == [
        tmp_path / "volumes/evil/before"
    ]


@pytest.mark.parametrize("kind", EACH)
async def test_job_leads_no_later_one_elsewhere(
    tmp_path: Path, root: Path, kind: str
) -> None:
    """What a job puts into its volume and work folder moves nothing of the next's."""
    cell = Cell(tmp_path, KINDS[kind]())
    binds = lay_out(tmp_path, {"one": "/data"})
    plant = """
        busybox rm -f /data/before
        busybox ln -s /etc /data/volume; busybox ln -s / /work/data
        busybox rmdir /data 2>/dev/null || ls /data"""
    await cell.run("sh", "-c", plant, root=str(root), binds=binds, env=ENV)
    assert cell.said() == "volume", cell.complained()
    look = "touch /data/volume/x 2>/dev/null || echo shut; ls /data"
    await cell.run("sh", "-c", look, root=str(root), binds=binds, env=ENV)
    assert cell.said() == "shut\nvolume", cell.complained()


def test_file_is_no_mount_point(root: Path) -> None:
    for mount in ("/etc/passwd", "/etc/passwd/x", "/bin/busybox"):
        with pytest.raises(Refused) as caught:
            find_underlays(str(root), [mount])
        assert caught.value.code == "bad_mount"


def test_full_folder_is_refused(root: Path) -> None:
    (root / "full").mkdir()
    for number in range(ENTRIES_MAX + 1):
        (root / f"full/{number}").symlink_to("x")
    with pytest.raises(Refused, match="too many"):
        find_underlays(str(root), ["/full/data"])
    (root / "full/data").mkdir()
    assert find_underlays(str(root), ["/full/data"]) == ()


def test_mount_points_share_what_is_made_anew(root: Path) -> None:
    outer, inner = find_underlays(str(root), ["/var/lib/x/y", "/b/c", "/a", "/var/lib"])
    assert (outer.path, outer.points) == ("", ("b/c", "a"))
    assert (inner.path, inner.points) == ("/var/lib", ("x/y",))
    assert inner.links == (("link", "apt/../list"),)
    assert inner.names == ("apt", "list")
    assert {"bin", "etc", "work"} <= set(outer.names)
    assert os.sep not in "".join(outer.names)
