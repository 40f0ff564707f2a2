"""An escrow for each test, as it was just deployed."""

from collections.abc import Iterator

import pytest

from tests.contracts.escrow_house import EscrowHouse


@pytest.fixture(scope="session")
def deployed() -> EscrowHouse:
    return EscrowHouse()


@pytest.fixture
def house(deployed: EscrowHouse) -> Iterator[EscrowHouse]:
    with deployed.evm.env.anchor():
        yield deployed
