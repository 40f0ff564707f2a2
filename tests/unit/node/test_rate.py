"""Token buckets: burst, refill, and memory that does not grow."""

from sublet.node.rate import PARTIES_MAX, RateLimit


def test_burst_then_steady_pace() -> None:
    rate = RateLimit(per_s=10, burst=3)
    assert [rate.take("a", now_ms=0) for _ in range(3)] == [0, 0, 0]
    wait_ms = rate.take("a", now_ms=0)
    assert 100 <= wait_ms <= 101
    assert rate.take("a", now_ms=wait_ms) == 0
    assert rate.take("a", now_ms=wait_ms) > 0


def test_parties_do_not_share() -> None:
    rate = RateLimit(per_s=1, burst=1)
    assert rate.take("a", now_ms=0) == 0
    assert rate.take("b", now_ms=0) == 0
    assert rate.take("a", now_ms=0) > 0


def test_rest_never_exceeds_burst() -> None:
    rate = RateLimit(per_s=1_000, burst=2)
    rate.take("a", now_ms=0)
    answers = [rate.take("a", now_ms=60_000) for _ in range(3)]
    assert answers[:2] == [0, 0]
    assert answers[2] > 0


def test_longest_unused_is_forgotten() -> None:
    rate = RateLimit(per_s=1, burst=1)
    rate.take("first", now_ms=0)
    for number in range(PARTIES_MAX):
        rate.take(f"other {number}", now_ms=0)
    assert rate.take("first", now_ms=0) == 0  # forgotten, so it begins anew
