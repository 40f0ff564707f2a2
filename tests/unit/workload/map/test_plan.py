"""What a map asks of its workers: how many, at which price. Refusals: test_map_volume."""

import pytest

from sublet.workload.map.plan import MapWish, add_volume, parse_limits
from sublet.workload.run.term import parse_terms
from sublet.workload.run.wish import Terms, Wish


def read(**said: str) -> Terms:
    wish = Wish(target=(), mode="standing:1d", timeout="1h", max_total="6.00", **said)
    return parse_terms(wish, environment={}, read_secret=lambda path: "", now_s=0)


@pytest.mark.parametrize(
    ("max_price", "paid"), [(None, 2_000_000), ("1.50", 1_500_000)]
)
def test_total_pays_for_the_whole_volume(max_price: str | None, paid: int) -> None:
    terms = read() if max_price is None else read(max_price=max_price)
    needs = add_volume(MapWish(volume="3h"), terms, max_price=max_price).needs
    assert (needs.volume_s, needs.price_hour_max) == (10_800, paid)


def test_as_many_work_as_there_are_pieces() -> None:
    wish = MapWish(volume="150m")
    terms = add_volume(wish, read(), max_price=None)
    assert parse_limits(wish, terms).parallel == 3  # the last one is half a lease
    assert parse_limits(MapWish(), read()).parallel == 4
    assert add_volume(MapWish(), read(), max_price=None) == read()
