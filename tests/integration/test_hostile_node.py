"""A node that lies to its tenant, and a relay that does more than carry.

Real node, real client, a provider in this process; between node and client a man in
the middle. What was secret stays secret, what was changed is noticed and named, and
the job ends right or elsewhere.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncssh
import msgspec
import pytest

from sublet.workload.client import AsyncClient
from tests.fakes.provider import Temper
from tests.integration.crooked import Crooked, Tamper, crooked_door
from tests.integration.tenant_house import Market, running_market

CANARY = "canary-8f3c1e"
ENVIRONMENT = {"TOKEN": CANARY}
SECRET = {"secrets": ["TOKEN"], "is_command": True}


@pytest.fixture
async def between(tmp_path: Path) -> AsyncIterator[tuple[Market, Crooked]]:
    """A market whose tenant reaches it through a crooked door only."""
    async with (
        running_market(tmp_path) as market,
        crooked_door(market.guest.url) as door,
        AsyncClient(
            door.url, home=tmp_path / "home", environment=ENVIRONMENT
        ) as client,
    ):
        market.client = client
        yield market, door


def line_of(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key().decode().split()[:2])


def change_lease(change: Callable[[dict[str, Any]], object]) -> Any:
    """Tell the tenant another lease than the log has, wherever one is told."""

    def rewrite(path: str, status: int, body: bytes) -> tuple[int, bytes]:
        if path != "/v1/documents" or status != 200:
            return status, body
        answer = msgspec.json.decode(body)
        for result in answer["results"]:
            if result.get("lease"):
                change(result["lease"])
        return status, msgspec.json.encode(answer)

    return rewrite


async def test_man_in_the_middle_learns_nothing(
    between: tuple[Market, Crooked],
) -> None:
    """The node names its own host key, and answers with it in the provider's place.

    It can show the provider's terms and offer, which are public; not under this key.
    """
    market, door = between
    own = asyncssh.generate_private_key("ssh-ed25519")
    provider = await market.provide(Temper(host_key=own))
    door.rewrite = change_lease(lambda lease: lease.update(ssh_host_key=line_of(own)))
    result = await market.run("true", retries=0, **SECRET)
    assert result.exit_code != 0
    assert [one.outcome for one in result.attempts] == ["market_lied"]
    assert all(job.manifest is None for job in provider.jobs.values())
    assert result.cost == 0


LIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "price": (lambda lease: lease.update(price_hour=1), "market_lied"),
    "duration": (lambda lease: lease.update(duration_s=1), "market_lied"),
    "offer": (lambda lease: lease.update(offer_id="0x" + "1" * 64), "market_lied"),
    "host key": (
        lambda lease: lease.update(
            ssh_host_key=line_of(asyncssh.generate_private_key("ssh-ed25519"))
        ),
        "wrong_host_key",
    ),
    "provider": (lambda lease: lease.update(provider="0x" + "1" * 40), "wrong_signer"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_other_lease_than_signed_is_named(
    between: tuple[Market, Crooked], lie: str
) -> None:
    market, door = between
    provider = await market.provide()
    change, code = LIES[lie]
    door.rewrite = change_lease(change)
    result = await market.run("true", retries=0, **SECRET)
    assert result.exit_code != 0
    assert [one.outcome for one in result.attempts] == [code], result
    assert all(job.manifest is None for job in provider.jobs.values())
    assert result.cost == 0


async def test_other_key_or_job_than_ordered_is_refused(
    between: tuple[Market, Crooked],
) -> None:
    """The node grants a lease to somebody else's key, or for another manifest."""
    market, door = between
    await market.provide()
    for change in ({"ssh_key": "ssh-ed25519 AAAA"}, {"manifest": "0x" + "1" * 64}):
        door.rewrite = change_lease(lambda lease, new=change: lease.update(new))
        result = await market.run("true", retries=0, wait="0s", **SECRET)
        assert result.exit_code != 0
        assert not result.attempts


# ---- the relay ----------------------------------------------------------------------


def once(act: Callable[[bytes], list[bytes]], *, at: int, is_to_node: bool) -> Tamper:
    """Do something to one binary frame of one direction, and never again."""
    count = 0

    async def tamper(
        path: str,
        to_node: bool,
        frame: str | bytes,
    ) -> list[str | bytes]:
        nonlocal count
        if isinstance(frame, str) or to_node != is_to_node:
            return [frame]
        count += 1
        return [*act(frame)] if count == at else [frame]

    return tamper


def flip(frame: bytes) -> list[bytes]:
    middle = len(frame) // 2
    return [frame[:middle] + bytes([frame[middle] ^ 1]) + frame[middle + 1 :]]


ACTS: dict[str, Callable[[bytes], list[bytes]]] = {
    "changes": flip,
    "replays": lambda frame: [frame, frame],
    "drops": lambda frame: [],
    "truncates": lambda frame: [frame[: len(frame) // 2]],
    "adds": lambda frame: [frame, b"\x00" * 64],
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("at", [2, 9])  # while keys are exchanged, and after
async def test_tampering_relay_gains_nothing(
    between: tuple[Market, Crooked], act: str, at: int
) -> None:
    """One bad frame breaks the channel; the job goes on over the next one."""
    market, door = between
    await market.provide()
    door.tamper = once(ACTS[act], at=at, is_to_node=True)
    result = await market.run("sh", "-c", "echo $TOKEN | rev", **SECRET)
    assert CANARY.encode() not in door.seen
    assert CANARY[::-1].encode() not in door.seen
    if result.exit_code == 0:
        written = await _read(result.stdout)
        assert written == CANARY[::-1].encode() + b"\n"
    else:
        # An attempt that never got through costs nothing and says why.
        assert result.attempts[-1].outcome, result
        assert result.cost == 0


async def test_relay_sees_ciphertext_only(between: tuple[Market, Crooked]) -> None:
    market, door = between
    await market.provide()
    result = await market.run(
        "sh", "-c", "echo $TOKEN; echo $TOKEN >out", outputs=["out"], **SECRET
    )
    assert result.exit_code == 0, result
    assert len(door.seen) > 1_000
    assert CANARY.encode() not in door.seen


async def test_relay_gone_in_mid_transfer(
    between: tuple[Market, Crooked], tmp_path: Path
) -> None:
    """Every connection is cut while chunks travel; what arrived is not sent again."""
    market, door = between
    await market.provide()
    data = tmp_path / "data"
    data.mkdir()
    (data / "big.bin").write_bytes(bytes(range(256)) * 80_000)  # 20 MB
    carried = 0

    async def tamper(
        path: str,
        to_node: bool,
        frame: str | bytes,
    ) -> list[str | bytes]:
        nonlocal carried
        if isinstance(frame, bytes) and to_node:
            before, carried = carried, carried + len(frame)
            if before < 8_000_000 <= carried:
                await door.cut()
                return []
        return [frame]

    door.tamper = tamper
    result = await market.run(
        "sh", "-c", "wc -c < data/big.bin", is_command=True, inputs=[str(data)]
    )
    assert result.exit_code == 0, result
    assert (await _read(result.stdout)).strip() == b"20480000"
    assert len(result.attempts) == 1, "the job went on over a new channel"
    assert carried < 32_000_000, "what had arrived was not sent again"


def cut_outputs(door: Crooked, *, times: int) -> tuple[Tamper, list[int]]:
    """Cut every connection while outputs come, so many times; count what came."""
    came = [0]
    left = times

    async def tamper(path: str, to_node: bool, frame: str | bytes) -> list[str | bytes]:
        nonlocal left
        if isinstance(frame, bytes) and not to_node:
            came[0] += len(frame)
            if left and came[0] > 4_000_000 * min(times - left + 1, 3):
                left -= 1
                await door.cut()
                return []
        return [frame]

    return tamper, came


WRITES = "yes 0123456789 | head -c 20000000 > big.bin; echo done"  # and nothing is read


async def test_relay_gone_while_outputs_travel(
    between: tuple[Market, Crooked], tmp_path: Path
) -> None:
    """The job is over; what it made comes all the same, and no chunk twice."""
    market, door = between
    await market.provide()
    door.tamper, came = cut_outputs(door, times=3)
    result = await market.run(
        *("sh", "-c", WRITES), is_command=True, outputs=[f"big.bin:{tmp_path}/big.bin"]
    )
    assert result.exit_code == 0, result
    assert len(result.attempts) == 1
    found = (tmp_path / "big.bin").read_bytes()
    assert found == (b"0123456789\n" * 2_000_000)[:20_000_000]
    assert came[0] < 36_000_000, "what had arrived was not sent again"


async def test_relay_that_never_lets_outputs_through(tmp_path: Path) -> None:
    """Tried again until the market settles the lease; then said, and not paid."""
    async with (
        running_market(tmp_path, settle_s=3) as market,
        crooked_door(market.guest.url) as door,
        AsyncClient(door.url, home=tmp_path / "home", environment={}) as client,
    ):
        market.client = client
        await market.provide()
        await _lose_outputs(market, door, tmp_path)


async def _lose_outputs(market: Market, door: Crooked, tmp_path: Path) -> None:
    door.tamper, _ = cut_outputs(door, times=1_000_000)
    result = await market.run(
        *("sh", "-c", WRITES),
        is_command=True,
        outputs=[f"big.bin:{tmp_path}/big.bin"],
        retries=0,
    )

    assert result.exit_code == 3, result
    (attempt,) = result.attempts
    assert attempt.outcome == "outputs_lost"
    vouched_at_the_end = attempt.price_hour * attempt.ran_ms // 3_600_000
    assert result.cost < vouched_at_the_end, "the last voucher was for the outputs"
    assert "could not be fetched in time" in result.message
    assert not (tmp_path / "big.bin").exists()


async def test_relay_that_mixes_two_streams(
    between: tuple[Market, Crooked], tmp_path: Path
) -> None:
    """Each end gets bytes that were sealed for the other one: neither takes them."""
    market, door = between
    await market.provide()
    swapped: list[tuple[str, bool]] = []
    flag = tmp_path / "swapped"  # the jobs run until then
    held: dict[bool, tuple[str, bytes]] = {}
    counts: Counter[tuple[str, bool]] = Counter()

    async def tamper(path: str, to_node: bool, frame: str | bytes) -> list[str | bytes]:
        if isinstance(frame, str) or "/dial" not in path:
            return [frame]
        counts[path, to_node] += 1
        if counts[path, to_node] < 8 or (path, to_node) in swapped:
            return [frame]
        other, stranger = held.get(to_node, ("", b""))
        if not other:
            held[to_node] = path, frame
            return [frame]
        if other == path:
            return [frame]
        swapped.append((path, to_node))
        flag.touch()
        return [stranger]

    door.tamper = tamper
    command = (
        f"echo {{word}}; while [ ! -e {flag} ]; do sleep 0.1; echo {{word}}; done; "
        "echo {word} > {word}"
    )
    results = await asyncio.gather(
        *(
            market.run(
                *("sh", "-c", command.format(word=word)),
                is_command=True,
                outputs=[f"{word}:{tmp_path}/{word}"],
            )
            for word in ("one", "two")
        )
    )
    assert swapped, "frames of one were put into the other"
    for word, result in zip(("one", "two"), results, strict=True):
        assert result.exit_code == 0, result
        assert set((await _read(result.stdout)).decode().split()) == {word}
        assert (tmp_path / word).read_text() == f"{word}\n"
        assert len(result.attempts) == 1


async def _read(path: str) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return Path(path).read_bytes()
    return b""
