"""What pricing programs are asked, in both languages, and which answers are prices."""

import msgspec
import pytest

from sublet.core.document import Order
from sublet.core.pricing.question import (
    AKASH,
    AKASH_ARRAY,
    SUBLET,
    USDC,
    BadPrice,
    find_environment,
    read_price,
    write_question,
)
from tests.unit.core.book.world import GIB, TENANT, make_offer, make_order

OFFER = make_offer(
    gpu_model="rtx4090", gpu_memory_bytes=24 * GIB - 7, gpu_uuids=("GPU-1", "GPU-2")
)


def _order(**changed: object) -> Order:
    return make_order(gpu_count=2, price_hour_max=588_524, **changed)


def test_own_question_says_slice_and_prices() -> None:
    said = write_question(SUBLET, _order(), OFFER, floor_hour=410_000)
    assert isinstance(said, dict)
    assert said["price_hour_max"] == "0.588524"
    assert said["floor_hour"] == "0.41"
    assert said["machine"]["gpu_model"] == "rtx4090"
    assert (said["cpus_milli"], said["gpu_count"]) == (2_000, 2)
    assert msgspec.json.decode(msgspec.json.encode(said))["tenant"] == TENANT
    assert find_environment(SUBLET, _order()) == {}


def test_akash_question_has_its_units() -> None:
    said = write_question(AKASH, _order(), OFFER, floor_hour=0)
    assert isinstance(said, dict)
    [group] = said["resources"]
    assert (group["cpu"], group["memory"], group["count"]) == (2_000, 4 * GIB, 1)
    assert group["storage"] == [{"class": "ephemeral", "size": GIB}]
    assert group["gpu"] == {
        "units": 2,
        "attributes": {"vendor": {"nvidia": {"model": "rtx4090", "ram": "24Gi"}}},
    }
    assert said["price"]["denom"] == USDC
    # 588,524 micro-USD an hour are 1,000 and a little in a block.
    assert said["price"]["amount"].startswith("1000.00")
    assert write_question(AKASH_ARRAY, _order(), OFFER, floor_hour=0) == [group]
    assert find_environment(AKASH, _order()) == {
        "AKASH_OWNER": TENANT,
        "AKASH_DENOM": USDC,
    }


def test_order_without_gpu_asks_for_none() -> None:
    said = write_question(AKASH_ARRAY, make_order(), OFFER, floor_hour=0)
    assert isinstance(said, list)
    assert said[0]["gpu"] == {"units": 0, "attributes": {"vendor": {}}}


@pytest.mark.parametrize(
    ("style", "text", "price"),
    [
        (SUBLET, "0.41\n", 410_000),
        (SUBLET, " 2 ", 2_000_000),
        (SUBLET, "0.0000001", 1),  # rounded up: nobody works for nothing
        (AKASH, "1000", 588_524),  # micro-dollars a block
        (AKASH_ARRAY, "0.000001\n", 1),
    ],
)
def test_price_is_read(style: str, text: str, price: int) -> None:
    assert read_price(style, text) == price


@pytest.mark.parametrize(
    "text", ["", "\n", "0", "0.000", "-1", "1e6", "NaN", "1 2", "$0.41", "1\n2", "٣"]
)
def test_what_is_no_price_is_no_bid(text: str) -> None:
    with pytest.raises(BadPrice, match="printed"):
        read_price(SUBLET, text)
