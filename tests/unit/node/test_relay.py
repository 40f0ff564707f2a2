"""Relay sessions: one provider, once, in time, a few for each lease."""

import pytest

from sublet.base.errors import Unavailable
from sublet.node.refusal import Forbidden, NotFound, TooMany
from sublet.node.relay import Relay, wait_joined

LEASE, OTHER = "0x" + "01" * 32, "0x" + "02" * 32
PROVIDER, STRANGER = "0x" + "aa" * 20, "0x" + "bb" * 20


async def test_session_is_taken_once() -> None:
    relay = Relay(per_lease_max=2)
    with relay.open(lease_id=LEASE, provider=PROVIDER) as session:
        assert relay.take(session.id, provider=PROVIDER) is session
        with pytest.raises(NotFound):
            relay.take(session.id, provider=PROVIDER)


async def test_stranger_does_not_use_it_up() -> None:
    relay = Relay(per_lease_max=2)
    with relay.open(lease_id=LEASE, provider=PROVIDER) as session:
        with pytest.raises(Forbidden):
            relay.take(session.id, provider=STRANGER)
        assert relay.take(session.id, provider=PROVIDER) is session


async def test_session_ends_with_its_dial() -> None:
    relay = Relay(per_lease_max=2)
    with relay.open(lease_id=LEASE, provider=PROVIDER) as session:
        pass
    assert session.ended.is_set()
    with pytest.raises(NotFound):
        relay.take(session.id, provider=PROVIDER)


async def test_names_cannot_be_guessed() -> None:
    relay = Relay(per_lease_max=2)
    with (
        relay.open(lease_id=LEASE, provider=PROVIDER) as one,
        relay.open(lease_id=LEASE, provider=PROVIDER) as two,
    ):
        assert len(one.id) == 32
        assert one.id != two.id


async def test_limit_is_per_lease() -> None:
    relay = Relay(per_lease_max=1)
    with relay.open(lease_id=LEASE, provider=PROVIDER):
        with (
            pytest.raises(TooMany),
            relay.open(lease_id=LEASE, provider=PROVIDER),
        ):
            raise AssertionError("one too many")
        with relay.open(lease_id=OTHER, provider=PROVIDER):
            pass
    with relay.open(lease_id=LEASE, provider=PROVIDER):
        pass


async def test_unanswered_dial_is_unavailable() -> None:
    relay = Relay(per_lease_max=1)
    with relay.open(lease_id=LEASE, provider=PROVIDER) as session:
        with pytest.raises(Unavailable) as caught:
            await wait_joined(session, timeout_s=0.01)
        assert caught.value.code == "provider_unreachable"
        assert session.joined.done()  # who comes now is sent away
