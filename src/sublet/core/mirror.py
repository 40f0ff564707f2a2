"""The operator's word for what lies in a channel on the chain: anybody can look there, too.

Not here: what else the operator says (``document``), how a node reads the chain.
"""

from typing import Final

from sublet.base.ids import Digest
from sublet.core.member import Amount, Document, Salt, Seconds, Size

# How the money of a market moves; its Market says which of them.
CREDITS: Final = "credits"  # issued by the operator, in the book alone
ESCROW: Final = "escrow"  # deposited in a contract on a chain, channel by channel


class Mirror(Document, frozen=True, tag="Mirror"):
    """The contract's record of a channel, as of a confirmed block (the escrow rail)."""

    channel_id: Digest
    balance: Amount  # deposited and not taken back; what was claimed is still in it
    claimed: Amount  # by the receiver, in all
    withdrawing: (
        Amount  # asked back by the payer: goes once the channel's delay is over
    )
    block: Size  # its number
    block_hash: Digest
    signed_at_s: Seconds
    salt: Salt
