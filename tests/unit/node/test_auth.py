"""The door's memory: each signed request once, for as long as it could be good."""

from hashlib import sha256

import pytest

from sublet.base.errors import SubletError, Unavailable
from sublet.base.limits import REQUEST_AGE_S_MAX
from sublet.node.auth import Door
from sublet.wire.request import Unauthorized, authorize
from sublet.wire.signature import Key
from sublet.wire.typed_data import Domain

DOMAIN = Domain(market="0x" + "11" * 32, chain_id=1, contract="0x" + "22" * 20)
KEY = Key.generate(sha256(b"caller").digest())
NOW_S = 1_800_000_000


def admit(door: Door, *, nonce: int, at_s: int = NOW_S, now_s: int = NOW_S) -> str:
    header = authorize(
        key=KEY,
        domain=DOMAIN,
        method="GET",
        path="/v1/account",
        body=b"",
        at_s=at_s,
        nonce=nonce,
    )
    return door.admit(header, method="GET", path="/v1/account", body=b"", now_s=now_s)


def test_signer_is_named() -> None:
    assert admit(Door(DOMAIN), nonce=1) == KEY.address


def test_replay_is_denied_while_good() -> None:
    door = Door(DOMAIN)
    ahead_s = NOW_S + REQUEST_AGE_S_MAX  # signed by a clock that is ahead
    admit(door, nonce=1, at_s=ahead_s)
    for now_s in (NOW_S, ahead_s, ahead_s + REQUEST_AGE_S_MAX):
        with pytest.raises(Unauthorized) as caught:
            admit(door, nonce=1, at_s=ahead_s, now_s=now_s)
        assert caught.value.code == "replayed_authorization"


def test_memory_lets_go_in_time() -> None:
    door = Door(DOMAIN, remembered_max=1)
    admit(door, nonce=1)
    later_s = NOW_S + 2 * REQUEST_AGE_S_MAX + 1
    assert admit(door, nonce=2, at_s=later_s, now_s=later_s) == KEY.address


def test_full_memory_puts_off() -> None:
    door = Door(DOMAIN, remembered_max=1)
    admit(door, nonce=1)
    with pytest.raises(Unavailable):
        admit(door, nonce=2)
    with pytest.raises(Unauthorized):
        admit(door, nonce=1)


@pytest.mark.parametrize("path", ["/v1/acc\udcff", "/ü"])
def test_path_must_be_ascii(path: str) -> None:
    with pytest.raises(SubletError):
        Door(DOMAIN).admit("Sublet x", method="GET", path=path, body=b"", now_s=NOW_S)
