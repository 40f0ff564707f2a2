"""So much a second."""

import pytest

from sublet.adapter import token_bucket
from sublet.adapter.token_bucket import TokenBucket


def test_waits_for_what_was_taken_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(token_bucket.time, "monotonic", lambda: now[0])
    bucket = TokenBucket(per_s=10, burst=20)
    assert bucket.take(20) == 0
    assert bucket.take(5) == 0.5
    now[0] += 0.5
    assert bucket.take(1) == 0.1
    now[0] += 1_000
    assert bucket.take(21) == 0.1  # no more than the burst is saved up


def test_no_rate_no_wait() -> None:
    assert TokenBucket(per_s=0, burst=0).take(1 << 40) == 0
