"""A claim holds for a while, longer where it is renewed, and never again once lost."""

import pytest

from sublet.node.controller.claim import Claim
from sublet.service.vault_port import ClaimLost
from tests.fakes.world import HandClock


def make_claim(clock: HandClock) -> Claim:
    now_ms = clock.monotonic_ms()
    return Claim(3, since_ms=now_ms, until_ms=now_ms + 10_000, clock=clock)


def test_claim_runs_out() -> None:
    clock = HandClock()
    claim = make_claim(clock)
    clock.at_s += 9
    claim.check()
    clock.at_s += 1
    with pytest.raises(ClaimLost):
        claim.check()


def test_renewed_claim_holds_longer() -> None:
    clock = HandClock()
    claim = make_claim(clock)
    claim.extend(clock.monotonic_ms() + 20_000)
    claim.extend(clock.monotonic_ms() + 5_000)  # an answer that was overtaken
    clock.at_s += 19
    claim.check()


def test_renewal_comes_too_late() -> None:
    clock = HandClock()
    claim = make_claim(clock)
    clock.at_s += 3_600  # it stood still
    claim.extend(clock.monotonic_ms() + 10_000)
    assert claim.is_lost


def test_lost_claim_stays_lost() -> None:
    clock = HandClock()
    claim = make_claim(clock)
    claim.lose()
    claim.extend(clock.monotonic_ms() + 10_000)
    with pytest.raises(ClaimLost):
        claim.check()
