"""Tabs in memory."""

from sublet.service.claimer import BestVoucher


class MemoryTabs:
    """Passes ``tests/ports/test_tabs.py``, as the real one does."""

    def __init__(self) -> None:
        self._tabs: dict[str, BestVoucher] = {}

    def find(self, channel_id: str) -> BestVoucher | None:
        return self._tabs.get(channel_id)

    def keep(self, channel_id: str, tab: BestVoucher) -> None:
        self._tabs[channel_id] = tab

    def list_tabs(self) -> dict[str, BestVoucher]:
        return dict(self._tabs)
