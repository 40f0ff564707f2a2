"""Tabs: what the payers of a resource owe by what they have signed.

A tab is the best voucher of its channel, and is worth what that says. So a keeper has
it on the disk before its payer is answered, and a ``Claimer`` takes all of them as
they are.
"""

from collections.abc import Mapping
from typing import Protocol

from sublet.base.ids import Digest
from sublet.service.claimer import BestVoucher


class TabKeeper(Protocol):
    """Keeps the best voucher of each channel."""

    def find(self, channel_id: Digest) -> BestVoucher | None:
        """Give a channel's tab, or None where nothing was ever charged."""
        ...

    def keep(self, channel_id: Digest, tab: BestVoucher) -> None:
        """Put a tab in the place of the last one; it is safe when this returns.

        Raises:
            Unavailable: ``tab_not_kept``: it is not, and the last one stands.
        """
        ...

    def list_tabs(self) -> Mapping[Digest, BestVoucher]:
        """Give all of them, to claim."""
        ...
