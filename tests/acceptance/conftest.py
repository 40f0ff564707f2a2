"""What acceptance tests share: one market per file. No mocks, no fakes."""

from collections.abc import Iterator

import pytest

from tests.acceptance.market_house import House, open_house


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Give a market that all tests of one file use, one after the other."""
    with open_house(tmp_path_factory.mktemp("market")) as opened:
        yield opened
