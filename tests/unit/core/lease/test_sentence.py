"""What documents say of a lease, for people."""

from sublet.core.document import Mirror
from sublet.core.lease.sentence import tell


def test_says_what_the_chain_holds() -> None:
    mirror = Mirror(
        channel_id="0x" + "11" * 32,
        balance=14_000,
        claimed=24,
        withdrawing=13_976,
        block=7,
        block_hash="0x" + "22" * 32,
        signed_at_s=1,
        salt=1,
    )
    assert tell(mirror, None) == (
        "the chain, at block 7: $0.014 in the channel, $0.000024 claimed of it, "
        "$0.013976 of it asked back by the tenant"
    )
