"""No lease is promised on two terms, whatever a market says and whoever is killed."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from sublet.base.errors import Broken, Unavailable
from sublet.provider.commitment import NotOurs
from sublet.provider.promise_file import REMEMBERED_S, Promises
from tests.unit.provider.lease_maker import make_lease

LEASE = make_lease(9, price_hour=412_001)
DEARER = replace(LEASE, price_hour=500_000)
NOW_S = 1_790_000_000


def test_same_terms_are_promised_again(tmp_path: Path) -> None:
    for _ in range(2):
        Promises(tmp_path / "promises.json").keep(LEASE, now_s=NOW_S, here=())


@pytest.mark.parametrize("field", ["price_hour", "duration_s", "tenant", "offer_id"])
def test_other_terms_are_not_promised(tmp_path: Path, field: str) -> None:
    was = getattr(LEASE, field)
    other = was + 1 if isinstance(was, int) else "0x" + "7" * (len(was) - 2)
    Promises(tmp_path / "promises.json").keep(LEASE, now_s=NOW_S, here=())
    # Another agent on the same folder, as after a kill; even with its clock set back.
    for now_s in (NOW_S + REMEMBERED_S - 1, NOW_S - 9_999):
        with pytest.raises(NotOurs) as refused:
            Promises(tmp_path / "promises.json").keep(
                replace(LEASE, **{field: other}), now_s=now_s, here=()
            )
        assert refused.value.code == "other_terms"


def test_forgets_what_is_long_gone(tmp_path: Path) -> None:
    promises = Promises(tmp_path / "promises.json")
    promises.keep(LEASE, now_s=NOW_S, here=())
    other = make_lease(8)
    promises.keep(other, now_s=NOW_S + REMEMBERED_S, here={LEASE.id})
    with pytest.raises(NotOurs):  # it was still here a moment ago
        promises.keep(DEARER, now_s=NOW_S + REMEMBERED_S, here=())
    promises.keep(other, now_s=NOW_S + REMEMBERED_S, here=())
    promises.keep(DEARER, now_s=NOW_S + REMEMBERED_S, here=())


def test_promises_nothing_that_it_cannot_keep(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file stands where a folder is wanted")
    with pytest.raises((Unavailable, Broken)):
        Promises(tmp_path / "folder" / "promises.json").keep(
            LEASE, now_s=NOW_S, here=()
        )
    damaged = tmp_path / "promises.json"
    damaged.write_text("{")
    with pytest.raises(Broken):
        Promises(damaged).keep(LEASE, now_s=NOW_S, here=())
