"""Tabs: what payers of a resource have signed, and how much of it was used up.

A tab is worth what its voucher says, so a keeper has it on the disk before its payer
is answered. Whoever claims reads them all (``list_tabs``).
"""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from sublet.base.ids import Digest
from sublet.core.document import Channel


class Tab(Struct, frozen=True, kw_only=True):
    """One channel's; amounts in units of its token, cumulative."""

    channel: Channel
    charged: int  # for all requests so far; at most ``signed``
    signed: int  # what the last voucher says
    signature: bytes  # under it


class TabKeeper(Protocol):
    """Keeps tabs by their channel."""

    def find(self, channel_id: Digest) -> Tab | None:
        """Give a channel's tab, or None where nothing was ever charged."""
        ...

    def keep(self, channel_id: Digest, tab: Tab) -> None:
        """Put a tab in the place of the last one; it is safe when this returns.

        Raises:
            Unavailable: ``tab_not_kept``: it is not, and the last one stands.
        """
        ...

    def list_tabs(self) -> Mapping[Digest, Tab]:
        """Give all of them, to claim."""
        ...
