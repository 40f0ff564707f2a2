"""What an OCI runtime is told; nothing is started here."""

import base64
import json
from typing import Any

import pytest

from sublet.adapter.job_python import JobPython
from sublet.adapter.nvidia import GpuFiles
from sublet.adapter.oci_bundle import Bundle, Identity, build_bundle
from sublet.base.errors import Refused
from sublet.service.ports import Bind, SandboxSpec
from tests.unit.adapter.test_bubblewrap_options import GPU, NO_GPU, spec

PYTHON = JobPython(
    "/home/me/py/bin/python3",
    "/opt/python/bin/python3",
    (Bind("/home/me/py", "/opt/python"),),
)
PORTABLE = JobPython(
    "/home/me/py/bin/python3",
    "/run/sublet/python/bin/python3",
    (Bind("/home/me/py", "/run/sublet/python"),),
)
WORK = Bind("/srv/jobs/1/work", "/work", is_writable=True)
ROOT = "/srv/images/1"


def build(
    wanted: SandboxSpec | None = None,
    *,
    gpu: GpuFiles = NO_GPU,
    is_mapped: bool = True,
    seccomp: bytes = b"\x01bpf",
) -> Bundle:
    return build_bundle(
        wanted or spec(),
        identity=Identity(1_000, 1_000, 64_000, is_mapped=is_mapped),
        python=PORTABLE if (wanted or spec()).root else PYTHON,
        gpu=gpu,
        root_links={"/bin": "usr/bin", "/lib32": ""},
        shared=("/etc/ssl/certs",),
        init="/usr/bin/catatonit",
        bridge="/srv/bridge.py",
        seccomp=seccomp,
        rlimits={"RLIMIT_CORE": 0},
    )


def config(bundle: Bundle) -> dict[str, Any]:
    """Read what the runtime reads."""
    (raw,) = (raw for name, raw in bundle.files if name == "bundle/config.json")
    found: dict[str, Any] = json.loads(raw)
    return found


def mount(bundle: Bundle, target: str) -> dict[str, Any]:
    """Give what is mounted at a place, with its host path for a source."""
    (found,) = (
        each for each in config(bundle)["mounts"] if each["destination"] == target
    )
    if found["type"] == "bind":
        found["source"] = bundle.sources[int(found["source"].removeprefix("/run/"))]
    assert isinstance(found, dict)
    return found


def gathered(bundle: Bundle) -> dict[str, str]:
    """Give what lies in our own folders: host paths by places inside."""
    return {
        point.removeprefix("gathered"): bundle.sources[
            int(staged.removeprefix("/run/"))
        ]
        for staged, point in bundle.gathered
    }


def test_gives_no_right_at_all() -> None:
    process = config(build())["process"]
    assert process["noNewPrivileges"] is True
    assert set(process["capabilities"]) == {
        *("bounding", "effective", "inheritable", "permitted", "ambient")
    }
    assert not any(process["capabilities"].values())
    assert process["terminal"] is False
    assert process["rlimits"] == [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]


def test_isolates_and_joins_no_network_of_its_own() -> None:
    linux = config(build())["linux"]
    kinds = {each["type"] for each in linux["namespaces"]}
    # The network is the one that the keeper has made, or joined.
    assert kinds == {"pid", "ipc", "uts", "mount", "cgroup", "user"}
    assert not any("path" in each for each in linux["namespaces"])
    one = {"containerID": 1_000, "hostID": 64_000, "size": 1}
    assert linux["uidMappings"] == linux["gidMappings"] == [one]
    unmapped = config(build(is_mapped=False))["linux"]
    assert "uidMappings" not in unmapped
    assert "/proc/sys" in linux["readonlyPaths"]
    assert "/proc/kcore" in linux["maskedPaths"]


def test_root_is_read_only() -> None:
    assert config(build())["root"] == {"path": "/run/root", "readonly": True}
    bundle = build(spec(root=ROOT))
    # An image's is made read-only in the stage, before the runtime sees it.
    place = config(bundle)["root"]
    assert bundle.fixed == (place["path"],)
    assert bundle.sources[int(place["path"].removeprefix("/run/"))] == ROOT
    assert not build().fixed


def test_an_image_has_nothing_of_the_host() -> None:
    bundle = build(spec(root=ROOT))
    assert set(bundle.sources) == {"/usr/bin/catatonit", "/srv/jobs/1/work", ROOT}
    assert bundle.folders == ("bundle",)
    assert bundle.links == ()
    assert bundle.points == ()  # nobody can make more in it


def test_a_script_has_the_host_s_system_and_a_point_for_each_bind() -> None:
    bundle = build()
    assert ("root/bin", "usr/bin") in bundle.links
    assert {"/usr", "/lib32", "/home/me/py", "/etc/ssl/certs"} <= set(bundle.sources)
    points = {point for _, point in bundle.points}
    assert {"root/work", "root/usr", "root/opt/python", "root/run/init"} <= points
    passwd = dict(bundle.files)["root/etc/passwd"]
    assert b"job:x:1000:1000:job:/work:" in passwd


def test_binds_are_read_only_unless_asked() -> None:
    bundle = build(spec(binds=(WORK, Bind("/srv/env", "/env"))))
    assert "rw" in mount(bundle, "/work")["options"]
    assert "ro" in mount(bundle, "/env")["options"]
    for target in ("/work", "/env"):
        assert {"nosuid", "nodev"} <= set(mount(bundle, target)["options"])


def test_host_paths_and_secrets_stand_in_memory_alone() -> None:
    bundle = build(spec(env={"TOKEN": "secret"}))
    assert "/srv" not in json.dumps(config(bundle)["mounts"])
    assert "TOKEN=secret" in config(bundle)["process"]["env"]


def test_init_hands_on_to_the_program() -> None:
    args = config(build())["process"]["args"]
    assert args == ["/run/init", "-g", "--", "python", "train.py"]


@pytest.mark.parametrize("root", ["", ROOT], ids=["script", "image"])
def test_leased_gpus_are_bound(root: str) -> None:
    bundle = build(spec(root=root), gpu=GPU)
    node = mount(bundle, "/dev/nvidia3")
    assert node["source"] == "/dev/nvidia3"
    assert "nodev" not in node["options"]
    (mounted,) = (
        each
        for each in config(bundle)["mounts"]
        if each["destination"] == "/run/nvidia"
    )
    assert mounted["source"] == "/run/gathered/run/nvidia"
    assert {"ro", "nosuid", "nodev"} <= set(mounted["options"])
    assert gathered(bundle) == {"/run/nvidia/libcuda.so.1": "/opt/driver/libcuda.so.1"}
    targets = [each["destination"] for each in config(bundle)["mounts"]]
    assert targets.index("/dev") < targets.index("/dev/nvidia3")
    env = config(bundle)["process"]["env"]
    assert {"CUDA_VISIBLE_DEVICES=GPU-1", "LD_LIBRARY_PATH=/run/nvidia"} <= set(env)
    assert ("root/run/nvidia" in bundle.folders) == (not root)


def test_no_devices_without_a_lease() -> None:
    targets = {each["destination"] for each in config(build())["mounts"]}
    assert not any(target.startswith(("/dev/nv", "/run/nv")) for target in targets)


@pytest.mark.parametrize("root", ["", ROOT], ids=["script", "image"])
def test_way_out_lies_in_one_folder(root: str) -> None:
    bundle = build(spec(root=root, network="/srv/jobs/1/network/egress"))
    found = gathered(bundle)
    assert found["/run/sublet/bridge.py"] == "/srv/bridge.py"
    assert found["/run/sublet/network"] == "/srv/jobs/1/network"
    # An image gets the interpreter along; a script has it anyway.
    assert ("/home/me/py" in found.values()) == bool(root)
    args = config(bundle)["process"]["args"]
    assert args[:3] == ["/run/init", "-g", "--"]
    assert args[-3:] == ["/run/sublet/network/egress", "python", "train.py"]


def test_filter_travels_as_bytes() -> None:
    said = config(build())["annotations"]["run.oci.seccomp_bpf_data"]
    assert base64.b64decode(said) == b"\x01bpf"
    assert config(build(seccomp=b""))["annotations"] == {}


@pytest.mark.parametrize("target", ["work", "/work/../etc", "/.."])
def test_refuses_places_that_are_none(target: str) -> None:
    with pytest.raises(Refused, match="no place to bind"):
        build(spec(binds=(Bind("/srv", target),)))


@pytest.mark.parametrize(
    "changes",
    [
        {"argv": ("a\0b",)},
        {"env": {"A": "\0"}},
        {"env": {"A\0": ""}},
        {"directory": "\0"},
    ],
)
def test_refuses_a_nul(changes: dict[str, object]) -> None:
    with pytest.raises(Refused):
        build(spec(**changes))
