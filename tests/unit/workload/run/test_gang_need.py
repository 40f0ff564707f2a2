"""What a person says of several machines, and every fault of it at once."""

import pytest

from sublet.base.errors import Faults
from sublet.workload.run.gang_need import parse_gang
from sublet.workload.run.need import parse_needs
from sublet.workload.run.term import parse_terms
from sublet.workload.run.wish import Collector, Gang, Terms, Wish


def parse(**said: object) -> Gang:
    found = Collector()
    gang = parse_gang(Wish(target=(), **said), found)
    found.check()
    return gang


def test_reads_a_gang() -> None:
    said = {"machines": 4, "apart": ("Network", "network"), "together": "10ms"}
    assert parse(**said) == Gang(4, ("network",), 10)
    assert parse() == Gang()


def test_total_pays_for_all_machines() -> None:
    wish = Wish(target=(), machines=3, max_total="6.00", timeout="1h")
    assert parse_needs(wish, Collector(), now_s=0).price_hour_max == 2_000_000


@pytest.mark.parametrize(
    ("said", "codes"),
    [
        ({"machines": 0}, ["out_of_range"]),
        ({"machines": 65}, ["out_of_range"]),
        ({"machines": 2, "apart": ("rack",)}, ["bad_apart"]),
        ({"machines": 2, "together": "5"}, ["bad_together"]),
        ({"machines": 2, "together": "1ms"}, ["bad_together"]),  # no half of it
        ({"machines": 2, "together": "2001ms"}, ["bad_together"]),
        ({"apart": ("region",)}, ["bad_gang"]),  # of one machine
        (
            {"machines": 2, "apart": ("x",), "together": "y"},
            ["bad_apart", "bad_together"],
        ),
    ],
)
def test_refuses_what_means_nothing(said: dict[str, object], codes: list[str]) -> None:
    with pytest.raises(Faults) as caught:
        parse(**said)
    assert [fault.code for fault in caught.value.faults] == codes


@pytest.mark.parametrize("option", ["env", "secrets"])
def test_nobody_gives_all_machines_one_rank(option: str) -> None:
    """Else a launcher would wait for ever for the others of its rank."""
    found = {option: ("RANK",), "machines": 2}
    with pytest.raises(Faults) as caught:
        read_terms(Wish(target=(), **found))
    assert [fault.code for fault in caught.value.faults] == ["bad_variable"]
    assert read_terms(Wish(target=(), **{**found, "machines": 1})) is not None


def read_terms(wish: Wish) -> Terms:
    return parse_terms(
        wish, environment={"RANK": "1"}, read_secret=lambda path: "", now_s=0
    )
