"""An order with wishes goes to the machine that has them, or says at a terminal why not."""

import json
import os
import re
import sys
from collections.abc import Iterator

import pytest

from sublet.cli.local_market import point_tenant
from sublet.provider.declared import Declared
from tests.acceptance.market_house import (
    CPU_HOUR,
    House,
    close_house,
    fund_and_wait,
)
from tests.rig.terminal import Person

pytestmark = pytest.mark.sandbox

DATACENTER = Declared(
    jurisdiction="DE",
    disk_class="nvme",
    up_mbit_s=500,
    latencies=("frankfurt=2",),
    attributes=("tier=datacenter",),
)
WISHES = (
    *("--region", "DE", "--jurisdiction", "FR", "--jurisdiction", "DE"),
    *("--disk-class", "nvme", "--up", "100Mbit", "--latency", "frankfurt=5ms"),
    *("--attribute", "tier=datacenter"),
)
MONEY = ("--max-total", "100")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Give a market with a cheap machine at home and a dear one in a datacenter."""
    house = House(tmp_path_factory.mktemp("market"))
    try:
        house.start_node()
        house.start_provider(
            "home", region="FR", declared=Declared(disk_class="hdd", up_mbit_s=40)
        )
        house.start_provider(
            "rack", price=2 * CPU_HOUR, region="DE", declared=DATACENTER
        )
        point_tenant(house.tenant_home, house.url)
        fund_and_wait(house)
        yield house
    finally:
        close_house(house)


def type_at_terminal(house: House, *argv: str) -> tuple[int, str]:
    """Type a command at a terminal; give its exit code and what stands there then."""
    env = {"SUBLET_NO_WARM": "1", "SUBLET_HOME": str(house.tenant_home)}
    command = (sys.executable, "-m", "sublet.cli.main", *argv)
    person = Person(command, {**os.environ, **env})
    code = person.leave()
    return code, person.seen.decode().replace("\r\n", "\n")


async def test_job_runs_where_its_wishes_are_met_though_dearer(house: House) -> None:
    job = house.run("--json", *WISHES, "--", "true")
    assert await job.wait() == 0, job
    [attempt] = job.result().attempts
    assert (attempt.provider, attempt.machine) == (house.addresses["rack"], "rack")


def test_quote_at_a_terminal_shows_what_the_score_is_made_of(house: House) -> None:
    code, seen = type_at_terminal(house, "quote", *MONEY, "--near", "frankfurt=0.01")
    assert code == 0, seen
    rows = {line.split("  ")[0]: line for line in seen.splitlines()}
    # Cheap and far away loses: nobody knows how far, and so it counts as the farthest.
    assert f" of {house.addresses['rack']} in DE" in seen
    assert "+$0.02 (2 ms)" in rows["winner"]
    assert "+$10.00 (undeclared)" in rows["runner-up"]
    assert "2 offers match" in seen


def test_impossible_order_is_told_why_not_and_what_would_do(house: House) -> None:
    wishes = ("quote", *MONEY, "--disk-class", "nvme", "--up", "1Gbit")
    code, seen = type_at_terminal(house, *wishes)
    assert code == 3
    told = re.sub(r"\s+", " ", seen)
    assert "none of the 2 offers fits; excluded by: " in told
    assert "up 1000 Mbit/s (2)" in told and "disk class nvme (1)" in told
    assert "Change up from 1000 Mbit/s to 500 Mbit/s, and 1 offer would do" in told
    assert "from $7.20/h" in told
    code, seen = type_at_terminal(house, *wishes, "--json")
    detail = json.loads(seen.splitlines()[0])["fault"]["detail"]
    assert detail == {
        "offers": 2,
        "up_mbit_s": 2,
        "disk_class": 1,
        "relax": "up_mbit_s",
        "relax_up_mbit_s": 500,
        "relax_cost_hour": 2 * CPU_HOUR,
    }


def test_too_low_a_price_is_told_the_next_one(house: House) -> None:
    code, seen = type_at_terminal(house, "quote", "--max-price", "3.50", *MONEY)
    assert code == 3
    assert "2 offers at $3.60/h or more; you allow $3.50/h" in seen
