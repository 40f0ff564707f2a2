"""Requests as bytes, answers as errors that say who must act."""

import msgspec
import pytest

from sublet.base.errors import PeerFault, Refused, SubletError, Unavailable
from sublet.sdk import exchange
from sublet.wire.message import Account, Fault, Offers
from tests.fakes.world import World

ACCOUNT = Account(party="0x" + "1" * 40, balance=1, held=2, earned=3, spent=4)


def read(body: bytes, *, status: int = 200) -> Account:
    return exchange.read_answer(exchange.ask_account(), status=status, body=body)


def test_answer_is_read_strictly() -> None:
    assert read(msgspec.json.encode(ACCOUNT)) == ACCOUNT
    with pytest.raises(PeerFault):
        read(msgspec.json.encode(ACCOUNT)[:-1] + b',"more":1}')


CASES: list[tuple[int, type[SubletError]]] = [
    (400, Refused),
    (401, Refused),
    (404, Refused),
    (409, Refused),
    (429, Unavailable),
    (500, Unavailable),
    (503, Unavailable),
]


@pytest.mark.parametrize(("status", "kind"), CASES)
def test_status_says_who_must_act(status: int, kind: type[SubletError]) -> None:
    body = msgspec.json.encode(Fault(code="x", message="no", retry_after_s=7))
    with pytest.raises(kind) as caught:
        read(body, status=status)
    assert (caught.value.code, caught.value.message) == ("x", "no")
    if isinstance(caught.value, Unavailable):
        assert caught.value.retry_after_s == 7


def test_proxy_s_error_page_is_put_into_words() -> None:
    with pytest.raises(Unavailable, match="HTTP 502"):
        read(b"<html>bad gateway</html>", status=502)
    with pytest.raises(PeerFault, match="HTTP 418"):
        read(b"<html>teapot</html>", status=418)


SIGNED = [
    (exchange.ask_account(), True, "/v1/account"),
    (exchange.ask_leases(is_all=True), True, "/v1/leases?all=1"),
    (exchange.ask_leases(is_all=False), True, "/v1/leases"),
    (exchange.ask_lease("0x12"), True, "/v1/leases/0x12"),
    (exchange.ask_faucet(), True, "/v1/faucet"),
    (exchange.ask_market(), False, "/v1/market"),
    (exchange.ask_offers(), False, "/v1/offers"),
]


@pytest.mark.parametrize(("call", "is_signed", "path"), SIGNED)
def test_private_questions_are_signed(
    call: "exchange.Call[Offers]", is_signed: bool, path: str
) -> None:
    assert (call.is_signed, call.path) == (is_signed, path)


def test_only_document_s_refusal_becomes_its_result() -> None:
    world = World()
    candidate = world.credit(world.tenant.address, 1)
    from tests.integration.node_house import signed

    document = signed(candidate)
    refused = Refused("no", code="no_match", detail={"price": 3})
    appendix = exchange.refuse_one(refused, (document,), world.domain)
    [result] = appendix.results
    assert result.id == candidate.id
    assert result.fault == Fault(code="no_match", message="no", detail={"price": 3})
    with pytest.raises(Refused):
        exchange.refuse_one(refused, (document, document), world.domain)
    with pytest.raises(PeerFault):
        exchange.check_answered(2, appendix)
