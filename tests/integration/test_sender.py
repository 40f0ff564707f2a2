"""Sending on the fake and on anvil: once, whatever dies, leaves the chain or lies."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sublet.adapter.chain_rpc import RpcChain
from sublet.adapter.journal_sqlite import SqliteJournal
from sublet.base.errors import Refused, Unavailable
from sublet.core.rail.sending import Phase, Policy, Sending
from sublet.core.rail.transaction import Call
from sublet.service.sender import Sender
from sublet.wire.signature import Key
from tests.fakes.chain_memory import CHAIN_ID, MemoryChain
from tests.fakes.journal_memory import MemoryJournal
from tests.rig.chains import KINDS, Lent, lend_chain
from tests.rig.sender_house import POLICY, Fatal, Killed, make_sender

KEY = Key.generate(b"\x01" * 32)
ROOT = Path(__file__).parents[2]
WAIT_S = 90
STEPS_MAX = 60


@pytest.fixture(params=KINDS)
async def lent(request: pytest.FixtureRequest) -> AsyncIterator[Lent]:
    async with lend_chain(request.param) as lent:
        lent.hand.fund(KEY.address)
        yield lent


async def finish(lent: Lent, sender: Sender, errand: str) -> Sending:
    """Step and mine until a errand has ended."""
    for _ in range(STEPS_MAX):
        await sender.step()
        found = sender.find(errand)
        assert found is not None
        if found.is_ended:
            return found
        lent.hand.mine()
    raise AssertionError(found)


async def count_said(lent: Lent, echo: str, saying: bytes) -> int:
    newest = await lent.chain.block()
    assert newest is not None
    logs = await lent.chain.logs(echo, [], first=0, last=newest.number)
    return sum(log.data == saying for log in logs)


async def test_sends_each_errand_once_in_order(lent: Lent) -> None:
    echo = await lent.deploy_echo(KEY)
    sender = make_sender(lent.chain, MemoryJournal(), KEY)
    for number in (1, 2, 3):
        await sender.submit(f"say {number}", Call(echo, bytes([number]) * 32))
        await sender.submit(f"say {number}", Call(echo, b"something else"))
    for number in (1, 2, 3):
        ended = await finish(lent, sender, f"say {number}")
        assert (ended.phase, ended.nonce) == (Phase.CONFIRMED, number)
        assert await count_said(lent, echo, bytes([number]) * 32) == 1
    assert await lent.chain.nonce(KEY.address) == 4


async def test_killed_anywhere_sends_once(lent: Lent) -> None:
    echo = await lent.deploy_echo(KEY)
    lent.hand.set_automine(on=False)
    kills = 0
    for at in range(1, 99):
        fatal, journal, errand = Fatal(at=at), MemoryJournal(), f"say {at}"
        saying, nonce = at.to_bytes(32, "big"), await lent.chain.nonce(KEY.address)
        sender = make_sender(fatal.wrap(lent.chain), fatal.wrap(journal), KEY)
        try:
            await sender.submit(errand, Call(echo, saying))
            await finish(lent, sender, errand)
        except Killed:
            kills += 1
        else:
            break
        # Who asked asks again after a restart, as it cannot know.
        again = make_sender(lent.chain, journal, KEY)
        await again.submit(errand, Call(echo, saying))
        ended = await finish(lent, again, errand)
        assert ended.phase is Phase.CONFIRMED, fatal.effects
        assert await count_said(lent, echo, saying) == 1, fatal.effects
        assert await lent.chain.nonce(KEY.address) == nonce + 1, fatal.effects
    # Before and after: the errand, signed, handed over, sent, mined, confirmed.
    assert kills >= 12


@pytest.mark.parametrize("step", ["intended", "signed", "handed", "sent", "mined"])
async def test_killed_process_sends_once(step: str, tmp_path: Path) -> None:
    async with lend_chain("anvil") as lent:
        lent.hand.fund(KEY.address)
        echo = await lent.deploy_echo(KEY)
        path = tmp_path / "journal.db"
        done = await asyncio.to_thread(
            subprocess.run,
            [
                sys.executable,
                "-m",
                "tests.rig.send_and_die",
                lent.url,
                path,
                echo,
                step,
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        journal = SqliteJournal(path)
        try:
            kept = journal.find("say")
            assert kept is not None
            assert kept.phase.value == {"handed": "signed"}.get(step, step)
            ended = await finish(lent, make_sender(lent.chain, journal, KEY), "say")
        finally:
            journal.close()
        assert ended.phase is Phase.CONFIRMED
        assert await count_said(lent, echo, b"\x07" * 32) == 1
        assert await lent.chain.nonce(KEY.address) == 2


async def test_reorg_sends_the_same_again(lent: Lent) -> None:
    echo = await lent.deploy_echo(KEY)
    lent.hand.mine(3)
    sender = make_sender(lent.chain, MemoryJournal(), KEY)
    await sender.submit("say", Call(echo, b"\x07" * 32))
    await sender.submit("more", Call(echo, b"\x08" * 32))
    while (mined := sender.find("more")) is None or mined.phase is not Phase.MINED:
        await sender.step()
    first = mined.transaction
    lent.hand.reorg(2)
    lent.hand.forget_pending()
    assert await count_said(lent, echo, b"\x07" * 32) == 0
    for errand in ("say", "more"):
        ended = await finish(lent, sender, errand)
        assert ended.phase is Phase.CONFIRMED
    assert ended.transaction == first  # the same bytes, so never two
    for saying in (b"\x07" * 32, b"\x08" * 32):
        assert await count_said(lent, echo, saying) == 1
    assert await lent.chain.nonce(KEY.address) == 3


async def test_stuck_one_offers_more(lent: Lent) -> None:
    echo = await lent.deploy_echo(KEY)
    sender = make_sender(lent.chain, MemoryJournal(), KEY)
    lent.hand.set_automine(on=False)
    await sender.submit("say", Call(echo, b"\x07" * 32))
    await sender.step()
    for _ in range(POLICY.patience_blocks):
        lent.hand.forget_pending()  # nobody wants it
        lent.hand.mine()
    await sender.step()
    stuck = sender.find("say")
    assert stuck is not None and len(stuck.attempts) == 2
    old, new = (attempt.fees.max_wei for attempt in stuck.attempts)
    assert old * 110 <= new * 100 <= 100 * POLICY.fee_max_wei
    ended = await finish(lent, sender, "say")
    assert ended.phase is Phase.CONFIRMED
    assert await count_said(lent, echo, b"\x07" * 32) == 1


async def test_nonce_taken_by_another_program(lent: Lent) -> None:
    echo = await lent.deploy_echo(KEY)
    sender = make_sender(lent.chain, MemoryJournal(), KEY)
    lent.hand.set_automine(on=False)
    await sender.submit("say", Call(echo, b"\x07" * 32))
    await sender.step()
    lent.hand.forget_pending()
    stranger = await lent.sign(KEY, Call(echo, b"\x09" * 32))
    await lent.chain.send(stranger.raw)
    lent.hand.mine()
    ended = await finish(lent, sender, "say")
    assert ended.phase is Phase.USURPED and "another program" in ended.reason
    assert await count_said(lent, echo, b"\x07" * 32) == 0
    # The next errand of whoever decides goes on behind it.
    await sender.submit("again", Call(echo, b"\x07" * 32))
    assert (await finish(lent, sender, "again")).phase is Phase.CONFIRMED
    assert await count_said(lent, echo, b"\x07" * 32) == 1


async def test_would_fail_is_never_signed(lent: Lent) -> None:
    echo = await lent.deploy_echo(KEY)
    sender = make_sender(lent.chain, MemoryJournal(), KEY)
    await sender.submit("silence", Call(echo))
    ended = await finish(lent, sender, "silence")
    assert (ended.phase, ended.attempts) == (Phase.REFUSED, ())
    assert await lent.chain.nonce(KEY.address) == 1


async def test_dear_gas_is_waited_out(lent: Lent) -> None:
    echo = await lent.deploy_echo(KEY)
    journal = MemoryJournal()
    await make_sender(lent.chain, journal, KEY).submit("say", Call(echo, b"\x07" * 32))
    miser = make_sender(lent.chain, journal, KEY, Policy(fee_max_wei=1))
    await miser.step()
    waiting = miser.find("say")
    assert waiting is not None and waiting.phase is Phase.INTENDED
    assert waiting.reason == "gas costs more than allowed"
    ended = await finish(lent, make_sender(lent.chain, journal, KEY), "say")
    assert ended.phase is Phase.CONFIRMED


async def test_no_gas_money_waits_for_some(lent: Lent) -> None:
    echo = await lent.deploy_echo(KEY)
    poor = Key.generate(b"\x02" * 32)
    sender = make_sender(lent.chain, MemoryJournal(), poor)
    await sender.submit("say", Call(echo, b"\x07" * 32))
    for _ in range(3):
        await sender.step()
        lent.hand.mine()
    waiting = sender.find("say")
    assert waiting is not None and waiting.reason == "no_gas_money"
    lent.hand.fund(poor.address)
    assert (await finish(lent, sender, "say")).phase is Phase.CONFIRMED
    assert await count_said(lent, echo, b"\x07" * 32) == 1


async def test_journal_of_another_chain_is_said_and_sends_nothing(
    lent: Lent,
) -> None:
    echo = await lent.deploy_echo(KEY)
    journal = MemoryJournal()
    past = Sending("old", KEY.address, Call(echo), phase=Phase.CONFIRMED, nonce=41)
    journal.add(past)
    sender = make_sender(lent.chain, journal, KEY)
    await sender.submit("say", Call(echo, b"\x07" * 32))
    for _ in range(2):
        await sender.step()
        lent.hand.mine()
    waiting = sender.find("say")
    assert waiting is not None and waiting.phase is Phase.INTENDED
    assert "knows 42 transactions of this key and the chain 1" in waiting.reason
    assert await lent.chain.nonce(KEY.address) == 1


async def test_refusal_of_an_rpc_stops_nobody() -> None:
    async with lend_chain("fake") as lent:
        chain = lent.chain
        assert isinstance(chain, MemoryChain)
        lent.hand.fund(KEY.address)
        echo = await lent.deploy_echo(KEY)
        sender = make_sender(chain, MemoryJournal(), KEY)
        refusals = iter(range(3))

        def refuse(question: str) -> None:
            if question == "estimate" and next(refusals, None) is not None:
                raise Refused("the RPC refuses eth_estimateGas", code="rpc_refused")

        chain.fail = refuse
        runner = asyncio.create_task(sender.run(poll_s=0.001))
        try:
            await sender.submit("say", Call(echo, b"\x07" * 32))
            async with asyncio.timeout(WAIT_S):
                while not (found := sender.find("say")) or not found.is_ended:
                    chain.mine()
                    await asyncio.sleep(0.001)
        finally:
            runner.cancel()
        assert found.phase is Phase.CONFIRMED and next(refusals, None) is None


async def test_silent_chain_loses_nothing() -> None:
    async with lend_chain("fake") as lent:
        chain = lent.chain
        assert isinstance(chain, MemoryChain)
        lent.hand.fund(KEY.address)
        echo = await lent.deploy_echo(KEY)
        sender = make_sender(chain, MemoryJournal(), KEY)
        runner = asyncio.create_task(sender.run(poll_s=0.001))
        try:
            chain.is_cut = True
            asked = len(chain.asked)
            for number in range(5):
                await sender.submit(f"{number}", Call(echo, bytes([number]) * 32))
            async with asyncio.timeout(WAIT_S):
                while True:
                    if sender.fault is not None and len(chain.asked) > asked + 2:
                        break
                    await asyncio.sleep(0.001)
            assert isinstance(sender.fault, Unavailable)
            chain.is_cut = False
            async with asyncio.timeout(WAIT_S):
                for number in range(5):
                    while not (found := sender.find(f"{number}")) or not found.is_ended:
                        chain.mine()
                        await asyncio.sleep(0.001)
                    assert await sender.wait_ended(f"{number}") == found
                    assert await count_said(lent, echo, bytes([number]) * 32) == 1
        finally:
            runner.cancel()
        assert sender.fault is None


async def test_answer_lost_after_sending() -> None:
    """The chain took it, and the answer never came: it is one transaction."""
    async with lend_chain("fake") as lent:
        chain = lent.chain
        assert isinstance(chain, MemoryChain)
        lent.hand.fund(KEY.address)
        echo = await lent.deploy_echo(KEY)
        sender = make_sender(chain, MemoryJournal(), KEY)
        await sender.submit("say", Call(echo, b"\x07" * 32))
        send = chain.send

        async def send_and_vanish(raw: bytes) -> str:
            await send(raw)
            raise Unavailable("the answer is lost")

        chain.send = send_and_vanish  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await sender.step()
        chain.send = send  # type: ignore[method-assign]
        assert (await finish(lent, sender, "say")).phase is Phase.CONFIRMED
        assert await count_said(lent, echo, b"\x07" * 32) == 1


async def test_node_that_lags_makes_no_second_transaction() -> None:
    """Of two RPCs one is blocks behind: nothing is taken for usurped."""
    async with lend_chain("anvil") as lent, lend_chain("anvil") as behind:
        lent.hand.fund(KEY.address)
        echo = await lent.deploy_echo(KEY)
        sender = make_sender(lent.chain, MemoryJournal(), KEY)
        await sender.submit("say", Call(echo, b"\x07" * 32))
        while (found := sender.find("say")) is None or found.phase is not Phase.MINED:
            await sender.step()
        async with RpcChain([behind.url], chain_id=CHAIN_ID) as lagging:
            late = make_sender(lagging, MemoryJournal(), KEY)
            late._journal = sender._journal
            await late.step()
        found = sender.find("say")
        assert found is not None and found.phase is Phase.SENT
        assert (await finish(lent, sender, "say")).phase is Phase.CONFIRMED
        assert await count_said(lent, echo, b"\x07" * 32) == 1
