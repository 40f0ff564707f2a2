"""A node over HTTP: what parties say and what the market makes of it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from sublet.base.errors import Refused
from sublet.core.lease.phase import Lease, Phase
from sublet.wire.codec import decode, encode
from sublet.wire.message import Leases, Offers, Quote
from sublet.wire.note import NoteKey
from tests.fakes.world import World
from tests.integration.node_house import (
    ANSWER_MAX,
    STRANGER,
    Guest,
    fault_code,
    running_node,
    signed,
    stock,
    submission,
)


@pytest.fixture
async def guest(tmp_path: Path) -> AsyncIterator[Guest]:
    async with running_node(tmp_path / "node", World(), faucet="2.50") as guest:
        yield guest


async def test_order_becomes_a_lease(guest: Guest) -> None:
    await stock(guest)
    world = guest.world
    order = world.order()
    (result,) = await guest.accept(order)
    lease = result.lease
    assert lease is not None
    assert (lease.phase, lease.tenant) == (Phase.MATCHED, world.tenant.address)
    (result,) = await guest.accept(world.terms(lease))
    assert result.lease is not None
    assert result.lease.phase is Phase.ACCEPTED
    status, body = await guest.get(f"/v1/leases/{order.id}", key=world.tenant)
    assert status == 200
    assert decode(body, Lease, size_max=ANSWER_MAX) == result.lease


async def test_quote_promises_what_order_gets(guest: Guest) -> None:
    await stock(guest)
    world = guest.world
    order = world.order()
    _, body = await guest.post("/v1/quote", encode(order.document))
    quote = decode(body, Quote, size_max=ANSWER_MAX)
    (result,) = await guest.accept(order)
    assert result.lease is not None
    assert quote.fault is None
    assert quote.offers_matching == len(world.providers)
    assert (quote.offer_id, quote.provider, quote.price_hour, quote.hold) == (
        result.lease.offer_id,
        result.lease.provider,
        result.lease.price_hour,
        result.lease.hold,
    )


async def test_quote_says_why_nothing_fits(guest: Guest) -> None:
    _, body = await guest.post("/v1/quote", encode(guest.world.order().document))
    quote = decode(body, Quote, size_max=ANSWER_MAX)
    assert quote.fault is not None
    assert quote.fault.code == "no_match"


async def test_two_orders_for_last_gpu(guest: Guest) -> None:
    world = guest.world
    world.providers = world.providers[:1]
    await stock(guest, gpus=1)
    answers = await asyncio.gather(
        *(guest.post("/v1/documents", submission(world.order(gpus=1))) for _ in "12")
    )
    assert sorted(status for status, _ in answers) in ([200, 200], [200, 409])
    leases = [m for m in (_lease_of(body) for _, body in answers) if m is not None]
    assert len(leases) == 1
    _, body = await guest.get("/v1/offers")
    (offer,) = decode(body, Offers, size_max=ANSWER_MAX).offers
    assert offer.gpus_free == 0


def _lease_of(body: bytes) -> object:
    answer = msgspec.json.decode(body)
    return answer["results"][0]["lease"] if "results" in answer else None


async def test_same_document_twice_counts_once(guest: Guest) -> None:
    await stock(guest)
    order = guest.world.order()
    (first,) = await guest.accept(order)
    (again,) = await guest.accept(order)
    assert (again.index, again.lease) == (first.index, first.lease)


async def test_batch_refuses_each_alone(guest: Guest) -> None:
    await stock(guest)
    world = guest.world
    good, foreign = world.order(), world.credit(STRANGER.address, 1)
    stolen = msgspec.structs.replace(signed(foreign), signature=signed(good).signature)
    bodies = [encode(signed(good)), encode(stolen), b'{"v":2}', b'{"v":1,"x":0}']
    raw = b'{"documents":[' + b",".join(bodies) + b"]}"
    status, body = await guest.post("/v1/documents", raw)
    results = msgspec.json.decode(body)["results"]
    codes = [each["fault"] and each["fault"]["code"] for each in results]
    assert status == 200
    assert codes == [None, "wrong_signer", "unsupported_version", "unknown_field"]
    assert results[0]["lease"]["phase"] == "matched"


BAD_BODIES = (
    # what is sent, with which status and code it comes back
    (b"", 400, "malformed"),
    (b"[]", 400, "bad_field"),
    (b'{"documents":[]}', 400, "bad_field"),
    (b'{"documents":[1],"more":1}', 400, "unknown_field"),
    (b'{"documents":[{"v":1,"extra":2}]}', 400, "unknown_field"),
    (
        b'{"documents":[{"v":2,"document":{"type":"Lunch"}}]}',
        400,
        "unsupported_version",
    ),
    (b'{"documents":[{"v":1,"document":{"type":"Lunch"}}]}', 400, "unknown_type"),
    (b'{"documents":["' + b"x" * 17_000 + b'"]}', 413, "too_large"),
    (b'{"documents":["' + b"x" * 10_000_000 + b'"]}', 413, "too_large"),
    (b'{"documents":[' + b"[" * 16_000, 400, "malformed"),
)


@pytest.mark.parametrize(("body", "status", "code"), BAD_BODIES)
async def test_bad_body_is_named(
    guest: Guest, body: bytes, status: int, code: str
) -> None:
    size = (await guest.learn()).size
    got, answer = await guest.post("/v1/documents", body)
    assert (got, fault_code(answer)) == (status, code)
    assert (await guest.learn()).size == size


async def test_document_from_future_refused(guest: Guest) -> None:
    world = guest.world
    late = world.order()
    ahead = world.say(
        msgspec.structs.replace(late.document, signed_at_s=world.clock.at_s + 3_600),
        world.tenant,
    )
    status, body = await guest.post("/v1/documents", submission(ahead))
    assert (status, fault_code(body)) == (400, "signed_ahead")


async def test_strangers_credit_is_refused(guest: Guest) -> None:
    world = guest.world
    forged = world.say(world.credit(STRANGER.address, 5).document, STRANGER)
    status, body = await guest.post("/v1/documents", submission(forged))
    assert (status, fault_code(body)) == (400, "wrong_signer")


async def test_faucet_gives_once(guest: Guest) -> None:
    answers = await asyncio.gather(
        *(guest.post("/v1/faucet", b"", key=STRANGER) for _ in "123")
    )
    assert sorted(status for status, _ in answers) == [200, 409, 409]
    assert (await guest.account(STRANGER)).balance == 2_500_000


async def test_no_faucet_unless_asked_for(tmp_path: Path) -> None:
    async with running_node(tmp_path / "node", World()) as guest:
        status, body = await guest.post("/v1/faucet", b"", key=STRANGER)
    assert (status, fault_code(body)) == (403, "no_faucet")


async def test_leases_are_for_their_parties(guest: Guest) -> None:
    await stock(guest)
    world = guest.world
    order = world.order()
    (result,) = await guest.accept(order)
    assert result.lease is not None
    provider = world.key_of(result.lease.provider)
    for key, status in ((world.tenant, 200), (provider, 200), (STRANGER, 403)):
        assert (await guest.get(f"/v1/leases/{order.id}", key=key))[0] == status
    _, body = await guest.get("/v1/leases?all=1", key=provider)
    assert decode(body, Leases, size_max=ANSWER_MAX).leases == (result.lease,)
    _, body = await guest.get("/v1/leases", key=STRANGER)
    assert decode(body, Leases, size_max=ANSWER_MAX).leases == ()


BAD_PATHS = (
    # path, status and code
    ("/v1/leases/0x" + "0" * 64, 404, "unknown_lease"),
    ("/v1/leases/0xFF", 400, "bad_id"),
    ("/v1/leases?all=yes", 400, "bad_query"),
    ("/v1/log/entries?first=-1", 400, "bad_query"),
    ("/v1/log/proof/inclusion?index=5&size=10000", 400, "beyond_log"),
    ("/v1/log/snapshot", 404, "no_snapshot"),
    ("/v1/nothing", 404, "no_such_endpoint"),
    ("/v1/documents", 405, "wrong_method"),
    ("/../../etc/passwd", 404, "no_such_endpoint"),
)


@pytest.mark.parametrize(("path", "status", "code"), BAD_PATHS)
async def test_bad_path_is_named(
    guest: Guest, path: str, status: int, code: str
) -> None:
    got, body = await guest.get(path, key=STRANGER)
    assert (got, fault_code(body)) == (status, code)


async def test_rules_are_fixed_once_founded(tmp_path: Path) -> None:
    world = World()
    async with running_node(tmp_path / "node", world, market={"accept_s": 5}) as guest:
        founded = await guest.learn()
    with pytest.raises(Refused, match=r"market\.accept_s is 6 and was 5"):
        async with running_node(tmp_path / "node", world, market={"accept_s": 6}):
            raise AssertionError("rules changed")
    async with running_node(tmp_path / "node", world) as guest:
        assert (await guest.learn()).id == founded.id


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("key", STRANGER.to_hex(), "wrong_operator"),
        ("note_key", NoteKey.generate(b"x" * 32, "other").to_text(), "wrong_note_key"),
    ],
)
async def test_other_keys_touch_nothing(
    tmp_path: Path, file: str, content: str, code: str
) -> None:
    home, world = tmp_path / "node", World()
    async with running_node(home, world):
        pass
    right = (home / file).read_text()
    (home / file).write_text(content + "\n")
    with pytest.raises(Refused) as caught:
        async with running_node(home, world):
            raise AssertionError("a stranger operates")
    assert caught.value.code == code
    (home / file).write_text(right)
    async with running_node(home, world) as guest:
        assert (await guest.get("/readyz"))[0] == 200
