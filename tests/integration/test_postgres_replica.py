"""A synchronous standby: primary or standby is killed under load; one goes on.

Two real servers. What was acknowledged is there afterwards, in the same places.
"""

import random

import pytest

from sublet.adapter.log_postgres import PostgresLog
from sublet.base.errors import Unavailable
from tests.integration.log_load import loaded, make_row
from tests.integration.replica_house import running_pair
from tests.postgres_server import Server, private_folder

ROUNDS = 3


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_standby_has_all_that_was_acknowledged(seed: int) -> None:
    chance = random.Random(seed)
    with running_pair() as pair, loaded(pair.url) as load:
        load.wait_more(50 + chance.randrange(200))
        pair.fail_over()
        load.wait_more(100)  # the writers go on at the other server
        load.end()
        load.check()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cure", ["standby comes back", "operator goes on without"])
def test_without_its_standby_nothing_is_acknowledged(cure: str) -> None:
    """Commits wait; who queues behind them is told so. Nothing of it is lost."""
    with running_pair() as pair, loaded(pair.url) as load:
        load.wait_more(60)
        pair.standby.kill()
        load.wait_still()
        if cure == "standby comes back":
            pair.standby.start()
            load.wait_more(60)
            pair.fail_over()  # and it has what was written while it was away
        else:
            late = PostgresLog(pair.url, away_ms=3_600_000)
            with pytest.raises(Unavailable) as caught:  # behind whoever waits
                late.append([make_row("late")])
            assert caught.value.code == "database_unavailable"
            late.close()
            pair.demand("")
        load.wait_more(60)
        load.end()
        load.check()


def test_killed_server_keeps_what_it_said() -> None:
    """Kill the only server a few times, with its commits on the disk."""
    with private_folder() as folder:
        server = Server(folder)
        server.create()
        try:
            server.start()
            with loaded(server.create_database()) as load:
                for _ in range(3):
                    load.wait_more(60)
                    server.kill()
                    server.start()
                load.wait_more(30)
                load.end()
                load.check()
        finally:
            server.kill()
