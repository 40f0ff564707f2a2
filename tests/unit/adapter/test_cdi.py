"""CDI files as data: what is taken of one, and what is refused."""

import json
import os
from pathlib import Path

import pytest

from sublet.adapter.cdi import GpuName, find_edits, parse_cdi, read_cdi
from sublet.base import limits
from sublet.base.errors import Refused

# As ``nvidia-ctk cdi generate`` writes it, cut short.
NVIDIA = """---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidia-modeset
  - path: /dev/nvidia-uvm
  - path: /dev/nvidia-uvm-tools
  - path: /dev/nvidiactl
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  - LD_PRELOAD=/evil.so
  hooks:
  - args: [nvidia-cdi-hook, update-ldcache, --folder, /usr/lib/x86_64-linux-gnu]
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  mounts:
  - containerPath: /usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15
    hostPath: {folder}/libcuda.so.550.54.15
    options: [ro, nosuid, nodev, bind]
  - containerPath: /run/nvidia-persistenced/socket
    hostPath: /run/nvidia-persistenced/socket
  - containerPath: /usr/bin/nvidia-smi
    hostPath: /usr/bin/nvidia-smi
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia3
    - path: /dev/dri/card1
    - hostPath: /dev/mem
      path: /dev/nvidiactl
  name: "0"
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia3
    - path: /dev/nvidia4
  name: all
kind: nvidia.com/gpu
"""
GPU = GpuName(("GPU-1", "0"), minor=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one CDI file, and the library that it names."""
    made = tmp_path / "cdi"
    made.mkdir()
    (tmp_path / "libcuda.so.550.54.15").touch()
    (made / "nvidia.yaml").write_text(NVIDIA.replace("{folder}", str(tmp_path)))
    return made


def write(folder: Path, name: str = "nvidia.yaml", **changes: object) -> None:
    file = {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": []} | changes
    (folder / name).write_text(json.dumps(file))


def device(name: str, *nodes: str, library: str = "") -> dict[str, object]:
    mounts = [{"hostPath": library, "containerPath": library}] if library else []
    edits = {"deviceNodes": [{"path": node} for node in nodes], "mounts": mounts}
    return {"name": name, "containerEdits": edits}


def test_takes_libraries_controls_and_its_own_variables(folder: Path) -> None:
    edits = find_edits(read_cdi([folder]), [GPU])
    assert edits.libraries == (str(folder.parent / "libcuda.so.550.54.15"),)
    # No modeset, no screens, no socket, no program, and nothing under another name.
    assert edits.controls == (
        *("/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidiactl"),
    )
    assert edits.env == {"NVIDIA_VISIBLE_DEVICES": "void"}


def test_knows_a_gpu_by_its_uuid_first(folder: Path) -> None:
    write(
        folder, devices=[device("0", "/dev/nvidia9"), device("GPU-1", "/dev/nvidia3")]
    )
    assert find_edits(read_cdi([folder]), [GPU]).libraries == ()


def test_no_folder_is_no_devices(tmp_path: Path) -> None:
    assert read_cdi([tmp_path / "none"]) == {}


def test_later_folder_wins(folder: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    write(later, devices=[device("0", "/dev/nvidia3")])
    assert find_edits(read_cdi([folder, later]), [GPU]).libraries == ()
    assert find_edits(read_cdi([later, folder]), [GPU]).libraries != ()


def test_passes_over_other_vendors(folder: Path) -> None:
    write(folder, "amd.json", kind="amd.com/gpu", devices=[device("0", "/dev/kfd")])
    assert find_edits(read_cdi([folder]), [GPU]).libraries != ()


@pytest.mark.parametrize("name", ["all", "1"])
def test_never_gives_a_gpu_that_is_another_s(folder: Path, name: str) -> None:
    gpu = GpuName((name,), minor=3)
    both = device("all", "/dev/nvidia3", "/dev/nvidia4")
    write(folder, devices=[device("1", "/dev/nvidia4"), both])
    with pytest.raises(
        Refused, match=r"/dev/nvidia4, and the driver says /dev/nvidia3"
    ):
        find_edits(read_cdi([folder]), [gpu])


def test_refuses_a_gpu_that_it_does_not_name(folder: Path) -> None:
    with pytest.raises(Refused, match=r"do not name GPU-7; write it anew") as error:
        find_edits(read_cdi([folder]), [GpuName(("GPU-7", "7"), minor=7)])
    assert error.value.code == "bad_cdi"


def test_refuses_one_device_twice(folder: Path) -> None:
    write(folder, "other.json", devices=[device("0", "/dev/nvidia3")])
    with pytest.raises(Refused, match="'0' is named twice"):
        read_cdi([folder])


def test_refuses_a_library_that_is_gone(folder: Path) -> None:
    (folder.parent / "libcuda.so.550.54.15").unlink()
    with pytest.raises(Refused, match=r"libcuda\.so\.550\.54\.15: No such file"):
        find_edits(read_cdi([folder]), [GPU])


@pytest.mark.parametrize("mode", [0o666, 0o620])
def test_refuses_what_others_may_write(folder: Path, mode: int) -> None:
    (folder.parent / "libcuda.so.550.54.15").chmod(mode)
    with pytest.raises(Refused, match="root alone may write"):
        find_edits(read_cdi([folder]), [GPU])
    (folder / "nvidia.yaml").chmod(mode)
    with pytest.raises(Refused, match="root alone may write"):
        read_cdi([folder])


def test_does_not_wait_for_a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe.json")
    with pytest.raises(Refused, match="root alone may write"):
        read_cdi([folder])


@pytest.mark.parametrize(
    "path",
    ["/etc/shadow", "/srv/../etc/libx.so", "lib.so", "/x/lib$(id).so", "/x/libz"],
)
def test_takes_no_other_files_along(folder: Path, path: str) -> None:
    write(folder, devices=[device("0", library=path)])
    assert find_edits(read_cdi([folder]), [GPU]).libraries == ()


BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
ODD = {
    "no file at all": ("x.json", b""),
    "not JSON": ("x.json", b"{]"),
    "not YAML": ("x.yaml", b"a: [b"),
    "not text": ("x.yaml", b"\xff\xfe\x00\xd8"),
    "a list": ("x.json", b"[]"),
    "a program": ("x.yaml", b"!!python/object/apply:os.system ['id']"),
    "aliases": ("x.yaml", BOMB.encode()),
    "deep": ("x.yaml", b"[" * 50_000),
    "deep JSON": ("x.json", b"[" * 100_000),
    "too large": ("x.json", b" " * (limits.CDI_BYTES_MAX + 1)),
    "no version": ("x.json", b'{"kind": "nvidia.com/gpu", "devices": []}'),
    "no kind": ("x.json", b'{"cdiVersion": "0.5.0", "devices": []}'),
    "its future": ("x.json", b'{"cdiVersion":"2.0.0","kind":"n/g","devices":[]}'),
    "a number for a path": (
        "x.json",
        b'{"cdiVersion":"0.5.0","kind":"n/g","devices":[{"name":"0","containerEdits":'
        b'{"deviceNodes":[{"path":7}]}}]}',
    ),
}


@pytest.mark.parametrize(("name", "content"), ODD.values(), ids=ODD)
def test_refuses_odd_files_and_names_them(name: str, content: bytes) -> None:
    with pytest.raises(Refused, match=f"CDI file {name}: .*; write it anew") as error:
        parse_cdi(content, source=name)
    assert error.value.code == "bad_cdi"
    assert len(error.value.message) < 500
