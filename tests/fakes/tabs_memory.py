"""Tabs in memory."""

from sublet.service.tab_port import Tab


class MemoryTabs:
    """Passes ``tests/ports/test_tabs.py``, as the real one does."""

    def __init__(self) -> None:
        self._tabs: dict[str, Tab] = {}

    def find(self, channel_id: str) -> Tab | None:
        return self._tabs.get(channel_id)

    def keep(self, channel_id: str, tab: Tab) -> None:
        self._tabs[channel_id] = tab

    def list_tabs(self) -> dict[str, Tab]:
        return dict(self._tabs)
