"""What bubblewrap is told, option by option; nothing is started here."""

import pytest

from sublet.adapter.bubblewrap_options import (
    Option,
    build_argv,
    build_env,
    build_options,
)
from sublet.adapter.job_python import JobPython
from sublet.adapter.nvidia import GpuFiles
from sublet.base.errors import Refused
from sublet.service.ports import Bind, SandboxSpec

PYTHON = JobPython("/home/me/py/bin/python3", "/opt/python/bin/python3", ())
NO_GPU = GpuFiles((), (), {})
GPU = GpuFiles(
    ("/dev/nvidiactl", "/dev/nvidia3"),
    (Bind("/opt/driver/libcuda.so.1", "/run/nvidia/libcuda.so.1"),),
    {"CUDA_VISIBLE_DEVICES": "GPU-1"},
)


def spec(**changes: object) -> SandboxSpec:
    fields: dict[str, object] = {
        "argv": ("python", "train.py"),
        "env": {},
        "directory": "/work",
        "binds": (Bind("/srv/jobs/1/work", "/work", is_writable=True),),
        "uid": 64_000,
        "memory_bytes": 1 << 30,
        "cpus_milli": 1_000,
        "processes_max": 64,
        "tmp_bytes": 1 << 20,
        "file_bytes_max": 1 << 20,
        "disk_bytes": 1 << 20,
        "watched": (),
    }
    return SandboxSpec(**{**fields, **changes})  # type: ignore[arg-type]  # a test's short way


def options(gpu: GpuFiles = NO_GPU, **changes: object) -> tuple[Option, ...]:
    return build_options(
        spec(**changes),
        python=PYTHON,
        gpu=gpu,
        root_links={"/bin": "usr/bin", "/lib32": ""},
        seccomp=b"\x01bpf",
        bridge="/srv/bridge.py",
    )


def has(found: tuple[Option, ...], *wanted: Option) -> bool:
    """Say whether these options stand there, one after the other."""
    return any(
        found[start : start + len(wanted)] == wanted for start in range(len(found))
    )


@pytest.mark.parametrize(
    "flag",
    [
        *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc"),
        *("--unshare-uts", "--unshare-cgroup", "--disable-userns", "--clearenv"),
        *("--new-session", "--die-with-parent"),
    ],
)
def test_always_isolates(flag: str) -> None:
    assert flag in options()
    assert flag in options(GPU, network="/run/proxy")


def test_drops_every_capability() -> None:
    assert has(options(), "--cap-drop", "ALL")


def test_stages_host_paths() -> None:
    # A pair stands for a path that the job's uid may not reach by itself.
    assert has(options(), "--bind", ("/srv/jobs/1/work",), "/work")
    assert not any("/srv" in item for item in options() if isinstance(item, str))


def test_binds_are_read_only_unless_asked() -> None:
    binds = (Bind("/srv/env", "/env"),)
    assert has(options(binds=binds), "--ro-bind", ("/srv/env",), "/env")


def test_root_is_made_read_only_last() -> None:
    found = options()
    remount = found.index("--remount-ro")
    assert not {"--bind", "--ro-bind", "--dev-bind", "--tmpfs"} & set(found[remount:])


def test_system_folders_are_as_on_the_host() -> None:
    assert has(options(), "--symlink", "usr/bin", "/bin")
    assert has(options(), "--ro-bind", "/lib32", "/lib32")


def test_no_devices_without_a_lease() -> None:
    assert "--dev-bind" not in options()


def test_leased_gpus_are_bound() -> None:
    found = options(GPU)
    assert has(found, "--dev-bind", "/dev/nvidia3", "/dev/nvidia3")
    library = ("/opt/driver/libcuda.so.1",)
    assert has(found, "--ro-bind", library, "/run/nvidia/libcuda.so.1")
    assert has(found, "--remount-ro", "/run/nvidia")
    assert has(found, "--setenv", "LD_LIBRARY_PATH", "/run/nvidia")
    assert has(found, "--setenv", "CUDA_VISIBLE_DEVICES", "GPU-1")


def test_libraries_of_the_driver_are_looked_for_last() -> None:
    env = build_env(spec(env={"LD_LIBRARY_PATH": "/usr/local/nvidia/lib"}), gpu=GPU)
    assert env["LD_LIBRARY_PATH"] == "/usr/local/nvidia/lib:/run/nvidia"
    assert "LD_LIBRARY_PATH" not in build_env(spec(), gpu=NO_GPU)


def test_filter_and_files_travel_as_bytes() -> None:
    found = options()
    assert has(found, "--seccomp", b"\x01bpf")
    passwd = found[found.index("/etc/passwd") - 1]
    assert isinstance(passwd, bytes)
    assert b"job:x:1000:1000:job:/work:" in passwd


def test_environment_of_the_job_wins() -> None:
    env = build_env(spec(env={"PATH": "/env/bin", "X": ""}), gpu=NO_GPU)
    assert env == {"PATH": "/env/bin", "X": "", "HOME": "/work"}


def test_network_is_one_socket() -> None:
    found = options(network="/run/agent/proxy")
    assert has(found, "--ro-bind", ("/run/agent",), "/run/sublet/network")
    for name in ("HTTPS_PROXY", "http_proxy", "ALL_PROXY"):
        assert has(found, "--setenv", name, "http://127.0.0.1:3128")
    argv = build_argv(spec(network="/run/agent/proxy"), python=PYTHON)
    assert argv[:4] == (PYTHON.inside, "-I", "-S", "/run/sublet/bridge.py")
    assert argv[5] == "/run/sublet/network/proxy"
    assert argv[-2:] == ("python", "train.py")


def test_without_network_no_bridge() -> None:
    assert build_argv(spec(), python=PYTHON) == ("python", "train.py")
    assert not any("sublet" in str(option) for option in options())


REFUSED = {
    "NUL in a value": {"env": {"A": "x\0--bind\0/\0/host"}},
    "NUL in a name": {"env": {"A\0B": "x"}},
    "NUL in the directory": {"directory": "/work\0--bind"},
    "NUL in a bind": {"binds": (Bind("/a\0", "/b"),)},
    "an equals sign in a name": {"env": {"A=B": "x"}},
    "no name": {"env": {"": "x"}},
    "half a character": {"env": {"A": "\ud800"}},
}


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED)
def test_refuses_hostile_texts(changes: dict[str, object]) -> None:
    with pytest.raises(Refused):
        options(**changes)


@pytest.mark.parametrize("argv", [(), ("a\0b",), ("\ud800",)])
def test_refuses_hostile_commands(argv: tuple[str, ...]) -> None:
    with pytest.raises(Refused):
        build_argv(spec(argv=argv), python=PYTHON)
