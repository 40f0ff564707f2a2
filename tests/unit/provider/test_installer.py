"""The installer's own decisions; ``uv`` is played by a line of shell.

Real installs from the real registry: ``tests/integration/test_sandbox_install.py``.
"""

import asyncio
import os
from pathlib import Path, PurePath

import msgspec
import pytest

from sublet.base.errors import Refused
from sublet.provider.installer import Environment, Installer, compute_key
from sublet.provider.script_metadata import Requirements
from sublet.service.ports import SandboxSpec
from tests.fakes.sandbox_fake import FakeSandbox

SUCCEEDS = 'echo "Installed 1 package in 3ms"; echo x > "$ENV/file"; echo x >> "$LOG"'
FAILS = 'printf "\\033[31mNo solution\\033[0m found\\n" >&2; exit 1'
NEEDS_BUILD = """
case "$ARGV" in
    *--no-build*) echo "x has no wheels and building from source is disabled"; exit 1;;
    *) echo x > "$ENV/file";;
esac
"""


class PlayedSandbox(FakeSandbox):
    """Runs a line of shell in place of what it was asked to run, and remembers that."""

    def __init__(self, script: str, log: Path) -> None:
        super().__init__()
        self.script = script
        self.log = log
        self.specs: list[SandboxSpec] = []

    async def start(self, spec: SandboxSpec, *, folder: PurePath) -> None:
        self.specs.append(spec)
        env = {"ENV": "/env", "LOG": str(self.log), "ARGV": " ".join(spec.argv)}
        argv = ("sh", "-c", self.script)
        played = msgspec.structs.replace(spec, argv=argv, env=env)
        await super().start(played, folder=folder)

    def builds(self) -> int:
        return len(self.log.read_text().splitlines())


class Bench:
    """An installer over a played sandbox."""

    def __init__(self, base: Path, script: str, **changes: object) -> None:
        self.base = base
        self.sandbox = PlayedSandbox(script, base / "log")
        self.folder = base / "home"
        self.said: list[str] = []
        self.installer = Installer(
            self.sandbox,
            folder=self.folder,
            uid=os.geteuid(),
            **changes,  # type: ignore[arg-type]  # a test's short way
        )

    async def install(self, *packages: str) -> Environment:
        listed = ", ".join(f'"{package}"' for package in packages)
        script = f"# /// script\n# dependencies = [{listed}]\n# ///\n"
        return await self.installer.install(script, say=self.said.append)

    def drafts(self) -> list[Path]:
        return list((self.folder / "installs").iterdir())

    def environments(self) -> set[str]:
        folders = (self.folder / "environments").iterdir()
        return {path.name for path in folders if path.is_dir()}


async def bench(base: Path, script: str = SUCCEEDS, **changes: object) -> Bench:
    made = Bench(base, script, **changes)
    await made.installer.open()
    return made


async def test_publishes_what_was_built(tmp_path: Path) -> None:
    desk = await bench(tmp_path)
    environment = await desk.install("six")
    assert (environment.folder / "file").read_text() == "x\n"
    assert desk.said == ["installed 1 package"]
    assert desk.drafts() == []


async def test_jobs_cannot_write_an_environment(tmp_path: Path) -> None:
    environment = await (await bench(tmp_path)).install("six")
    assert environment.bind.target == "/env"
    assert not environment.bind.is_writable


async def test_same_needs_are_built_once(tmp_path: Path) -> None:
    desk = await bench(tmp_path)
    first = await desk.install("six", "numpy")
    assert await desk.install("numpy", "six") == first
    assert desk.sandbox.builds() == 1


async def test_installs_at_once_wait_for_one(tmp_path: Path) -> None:
    desk = await bench(tmp_path)
    found = await asyncio.gather(*(desk.install("six") for _ in range(5)))
    assert len({environment.folder for environment in found}) == 1
    assert desk.sandbox.builds() == 1


async def test_other_needs_are_built_apart(tmp_path: Path) -> None:
    desk = await bench(tmp_path)
    first, second = await asyncio.gather(desk.install("six"), desk.install("numpy"))
    assert first.folder != second.folder
    assert desk.sandbox.builds() == 2


async def test_failure_tells_the_last_lines(tmp_path: Path) -> None:
    desk = await bench(tmp_path, FAILS)
    with pytest.raises(Refused, match=r"No solution.* found") as caught:
        await desk.install("six")
    assert caught.value.code == "install_failed"
    assert "\033" not in caught.value.message
    assert desk.environments() == set()
    assert desk.drafts() == []


async def test_failure_is_not_remembered(tmp_path: Path) -> None:
    desk = await bench(tmp_path, FAILS)
    with pytest.raises(Refused):
        await desk.install("six")
    desk.sandbox.script = SUCCEEDS
    assert (await desk.install("six")).folder.is_dir()


async def test_wheels_first_then_a_private_cache(tmp_path: Path) -> None:
    desk = await bench(tmp_path, NEEDS_BUILD)
    await desk.install("docopt")
    wheels, source = desk.sandbox.specs
    shared = str(desk.folder / "uv-cache")
    caches = [{bind.target: bind for bind in spec.binds} for spec in (wheels, source)]
    assert ("--no-build" in wheels.argv, "--no-build" in source.argv) == (True, False)
    # A stranger's build must never see a cache that other tenants' installs read.
    assert caches[0]["/cache"].source == shared
    assert all(bind.source != shared for bind in caches[1].values())
    assert desk.drafts() == []  # where the second cache was


async def test_only_builds_get_a_second_try(tmp_path: Path) -> None:
    desk = await bench(tmp_path, FAILS)
    with pytest.raises(Refused):
        await desk.install("six")
    assert len(desk.sandbox.specs) == 1


async def test_install_can_write_only_its_own(tmp_path: Path) -> None:
    desk = await bench(tmp_path)
    await desk.install("six")
    (spec,) = desk.sandbox.specs
    writable = {bind.target for bind in spec.binds if bind.is_writable}
    assert writable == {"/env", "/cache"}
    assert spec.network != "none"


async def test_unsuitable_python_installs_nothing(tmp_path: Path) -> None:
    desk = await bench(tmp_path)
    script = '# /// script\n# requires-python = ">=3.99"\n# ///\n'
    with pytest.raises(Refused, match="requires Python"):
        await desk.installer.install(script, say=desk.said.append)
    assert desk.sandbox.specs == []


async def test_half_done_installs_are_removed(tmp_path: Path) -> None:
    desk = await bench(tmp_path)
    (desk.folder / "installs/old/env").mkdir(parents=True)
    await desk.installer.open()
    assert desk.drafts() == []


async def test_cancelled_install_leaves_nothing(tmp_path: Path) -> None:
    desk = await bench(tmp_path, 'echo x >> "$LOG"; sleep 60')
    task = asyncio.create_task(desk.install("six"))
    while not (tmp_path / "log").exists():  # noqa: ASYNC110 (another process writes)
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.drafts() == []
    assert desk.environments() == set()


BIG = 'head -c 100000 /dev/zero > "$ENV/file"; echo x >> "$LOG"'


async def test_oldest_environment_goes_first(tmp_path: Path) -> None:
    desk = await bench(tmp_path, BIG, bytes_max=250_000)
    kept = []
    for number, name in enumerate(("a", "b", "c")):
        environment = await desk.install(name)
        # File times are too coarse to tell what was used first within a test.
        used = environment.folder.with_suffix(".json")
        if used.exists():
            os.utime(used, (number, number))
        kept.append(environment.folder.name)
    await desk.install("c")
    assert desk.environments() == set(kept[1:])
    assert desk.drafts() == []


async def test_environment_in_use_stays(tmp_path: Path) -> None:
    used: list[Path] = []
    desk = await bench(tmp_path, BIG, bytes_max=150_000, in_use=lambda: used)
    first = await desk.install("a")
    used.append(first.folder)
    second = await desk.install("b")
    assert desk.environments() == {first.folder.name, second.folder.name}


KEYS = {
    "other packages": (Requirements("", ("numpy",)), "https://pypi.org/simple"),
    "another Python": (Requirements(">=3.11", ("six",)), "https://pypi.org/simple"),
    "another index": (Requirements("", ("six",)), "https://mirror.example/simple"),
}


@pytest.mark.parametrize(("requirements", "index"), KEYS.values(), ids=KEYS)
def test_key_depends_on_all(requirements: Requirements, index: str) -> None:
    base = compute_key(Requirements("", ("six",)), index="https://pypi.org/simple")
    assert compute_key(requirements, index=index) != base


def test_key_is_stable() -> None:
    needs = Requirements("", ("six",))
    assert compute_key(needs, index="x") == compute_key(needs, index="x")
