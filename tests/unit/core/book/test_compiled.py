"""The compiled search finds what the search by arrays finds, in every term of a match."""

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from benchmarks.determinism import fold, record
from sublet.base import limits
from sublet.base.ids import NO_DIGEST
from sublet.core.book import quote
from sublet.core.book.book import Book
from sublet.core.book.compiled import LARGE_BLOCKS, is_large, load_kernel
from sublet.core.book.record import DelegationRecord, OfferRecord
from sublet.core.book.search import Kernel
from sublet.core.document import Order
from sublet.core.reliability.chance import LASTS_S_MAX
from tests.unit.core.book.world import (
    GIB,
    START_S,
    TENANT,
    address,
    digest,
    make_offer,
    make_order,
)

MODELS = ("", "rtx4090", "a100", "h100")
OWNERS = 150
SCOPE, NARROW = digest(77), digest(78)  # a third of all providers; one alone


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    pytest.importorskip("numba")
    kernel = load_kernel()
    assert kernel is not None
    return kernel


def put_offer(book: Book, draw: Random, number: int) -> None:
    """Offer a machine in which all differs that is looked at; many prices are equal."""
    model = draw.choice(MODELS)
    prices = (0, 1, 2, 3, limits.PRICE_PER_HOUR_MAX)
    offer = make_offer(
        machine=f"m{number}",
        cpus_milli=draw.choice((1_000, 8_000, limits.CPUS_MILLI_MAX)),
        memory_bytes=draw.choice((4 * GIB, 32 * GIB, limits.MEMORY_BYTES_MAX)),
        disk_class=draw.choice(("", "ssd", "nvme")),
        gpu_model=model,
        gpu_memory_bytes=draw.choice((24, 80)) * GIB if model else 0,
        gpu_uuids=tuple(f"{number}-{n}" for n in range(draw.choice((1, 8))))
        * bool(model),
        gpu_vendor=draw.choice(("nvidia", "amd")),
        gpu_interface=draw.choice(("pcie", "sxm")),
        gpu_compute=draw.choice((80, 90)),
        region=draw.choice(("DE", "FR", "US", "US-CA", "")),
        jurisdiction=draw.choice(("DE", "US")),
        up_mbit_s=draw.choice((0, 1_000)),
        latencies=draw.choice(((), ("frankfurt=9",), ("frankfurt=12", "tokyo=200"))),
        sandboxes=draw.choice((("bubblewrap",), ("bubblewrap", "gvisor"))),
        features=draw.choice(((), ("image",), ("image", "egress"))),
        attributes=draw.choice(((), ("tier=datacenter",))),
        cpu_price_hour=draw.choice(prices),
        memory_price_hour=draw.choice(prices),
        gpu_price_hour=draw.choice(prices) * 10 % (limits.PRICE_PER_HOUR_MAX + 1),
        cpu_score=draw.choice((0, 1, 1_000)),
        gpu_score=draw.choice((0, 70_000)),
        leases_max=draw.choice((0, 1)),
        refuses=draw.choice(((), (), (), (TENANT,))),
        expires_at_s=START_S + draw.choice((-1, 100, 10_000)),
    )
    record = OfferRecord(digest(number), number, address(number % OWNERS), offer)
    book.offers.put(
        record,
        is_up=draw.random() < 0.9,
        now_s=START_S - 10,
        lasts_s=draw.choice((1, 864, 86_400, 200_000, LASTS_S_MAX)),
    )


def draw_order(draw: Random) -> Order:
    """Wish for some of it."""
    gpu_count = draw.choice((0, 1, 1, 4))
    kinds = [(), ("a100",), ("a100", "h100"), ("a100/80GiB", "h100/sxm"), ("none",)]

    def rarely(value: object, none: object = ()) -> object:
        return value if draw.random() < 0.15 else none

    return make_order(
        cpus_milli=draw.choice((1, 1_500, 8_000)),
        memory_bytes=draw.choice((1, 4 * GIB, 5 * GIB + 7)),
        disk_classes=rarely(("ssd", "nvme")),
        gpu_models=draw.choice(kinds) if gpu_count else (),
        gpu_count=gpu_count,
        gpu_memory_bytes=draw.choice((0, 40 * GIB)) if gpu_count else 0,
        gpu_vendor=rarely("amd", ""),
        gpu_interface=rarely("sxm", ""),
        gpu_compute=rarely(90, 0),
        regions=draw.choice(((), ("US",), ("DE", "US-CA"), ("XX",))),
        jurisdictions=rarely(("DE",)),
        up_mbit_s=rarely(500, 0),
        latencies=rarely(("frankfurt=10",)),
        sandbox=rarely("gvisor", ""),
        features=rarely(("image", "egress")),
        attributes=rarely(("tier=datacenter",)),
        avoid=rarely((address(1), address(2))),
        work=draw.choice(("", "", "cpu", "gpu")),
        near=(near := draw.choice(("", "frankfurt", "tokyo", "nowhere"))),
        near_price_hour=draw.choice((0, 1, limits.PRICE_PER_HOUR_MAX)) if near else 0,
        data_at=(address(3), address(4)),
        data_price_hour=draw.choice((0, 0, 5)),
        delegation=draw.choice((NO_DIGEST, NO_DIGEST, SCOPE, NARROW)),
        duration_s_max=draw.choice((1, 3_600, limits.LEASE_S_MAX)),
        price_hour_max=draw.choice((0, 30, 200, 9_000_000, 1 << 46)),
        total_max=limits.AMOUNT_MAX,
        pricing=draw.choice(("second_score", "second_score", "pay_as_bid")),
    )


@pytest.mark.parametrize("seed", range(3))
def test_finds_what_arrays_find(seed: int, kernel: Kernel) -> None:
    draw, book, seen = Random(seed), Book(), Counter[str]()
    for number in range(1_200):
        put_offer(book, draw, number)
    for key, owners in ((SCOPE, range(0, OWNERS, 3)), (NARROW, range(9, 10))):
        book.delegations[key] = DelegationRecord(
            key, TENANT, TENANT, 1, 1, 1, tuple(map(address, owners))
        )
    for _ in range(400):
        order = draw_order(draw)
        book.kernel = None
        expected = quote.find_match(book, order, now_s=START_S)
        is_contested = quote._Auction(book, order, now_s=START_S)._has_rival()
        book.kernel = kernel
        assert quote.find_match(book, order, now_s=START_S) == expected
        auction = quote._Auction(book, order, now_s=START_S)
        assert auction._has_rival() == is_contested
        seen["by arrays"] += auction._plan is None
        seen["matched"] += expected is not None
        seen["alone"] += expected is not None and not is_contested
        seen["second"] += expected is not None and expected.runner_up is not None
        seen["below a rival"] += expected is not None and (
            is_contested and expected.runner_up is None
        )
    assert min(seen.values()) > 3, seen  # each happened
    assert seen["matched"] > 80
    assert seen["by arrays"] < 100


def test_the_log_gives_one_book_with_it_or_without(
    kernel: Kernel, tmp_path: Path
) -> None:
    searched = 0

    def count(*given: object) -> tuple[int, int, int, int]:
        nonlocal searched
        searched += 1
        return kernel(*given)  # type: ignore[arg-type]

    expected, *_ = record(tmp_path, 600)
    assert fold(tmp_path / "log", first=0, kernel=count) == expected
    assert searched > 20


def test_is_for_large_tables(kernel: Kernel) -> None:
    book, draw = Book(), Random(1)
    assert not is_large(book.offers)
    for number in range(LARGE_BLOCKS * 128):
        if is_large(book.offers):
            break
        put_offer(book, draw, number)
    assert is_large(book.offers)
    assert book.offers.count == LARGE_BLOCKS * 128
