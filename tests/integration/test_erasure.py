"""A whole job on encrypted scratch: from half a key to the word in the log."""

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from sublet.adapter import scratch_gocryptfs
from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.adapter.scratch_gocryptfs import GocryptfsScratch
from sublet.adapter.scratch_tmpfs import TmpfsScratch
from sublet.adapter.vram_cuda import CudaVram
from sublet.cli.audit import app
from sublet.core.lease.phase import Phase
from sublet.provider.lease_state import Stage
from sublet.service.erasure_ports import Scratch
from sublet.wire.message import Close, Deliver, Ended, Metered, Sanitized, Trouble
from sublet.wire.sanitization import find_faults, open_envelope
from sublet.workload.run import event
from tests.fakes.gpu_driver import MEMORY_BYTES, FakeGpus, compile_driver
from tests.fakes.scratch_fake import FakeScratch
from tests.integration.provider_house import (
    RawTenant,
    hear,
    make_manifest,
    running_house,
    tenant_of,
    wait_true,
)

MARK = "canary-5f2a9c"
SCRIPT = f"""
mkdir {MARK}-folder; echo {MARK}-content > {MARK}-folder/{MARK}-file
echo {MARK}-stdout; echo {MARK}-stderr >&2; echo "$SECRET" > secret
cp {MARK}-folder/{MARK}-file result
"""


def need_gocryptfs() -> None:
    probe = GocryptfsScratch().probe()
    if not probe.is_ok:
        pytest.skip(probe.reason)


def grep(folder: Path, mark: bytes) -> list[Path]:
    """Look for a mark in names and bytes of all files, as a thief with the disk."""
    found = []
    for path in folder.rglob("*"):
        if "data" in path.relative_to(folder).parts or not path.is_file():
            continue
        if mark in os.fsencode(path) or mark in path.read_bytes():
            found.append(path)
    return found


@pytest.mark.parametrize("scratch", [FakeScratch, GocryptfsScratch, TmpfsScratch])
async def test_job_leaves_a_statement_and_nothing_else(
    tmp_path: Path, scratch: type[Scratch]
) -> None:
    need_gocryptfs()
    adapters = [scratch()]
    if scratch is TmpfsScratch:
        adapters.append(GocryptfsScratch())
    async with (
        running_house(tmp_path, scratches=adapters) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        shown: list[event.AnyEvent] = []

        async def show(said: event.AnyEvent) -> None:
            shown.append(said)

        job = await client.start(
            "sh",
            "-c",
            SCRIPT,
            is_command=True,
            erasure=True,
            max_price="100",
            max_total="100",
            env=[f"SECRET={MARK}-env"],
            outputs=[f"result:{tmp_path}/result"],
            on_event=show,
            **({"disk": "16MiB", "memory": "256MiB"} if len(adapters) > 1 else {}),
        )
        result = await job.result()
        assert result.exit_code == 0, (result.message, shown)
        assert (tmp_path / "result").read_text() == f"{MARK}-content\n"
        (erased,) = [each for each in shown if isinstance(each, event.Erased)]
        assert erased.claim == "clear, level A1"

        (lease,) = await client.leases(is_all=True)
        await house.agent.around.outbox.wait_drained(timeout_s=60)
        (lease,) = await client.leases(is_all=True)
        read = open_envelope(Path(erased.path).read_bytes())
        assert read.digest == lease.erasure
        assert lease.erasure_level == "A1"
        assert not find_faults(read, lease, logged_at_s=int(2e9))
        assert read.statement.predicate.medium.kind == adapters[0].name
        await wait_true(lambda: not list((house.home / "leases").iterdir()))
        assert not grep(house.home, MARK.encode())

    audit = ["erasure", lease.id, "--log", str(tmp_path / "node" / "log.db")]
    told = CliRunner().invoke(app, [*audit, "--receipt", erased.path])
    assert told.exit_code == 0, told.output
    assert "The statement holds: clear" in told.output
    assert "does not prove" in told.output
    other = tmp_path / "other.json"
    other.write_bytes(Path(erased.path).read_bytes().replace(b"A", b"B", 1))
    assert CliRunner().invoke(app, [*audit, "--receipt", str(other)]).exit_code != 0
    assert CliRunner().invoke(app, [*audit, "--receipt", "/none"]).exit_code != 0


async def test_delivery_without_half_a_key_is_refused(tmp_path: Path) -> None:
    async with (
        running_house(tmp_path, scratches=[FakeScratch()]) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        raw = RawTenant(client)
        manifest = make_manifest("true")
        lease = await raw.rent(manifest, features=("erasure",))
        async with raw.dial(lease) as channel:
            await channel.open_job()
            await channel.say(Deliver(manifest=manifest, order=raw.order))
            assert (await hear(channel, Trouble)).code == "no_key_half"


async def test_claims_nothing_where_the_key_stays(tmp_path: Path) -> None:
    scratch = FakeScratch(hangs=True)
    async with (
        running_house(tmp_path, scratches=[scratch]) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        raw = RawTenant(client)
        manifest = make_manifest("true")
        lease = await raw.rent(manifest, features=("erasure",))
        async with raw.dial(lease) as channel:
            await raw.begin(channel, manifest, half="ab" * 32, nonce="cd" * 16)
            ended = await hear(channel, Ended)
            await raw.pay(channel, lease, ended.channel_total)
            await channel.say(Close(reason="done"))
            said = await hear(channel, Sanitized)
        predicate = open_envelope(said.envelope.encode()).statement.predicate
        assert predicate.category == "none"
        assert [step.name for step in predicate.steps if not step.is_ok] == [
            "unmount",
            "destroy_key",
            "remove_ciphertext",
        ]
        # Paid, and yet nobody else gets this slice, nor the log a word of erasure.
        settled = await raw.wait_phase(lease, Phase.SETTLED)
        assert settled.is_erasure_due
        (runner,) = house.agent.roster.runners()
        assert runner.record.stage is Stage.ERASING
        assert "ab" * 32 not in repr(Deliver(manifest=manifest, half="ab" * 32))
        for path in house.home.rglob("*"):
            assert not path.is_file() or b"ab" * 32 not in path.read_bytes()


async def test_memory_of_leased_gpus_is_scrubbed_or_nothing_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "driver").mkdir()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(compile_driver(tmp_path / "driver")))
    monkeypatch.setenv("FAKE_GPUS", str(tmp_path / "driver"))
    gpus = FakeGpus(tmp_path / "driver")
    bad, sound = gpus.add(0), gpus.add(1)
    sold = {
        "gpu_uuids": (bad, sound),
        "gpu_model": "h200",
        "gpu_memory_bytes": MEMORY_BYTES,
    }
    async with (
        running_house(
            tmp_path, scratches=[FakeScratch()], vram=CudaVram(), **sold
        ) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        raw = RawTenant(client)
        gpus.add(0, fault="short")
        said = {}
        for _ in range(2):  # the second gets the other GPU: the first stays bound
            manifest = make_manifest("true")
            lease = await raw.rent(manifest, features=("erasure",), gpu_count=1)
            async with raw.dial(lease) as channel:
                await raw.begin(channel, manifest, half="ab" * 32, nonce="cd" * 16)
                ended = await hear(channel, Ended)
                await raw.pay(channel, lease, ended.channel_total)
                await channel.say(Close(reason="done"))
                envelope = (await hear(channel, Sanitized)).envelope
            predicate = open_envelope(envelope.encode()).statement.predicate
            (gpu,) = predicate.gpus
            said[gpu.uuid] = predicate.category
            step = next(each for each in predicate.steps if each.name == "scrub_vram")
            assert step.is_ok == gpu.is_ok == (gpu.uuid == sound)
            assert gpu.bytes_total == MEMORY_BYTES
            assert 0 < gpu.bytes_overwritten < MEMORY_BYTES
            assert (gpu.bytes_overwritten > MEMORY_BYTES // 2) == gpu.is_ok
            if gpu.uuid == bad:  # paid, and yet nobody else gets this GPU
                settled = await raw.wait_phase(lease, Phase.SETTLED)
                assert settled.is_erasure_due
        assert said == {sound: "clear", bad: "none"}


@pytest.mark.sandbox
async def test_hanging_scratch_holds_no_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tenant follows what it says, as all do: that must hold nobody else."""
    need_gocryptfs()
    monkeypatch.setattr(scratch_gocryptfs, "HANG_S", 25)
    sandbox, scratch = BubblewrapSandbox(), GocryptfsScratch()
    if not (probe := sandbox.probe()).is_ok:
        pytest.skip(probe.reason)
    longest_s = 0.0

    async def measure() -> None:
        nonlocal longest_s
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            longest_s = max(longest_s, time.monotonic() - begun)

    async with (
        running_house(tmp_path, scratches=[scratch], sandbox=sandbox) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        terms = {"is_command": True, "max_price": "100", "max_total": "100"}
        says = ("sh", "-c", "while echo x; do sleep 0.1; done")
        held = await client.start(*says, erasure=True, retries=0, **terms)
        async with asyncio.timeout(60):
            async for said in held:
                if isinstance(said, event.Wrote):
                    break
        (place,) = (house.home / "leases").iterdir()
        daemon = msgspec.json.decode((place / "scratch.json").read_bytes())["pid"]
        os.kill(daemon, signal.SIGSTOP)
        measuring = asyncio.create_task(measure())
        try:
            # It starts once the daemon was killed; a child closes what we have open.
            job = await client.start("true", **terms)
            assert (await job.result()).exit_code == 0
        finally:
            measuring.cancel()
        assert (await held.result()).exit_code != 0
        # Without a thread for reading, or one for starting, it is all of HANG_S.
        assert longest_s < 15
    # The agent's next start would do it: a dead mount that nobody serves.
    subprocess.run(["umount", "-l", place / "data"], check=False, capture_output=True)


@pytest.mark.sandbox
async def test_hanging_scratch_ends_one_lease_and_holds_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_gocryptfs()
    monkeypatch.setattr(scratch_gocryptfs, "HANG_S", 2)
    sandbox, scratch = BubblewrapSandbox(), GocryptfsScratch()
    if not (probe := sandbox.probe()).is_ok:
        pytest.skip(probe.reason)
    async with (
        running_house(tmp_path, scratches=[scratch], sandbox=sandbox) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        raw = RawTenant(client)
        manifest = make_manifest("sh", "-c", "while echo x >> x; do sleep 0.1; done")
        lease = await raw.rent(manifest, features=("erasure",))
        async with raw.dial(lease) as channel:
            await raw.begin(channel, manifest, half="ab" * 32, nonce="cd" * 16)
            await hear(channel, Metered)
            place = house.home / "leases" / lease.id
            raw_daemon = (place / "scratch.json").read_bytes()
            os.kill(msgspec.json.decode(raw_daemon)["pid"], signal.SIGSTOP)

            # Others are served at once, whatever becomes of this one.
            job = await client.start(
                "true", is_command=True, max_price="100", max_total="100"
            )
            assert (await job.result()).exit_code == 0

            await channel.say(Close(reason="stop"))
            ended = await hear(channel, Ended)
            await raw.pay(channel, lease, ended.channel_total)
            await channel.say(Close(reason="done"))
            said = await hear(channel, Sanitized)
        # Its daemon was killed, so the key is gone; it says what it took.
        predicate = open_envelope(said.envelope.encode()).statement.predicate
        assert predicate.category == "clear"
        async with asyncio.timeout(60):
            while (await client.connection.lease(lease.id)).is_erasure_due:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
