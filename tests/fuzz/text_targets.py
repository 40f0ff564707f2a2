"""What people and programs write: settings, sizes, hours, scripts, tasks, addresses."""

import tempfile
from pathlib import Path

import asyncssh

from sublet.base import units
from sublet.cli.witnessed import parse_witness
from sublet.core.egress import check_network, find_address_fault, parse_destination
from sublet.core.owner.hours import parse_window, show_window
from sublet.node.config import read_config as read_node_config
from sublet.node.config import write_config as write_node_config
from sublet.provider.config import read_config as read_provider_config
from sublet.provider.config import write_config as write_provider_config
from sublet.provider.lease_files import _split
from sublet.provider.owner_file import find_zone
from sublet.provider.script_metadata import (
    check_python,
    check_requirement,
    read_requirements,
)
from sublet.provider.ssh_server import _read_words
from sublet.sdk.nodes import parse_urls
from sublet.wire.codec import encode
from sublet.wire.signature import Key
from sublet.witness.config import read_config as read_witness_config
from sublet.witness.config import read_pins
from sublet.witness.config import write_config as write_witness_config
from sublet.workload.deploy.file import read_file
from sublet.workload.deploy.plan import COPIES_MAX
from sublet.workload.deploy.plan import describe as describe_plan
from sublet.workload.deploy.sdl import parse_sdl
from sublet.workload.deploy.sdl_manifest import compute_version, make_groups
from sublet.workload.map.result import WorkerSaid
from sublet.workload.map.session import _parse as parse_worker
from sublet.workload.map.task import open_tasks
from sublet.workload.port import parse_forward
from tests.fuzz.target import target, text_of
from tests.unit.provider.test_config import CONFIG
from tests.unit.wire.test_cosignature import WITNESS
from tests.unit.workload.deploy.sdl_text import SDL
from tests.unit.workload.deploy.test_compose import COMPOSE
from tests.unit.workload.deploy.test_own import OWN

# In memory where there is such a place: each input is written and read back.
_SHM = Path("/dev/shm")
_FOLDER = tempfile.TemporaryDirectory(dir=_SHM if _SHM.is_dir() else None)
_HOME = Path(_FOLDER.name)
_TOML = [b"a = ", b"[a.b]\n", b"[[a]]\n", b"nan", b"inf", b"1979-05-27", b'"""', b"="]


# ---- units ------------------------------------------------------------------------


@target("size", seeds=["24GB", "1.5Gi", "900B", "0.000001 PiB"], words=["Ki", "."])
def _size(raw: bytes) -> None:
    assert units.parse_size(text_of(raw), field="x") >= 0


@target("money", seeds=["0.40", "$1.234567", "12"], words=["$", "."])
def _money(raw: bytes) -> None:
    amount = units.parse_money(text_of(raw), field="x")
    assert units.parse_money(units.format_money(amount), field="x") == amount >= 0


@target("duration", seeds=["90s", "15m", "2h", "1d"])
def _duration(raw: bytes) -> None:
    units.format_duration(units.parse_duration(text_of(raw), field="x"))


@target("hours", seeds=["mon-fri 18:00-08:00", "sat,sun", "22:00-06:00"], words=["mon"])
def _hours(raw: bytes) -> None:
    window = parse_window(text_of(raw), field="x")
    assert parse_window(show_window(window), field="x") == window


@target("zone", seeds=["Europe/Berlin", "UTC"], words=["../", "/etc/"])
def _zone(raw: bytes) -> None:
    find_zone(text_of(raw)[:64])  # as the setting has it


@target(
    "destination",
    seeds=[
        "huggingface.co:443",
        "*.example.org:443",
        "[2001:db8::1]:22",
        "10.1.2.3:80",
    ],
    words=["*", "[", "]", ":", "fe80::1%eth0", "0x7f.1", "xn--"],
)
def _destination(raw: bytes) -> None:
    for is_owner in (False, True):
        found = parse_destination(text_of(raw), field="x", is_owner=is_owner)
        again = parse_destination(str(found), field="x", is_owner=is_owner)
        assert again == found


@target("network", seeds=["10.0.0.0/8", "192.168.1.20", "2001:db8::/32"], words=["%"])
def _network(raw: bytes) -> None:
    shown = check_network(text_of(raw), field="x")
    find_address_fault("10.1.2.3", local=(shown,), own=())


@target(
    "urls",
    seeds=["http://a:1, https://b.example/", "http://[::1]:80"],
    words=["[", "]", "@", "?"],
)
def _urls(raw: bytes) -> None:
    found = parse_urls(text_of(raw))
    assert parse_urls(",".join(found)) == found


@target("witness_name", seeds=[f"{WITNESS.verifier_key}@http://a:1"], words=["+", "@"])
def _witness_name(raw: bytes) -> None:
    parse_witness(text_of(raw))


@target("forward", seeds=["8888", "9000:8888"])
def _forward(raw: bytes) -> None:
    parse_forward(text_of(raw))


@target("key", seeds=["0x" + "11" * 32])
def _key(raw: bytes) -> None:
    Key.from_hex(text_of(raw))


# ---- files that people write ------------------------------------------------------


def _written(write: object) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))  # type: ignore[operator]
        return (Path(folder) / "config.toml").read_bytes()


_NODE = _written(lambda home: write_node_config(home, name="lab", faucet=5_000_000))
_MORE = (
    b'nodes = ["http://a:1"]\n[witnesses]\n"http://w:1" = "'
    + WITNESS.verifier_key.encode()
    + b'"\n[limits]\nping_s = 3\n[log]\nurl = "postgresql://x"\n[market]\naccept_s = 5\n'
)


@target("node_config", seeds=[_NODE, _MORE], words=_TOML)
def _node_config(raw: bytes) -> None:
    _put("config.toml", raw)
    read_node_config(_HOME)


@target(
    "provider_config",
    seeds=[_written(lambda home: write_provider_config(home, CONFIG, price_story="x"))],
    words=_TOML,
)
def _provider_config(raw: bytes) -> None:
    _put("config.toml", raw)
    config = read_provider_config(_HOME)
    with tempfile.TemporaryDirectory(dir=_HOME) as folder:
        write_provider_config(Path(folder), config, price_story="again")
        assert read_provider_config(Path(folder)) == config


@target("witness_config", seeds=[_written(write_witness_config)], words=_TOML)
def _witness_config(raw: bytes) -> None:
    _put("config.toml", raw)
    read_witness_config(_HOME)


@target(
    "witness_pin",
    seeds=[
        b'{"url":"http://a","market":"0x%b","verifier_key":"k","name":"n"}'
        % (b"ab" * 32)
    ],
)
def _witness_pin(raw: bytes) -> None:
    (_HOME / "markets").mkdir(exist_ok=True)
    _put("markets/ab.json", raw)
    read_pins(_HOME)


_SCRIPT = """#!/usr/bin/env python
# /// script
# requires-python = ">=3.11"
# dependencies = ["NumPy >= 1.26,<3 ; python_version > '3.8'", "rich[x]~=13.0"]
# [tool.x]
# a = 1
# ///
print()
"""


@target(
    "script",
    seeds=[_SCRIPT, "print()"],
    words=["# /// script\n", "# ///\n", "#\n", "# a = 1\n", "# /// a\n", "\r", "\x0c"],
)
def _script(raw: bytes) -> None:
    try:
        needs = read_requirements(raw.decode())
    except UnicodeDecodeError:
        return
    check_python(needs, version="3.11.2")
    assert all(check_requirement(each) == each for each in needs.dependencies)


@target(
    "requirement",
    seeds=["NumPy >= 1.26,<3 ; python_version > '3.8'", "rich[a,b]~=13.0", "x===1"],
    words=["(", ")", " and ", " or ", "extra == 'a'", "@ http://x", "; ", "[", "!="],
)
def _requirement(raw: bytes) -> None:
    shown = check_requirement(text_of(raw))
    assert "://" not in shown.partition(";")[0] and check_requirement(shown) == shown


@target(
    "tasks",
    seeds=[
        b'{"args": ["a", 1, 2.5, true]}\n{"id": "x", "stdin": "y"}\n',
        b'{"data": {"a": [1, null]}, "env": {"A": "b"}}\n\n{"input": "/etc/hosts"}',
    ],
)
def _tasks(raw: bytes) -> None:
    _put("tasks.jsonl", raw)
    found = open_tasks(_HOME / "tasks.jsonl")
    assert len(set(found.ids())) == len(found)


@target(
    "worker",
    seeds=[encode(WorkerSaid(held=(1, 2))), encode(WorkerSaid(task=1, stdout=b"hi"))],
)
def _worker(raw: bytes) -> None:
    parse_worker(raw)


_SDL_WORDS = ["&a ", "*a", "<<: ", "- ", "{", "[", "? ", "!!str ", "|\n", "---\n", "~"]


@target("sdl", seeds=[SDL], words=_SDL_WORDS)
def _sdl(raw: bytes) -> None:
    stack = parse_sdl(raw, file="x")
    manifest, groups = make_groups(stack)
    compute_version(manifest)
    assert len(manifest) == len(groups)


@target("deploy_file", seeds=[SDL, COMPOSE, OWN], words=_SDL_WORDS)
def _deploy_file(raw: bytes) -> None:
    found = read_file(raw, file="x", name="app")
    assert sum(1 for _ in found.plan.copies()) <= COPIES_MAX
    describe_plan(found.plan)


# ---- the provider's SSH door ------------------------------------------------------


@target(
    "sftp_path",
    seeds=["/work/a/b", "../chunks", "x"],
    words=["../", "/", "./", "\0"],
    answers=(asyncssh.SFTPError,),
)
def _sftp_path(raw: bytes) -> None:
    for part in _split(raw):
        assert part not in ("", ".", "..") and "/" not in part and "\0" not in part


@target("ssh_command", seeds=["sublet exec 'a b' c", "sublet logs stdout 5"])
def _ssh_command(raw: bytes) -> None:
    _read_words(text_of(raw))


_ED25519 = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()


@target(
    "host_key",
    seeds=[" ".join(_ED25519.split()[:2])],
    answers=(asyncssh.KeyImportError,),
)
def _host_key(raw: bytes) -> None:
    try:
        line = raw.decode("ascii")
    except UnicodeDecodeError:
        return
    asyncssh.import_public_key(line)


def _put(name: str, raw: bytes) -> None:
    (_HOME / name).write_bytes(raw)
