"""What an owner writes about strangers: read, refused with the field, written again."""

import tomllib
from datetime import datetime

import pytest

from sublet.base.errors import SubletError
from sublet.core.egress import EgressRules
from sublet.core.owner.rules import Rules
from sublet.provider.owner_file import (
    EgressFile,
    RulesFile,
    compose_egress,
    compose_rules,
    find_zone,
    read_egress,
    read_rules,
)

FILE = EgressFile(
    allow=("*:443", "[2001:db8::1]:22"),
    forbid=("*.evil.example:*",),
    local=("192.168.1.20",),
    bytes="1GB",
    rate="5MB",
    connections=3,
)


def test_nothing_may_be_reached_by_default() -> None:
    assert read_egress(EgressFile(), []) == EgressRules(bytes_max=100 << 30)


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


RULES = RulesFile(
    hours=("mon-fri 18:00-08:00", "sat,sun"),
    zone="Europe/Berlin",
    idle="10m",
    load=1.5,
    gpu_alone=True,
    temperature=80,
    gpu_temperature=83,
    power=300,
    jobs=2,
    block=("0x" + "AB" * 20,),
    settle="2m",
    input="/tmp/keys",
)


def test_reads_the_rules_it_wrote() -> None:
    faults: list[SubletError] = []
    rules = read_rules(RULES, faults)
    assert not faults
    table = tomllib.loads(compose_rules(rules))["rules"]
    again = RulesFile(**{name: _tuple(value) for name, value in table.items()})
    assert read_rules(again, faults) == rules
    assert (rules.idle_s, rules.load_milli, rules.leases_max) == (600, 1_500, 2)
    assert rules.refuses == ("0x" + "ab" * 20,)
    assert rules.is_any


def test_no_rules_by_default() -> None:
    faults: list[SubletError] = []
    rules = read_rules(RulesFile(), faults)
    assert not faults
    assert rules == Rules()
    assert not rules.is_any


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hours": ("weekend",)}, "rules.hours"),
        ({"zone": "Europe/Nowhere"}, "rules.zone"),
        ({"zone": "../../etc/passwd"}, "rules.zone"),
        ({"idle": "soon"}, "rules.idle"),
        ({"settle": "1"}, "rules.settle"),
        ({"block": ("0x12",)}, "rules.block"),
        ({"block": ("0x" + "1" * 40,) * 17}, "rules.block"),
    ],
)
def test_names_the_wrong_rule(changes: dict[str, object], field: str) -> None:
    faults: list[SubletError] = []
    read_rules(RulesFile(**changes), faults)  # type: ignore[arg-type]  # any of them
    (fault,) = faults
    assert getattr(fault, "field", "") == field
    assert field in fault.message


def test_local_zone_is_that_of_the_machine() -> None:
    zone = find_zone("")
    at_s = 1_795_348_800
    here = datetime.fromtimestamp(at_s, zone)
    assert here.replace(tzinfo=None) == datetime.fromtimestamp(at_s)
    assert here.timestamp() == at_s
    assert here.tzname()
