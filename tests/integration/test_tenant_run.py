"""A tenant, a real node and real programs: what a job comes to, and what it costs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sublet.base.units import compute_owed
from tests.fakes.provider import Temper
from tests.fakes.world import World
from tests.integration.node_house import running_node
from tests.integration.tenant_house import RUN_S, Market, running_market


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    async with running_market(tmp_path) as house:
        yield house


async def until(holds: Callable[[], bool]) -> None:
    """Let the others go on until something holds."""
    async with asyncio.timeout(RUN_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def read(path: str) -> bytes:
    return Path(path).read_bytes()


async def test_exit_code_and_streams_arrive(market: Market) -> None:
    provider = await market.provide()
    result = await market.run(
        "sh", "-c", "echo out; echo err >&2; exit 7", is_command=True
    )
    assert result.exit_code == 7, result
    assert read(result.stdout) == b"out\n"
    assert read(result.stderr) == b"err\n"
    assert [one.outcome for one in result.attempts] == ["exited"]
    [job] = provider.jobs.values()
    await until(lambda: job.closes == ["done"])


async def test_bill_is_what_ran(market: Market) -> None:
    await market.provide()
    result = await market.run("sleep", "1", is_command=True)
    [attempt] = result.attempts
    assert 900 < attempt.ran_ms < 3_000
    owed = compute_owed(price_hour=attempt.price_hour, ran_ms=attempt.ran_ms)
    assert result.cost == owed > 0
    provider = market.providers[0]
    await until(lambda: next(iter(provider.jobs.values())).paid == owed)
    lease = await market.client.connection.lease(attempt.lease_id)
    assert lease.phase.value == "settled"
    assert lease.paid == owed


async def test_script_brings_files_and_takes_outputs(market: Market) -> None:
    await market.provide()
    (market.folder / "data").mkdir()
    big = bytes(range(256)) * 40_000  # 10 MB: three chunks
    (market.folder / "data" / "big.bin").write_bytes(big)
    script = market.folder / "work.py"
    script.write_text(
        "import os, pathlib, sys\n"
        "big = pathlib.Path('data/big.bin').read_bytes()\n"
        "out = pathlib.Path('model'); out.mkdir()\n"
        "(out / 'copy.bin').write_bytes(big[::-1])\n"
        "(out / 'tool').write_text('x'); (out / 'tool').chmod(0o755)\n"
        "print(len(big), os.environ['MODE'], os.environ['TOKEN'][::-1], sys.argv[1:])\n"
    )
    secret = market.folder / "secret"
    secret.write_text("hush\n")
    target = market.folder / "result"
    result = await market.run(
        str(script),
        "--epochs",
        "3",
        inputs=[str(market.folder / "data")],
        outputs=[f"model:{target}", "never"],
        env=["MODE=fast"],
        secrets=[f"TOKEN=@{secret}"],
    )
    assert result.exit_code == 0, (result, read(result.stderr))
    expected = f"{len(big)} fast hsuh ['--epochs', '3']\n"
    assert read(result.stdout).decode() == expected
    assert (target / "copy.bin").read_bytes() == big[::-1]
    assert (target / "tool").stat().st_mode & 0o777 == 0o755
    home = market.client.home.path
    kept = [path for path in home.rglob("*") if path.is_file()]
    assert not [path for path in kept if b"hush" in path.read_bytes()]


async def test_job_outlives_its_machine(market: Market) -> None:
    dying = await market.provide(Temper(first_price=10_000, dies_at="checkpointed"))
    steady = await market.provide()
    script = market.folder / "count.py"
    script.write_text(
        "import itertools, os, pathlib, time\n"
        "place = pathlib.Path('ckpt/n')\n"
        "start = int(place.read_text()) if place.exists() else 0\n"
        "print('from', start, flush=True)\n"
        "for n in itertools.count(start):\n"
        "    if start and n == start + 3: break  # the first life has no end\n"
        "    time.sleep(0.1)\n"
        "    os.makedirs('ckpt', exist_ok=True)\n"
        "    draft = pathlib.Path('ckpt/n.part')\n"
        "    draft.write_text(str(n + 1)); draft.rename(place)\n"
        "print('done', flush=True)\n"
    )
    result = await market.run(str(script), checkpoint="ckpt")
    assert result.exit_code == 0, result
    first, second = result.attempts
    assert (first.provider, first.outcome) == (dying.key.address, "provider_lost")
    assert (second.provider, second.outcome) == (steady.key.address, "exited")
    lines = read(result.stdout).decode().splitlines()
    assert lines[-1] == "done"
    begins = [int(line.split()[1]) for line in lines if line.startswith("from")]
    assert begins[-1] > 0  # not from the beginning
    # Of the lost machine's seconds only those up to the checkpoint are billed.
    owed = compute_owed(price_hour=first.price_hour, ran_ms=first.secured_ms)
    assert first.paid <= owed


async def test_job_goes_on_after_a_broken_connection(market: Market) -> None:
    provider = await market.provide(Temper(breaks_at="running"))
    text = "for n in 1 2 3 4 5 6 7 8; do echo $n; sleep 0.1; done"
    result = await market.run("sh", "-c", text, is_command=True)
    assert result.exit_code == 0, result
    assert read(result.stdout) == b"1\n2\n3\n4\n5\n6\n7\n8\n"
    assert len(result.attempts) == 1
    assert provider.dials == 2


LIES = {
    # what the provider does: what the tenant calls it
    "claims_too_much": Temper(overclaims_ms=60_000),
    "owed_overstated": Temper(overcharges=1_000_000),
    "channel_overstated": Temper(overstates_channel=1_000_000),
    "wrong_signer": Temper(signs_with=World().tenant),
    "bad_output": Temper(swaps_outputs=True),
    "bad_output  ": Temper(swaps_logs=True),
    "bad_chunk": Temper(spoils_chunks=True),
    "nonsense": Temper(says_nonsense=True),
    "bad_output ": Temper(adds_files=True),
}


@pytest.mark.parametrize("outcome", LIES)
async def test_liar_is_left_unpaid(market: Market, outcome: str) -> None:
    temper = LIES[outcome]
    temper.first_price = 100_000  # cheaper, so it wins
    liar = await market.provide(temper)
    honest = await market.provide()
    target = market.folder / "made"
    result = await market.run(
        "sh",
        "-c",
        "sleep 1; echo shown; echo hello > made",
        is_command=True,
        outputs=[f"made:{target}"],
    )
    assert result.exit_code == 0, result
    first, second = result.attempts
    assert (first.provider, first.outcome) == (liar.key.address, outcome.strip())
    assert second.provider == honest.key.address
    assert target.read_text() == "hello\n"
    assert second.paid > 0
    [job] = liar.jobs.values()
    assert job.paid <= compute_owed(price_hour=first.price_hour, ran_ms=3_000)


async def test_wrong_host_key_gets_nothing(market: Market) -> None:
    import asyncssh

    other = asyncssh.generate_private_key("ssh-ed25519")
    impostor = await market.provide(Temper(first_price=10_000, host_key=other))
    await market.provide()
    result = await market.run("true", is_command=True)
    assert result.exit_code == 0
    assert [one.outcome for one in result.attempts] == ["wrong_host_key", "exited"]
    [job] = impostor.jobs.values()
    assert job.manifest is None


async def test_own_failure_is_tried_again_only_if_asked(market: Market) -> None:
    await market.provide()
    once = await market.run("false", is_command=True)
    assert (once.exit_code, len(once.attempts)) == (1, 1)
    thrice = await market.run("false", is_command=True, retries=2)
    assert (thrice.exit_code, len(thrice.attempts)) == (1, 3)


async def test_no_supply_is_said_after_the_wait(market: Market) -> None:
    result = await market.run("true", is_command=True, wait="0s")
    assert (result.exit_code, result.attempts) == (3, ())
    assert result.message


async def test_stop_settles_what_ran(market: Market) -> None:
    provider = await market.provide()
    job = await market.client.start("sleep", "60", is_command=True, max_total="5.00")
    async with asyncio.timeout(RUN_S):
        async for said in job:
            if type(said).__name__ == "Running":
                job.stop()
        result = await job.result()
    assert result.exit_code == 130
    [attempt] = result.attempts
    lease = await market.client.connection.lease(attempt.lease_id)
    await until(lambda: provider.jobs[lease.id].lease.phase.value == "settled")
    assert provider.jobs[lease.id].lease.reason in ("cancelled", "stopped")


async def test_two_jobs_share_one_channel(market: Market) -> None:
    await market.provide()
    first, second = await asyncio.gather(
        market.run("sleep", "0.6", is_command=True),
        market.run("sleep", "0.9", is_command=True),
    )
    assert first.exit_code == second.exit_code == 0
    later = await market.run("sleep", "0.3", is_command=True)
    assert later.exit_code == 0, later
    assert [one.outcome for one in later.attempts] == ["exited"]


async def test_changed_market_is_refused(market: Market) -> None:
    from sublet.base.errors import Refused
    from sublet.sdk.nodes import Nodes

    await market.provide()
    other = World()
    other.operator = World().providers[2]
    async with running_node(market.folder / "other", other) as guest:
        client = market.client
        client.connection.nodes = Nodes([guest.url])  # another market there
        with pytest.raises(Refused, match="sublet wallet trust"):
            await client.market()
