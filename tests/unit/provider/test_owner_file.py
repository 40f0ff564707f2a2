"""What an owner writes about strangers: read, refused with the field, written again."""

import tomllib

import pytest

from sublet.base.errors import SubletError
from sublet.core.egress import EgressRules
from sublet.provider.owner_file import EgressFile, compose_egress, read_egress

FILE = EgressFile(
    allow=("*:443", "[2001:db8::1]:22"),
    forbid=("*.evil.example:*",),
    local=("192.168.1.20",),
    bytes="1GB",
    rate="5MB",
    connections=3,
)


def test_nothing_may_be_reached_by_default() -> None:
    assert read_egress(EgressFile(), []) == EgressRules(bytes_max=100 * 10**9)


def test_reads_what_it_wrote() -> None:
    faults: list[SubletError] = []
    rules = read_egress(FILE, faults)
    assert not faults
    table = tomllib.loads(compose_egress(rules))["egress"]
    again = EgressFile(**{name: _tuple(value) for name, value in table.items()})
    assert read_egress(again, faults) == rules
    assert (rules.rate_bytes_s, rules.connections_max) == (5_000_000, 3)


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"allow": ("example.org",)}, "egress.allow"),
        ({"forbid": ("http://x",)}, "egress.forbid"),
        ({"local": ("lan",)}, "egress.local"),
        ({"bytes": "much"}, "egress.bytes"),
        ({"rate": "5"}, "egress.rate"),
    ],
)
def test_names_the_wrong_value(changes: dict[str, object], field: str) -> None:
    faults: list[SubletError] = []
    read_egress(EgressFile(**changes), faults)  # type: ignore[arg-type]  # any of them
    (fault,) = faults
    assert getattr(fault, "field", "") == field
    assert field in fault.message
