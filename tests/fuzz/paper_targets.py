"""Files that people hand each other about a lease, and a rail's journal."""

import msgspec
from msgspec.structs import replace

from sublet.core.statement.line import read_chain_lines
from sublet.wire.dispute import Dispute, judge, open_dispute, sign_dispute
from tests.fakes.world import make_key
from tests.fuzz.target import target
from tests.integration.dispute_house import DISPUTE, RAW
from tests.integration.statement_house import make_chain_lines

_FORGER = make_key("forger")


@target("dispute", seeds=[RAW], words=['"void"', '"told"', '"others"', '"proof"'])
def _dispute(raw: bytes) -> None:
    judge(open_dispute(raw))
    assert raw == RAW  # nobody else has our key


@target(
    "dispute_signed",
    seeds=[msgspec.json.encode(replace(DISPUTE, maker=_FORGER.address))],
    words=['"void":"over_pace"', '"before":', '"until_s":', "18446744073709551615"],
)
def _dispute_signed(raw: bytes) -> None:
    """Whatever a maker signs: nothing but our own errors, and no lease out of thin air."""
    try:
        said = msgspec.json.decode(raw, type=Dispute)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    signed = sign_dispute(replace(said, maker=_FORGER.address), key=_FORGER)
    lease = judge(open_dispute(signed)).retold.lease
    assert lease is None or 0 <= lease.paid <= lease.owed <= lease.price_hour


@target(
    "chain_lines",
    seeds=[b"\n".join(map(msgspec.json.encode, make_chain_lines(1, 3)))],
    words=['"kind":"gas"', "1e9", "-1"],
)
def _chain_lines(raw: bytes) -> None:
    for line in read_chain_lines(raw):
        assert int(line.amount) > 0
        assert line.number
