"""Documents that lie, come too late or too early, or say what cannot be.

Each gets one refusal that names the field, and the log does not grow.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from sublet.base.limits import CLOCK_SKEW_S_MAX, DOCUMENT_AGE_S_MAX
from sublet.core.document import AnyDocument
from tests.fakes.world import World
from tests.integration.node_house import (
    STRANGER,
    Guest,
    running_node,
    stock,
    submission,
)

SLACK_S = 60  # more than a test machine stands still
WAIT_S = 60

# The command line on a machine whose clock is wrong.
WRONG_CLOCK = """
import sys, time
right = time.time_ns
time.time_ns = lambda: right() + {shift_s} * 1_000_000_000
from sublet.cli.root import run_command
sys.exit(run_command(sys.argv[1:]))
"""


@pytest.fixture
async def guest(tmp_path: Path) -> AsyncIterator[Guest]:
    """Give a market with supply and a tenant who can pay."""
    world = World()
    async with running_node(
        tmp_path / "node", world, faucet="10.00", limits={"lost_after_s": 600}
    ) as guest:
        await stock(guest)
        yield guest


async def find_size(guest: Guest) -> int:
    return (await guest.learn()).size


async def refused_code(guest: Guest, raw: bytes) -> str:
    """Submit; give the code of the refusal, wherever it stands."""
    _, body = await guest.post("/v1/documents", raw)
    answer = msgspec.json.decode(body)
    if "results" in answer:
        [result] = answer["results"]
        assert result["fault"], body
        answer = result["fault"]
    assert answer["message"]
    code: str = answer["code"]
    return code


LITERALS = [
    # field of an order, what stands there instead
    ("priceHourMax", b"-1"),
    ("priceHourMax", b"NaN"),
    ("priceHourMax", b"1e999"),
    ("priceHourMax", b"0.5"),
    ("priceHourMax", b'"0.50"'),
    ("priceHourMax", b"null"),
    ("priceHourMax", b"9" * 300),
    ("totalMax", b"-9007199254740993"),
    ("memoryBytes", b'"1GB"'),
    ("memoryBytes", b"18446744073709551616"),
    ("cpusMilli", b"-1000"),
    ("cpusMilli", b"[]"),
    ("durationSMax", b"Infinity"),
    ("regions", b'["' + b"x" * 5_000 + b'"]'),
    ("manifest", b'"0x11"'),
    ("tenant", b'"0xzz"'),
]


@pytest.mark.parametrize(("field", "literal"), LITERALS)
async def test_impossible_value_is_refused(
    guest: Guest, field: str, literal: bytes
) -> None:
    raw = submission(guest.world.order())
    fields = msgspec.json.decode(raw, type=dict[str, list[dict[str, msgspec.Raw]]])
    [signed] = fields["documents"]
    document = msgspec.json.decode(signed["document"], type=dict[str, msgspec.Raw])
    name = field if field in document else _snake(field)
    assert name in document, document
    document[name] = msgspec.Raw(literal)
    signed["document"] = msgspec.Raw(msgspec.json.encode(document))
    before = await find_size(guest)
    code = await refused_code(guest, msgspec.json.encode(fields))
    assert code in ("malformed", "bad_field", "out_of_range"), code
    assert await find_size(guest) == before


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


@pytest.mark.parametrize(
    ("shift_s", "code"),
    [
        (CLOCK_SKEW_S_MAX + SLACK_S, "signed_ahead"),
        (3_600, "signed_ahead"),
        (-DOCUMENT_AGE_S_MAX - SLACK_S, "signed_long_ago"),
    ],
)
async def test_document_of_another_time(guest: Guest, shift_s: int, code: str) -> None:
    world = guest.world
    document = world.order().document
    moved = msgspec.structs.replace(document, signed_at_s=world.clock.at_s + shift_s)
    before = await find_size(guest)
    assert await refused_code(guest, submission(world.say(moved, world.tenant))) == code
    assert await find_size(guest) == before


def _foreign(world: World) -> list[tuple[AnyDocument, str]]:
    order = world.order().document
    offer = world.offer(world.providers[0]).document
    credit = world.credit(STRANGER.address, 1_000_000).document
    return [
        (order, "wrong_signer"),
        (credit, "wrong_signer"),
        (msgspec.structs.replace(offer, expires_at_s=1), "offer_expired"),
    ]


async def test_stranger_speaks_for_nobody(guest: Guest) -> None:
    before = await find_size(guest)
    for document, code in _foreign(guest.world):
        said = guest.world.say(document, STRANGER)
        assert await refused_code(guest, submission(said)) == code
    assert await find_size(guest) == before


async def test_document_of_another_market(guest: Guest) -> None:
    other = World()
    other.clock = guest.world.clock
    said = other.order()  # the same key, another market's domain
    before = await find_size(guest)
    assert await refused_code(guest, submission(said)) == "wrong_signer"
    assert await find_size(guest) == before


@pytest.mark.parametrize("shift_s", [-3_700, 3_700])
async def test_wrong_clock_is_the_one_error(
    guest: Guest, tmp_path: Path, shift_s: int
) -> None:
    """A tenant whose clock is an hour off is told so; nothing is bought."""
    before = await find_size(guest)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WRONG_CLOCK.format(shift_s=shift_s)),
        *("run", "-q", "--market", guest.url, "--home", str(tmp_path / "home")),
        *("--", "true"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "SUBLET_NO_WARM": "1"},
    )
    async with asyncio.timeout(WAIT_S):
        out, err = await process.communicate()
    assert process.returncode in (2, 3), err
    assert out == b""
    last = [line for line in err.decode().splitlines() if "key" not in line]
    assert len(last) == 1, err
    assert "clock" in last[0]
    assert await find_size(guest) == before
