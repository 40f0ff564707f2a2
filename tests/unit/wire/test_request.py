"""Signed requests: good for one request, one market, half a minute."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest

from sublet.base.errors import Refused
from sublet.wire.request import Unauthorized, authorize, check_authorization
from sublet.wire.signature import Key
from sublet.wire.typed_data import Domain, compile_struct, digest_of

NOW_S = 1_790_000_000
KEY = Key.generate(b"\x11" * 32)
DOMAIN = Domain("0x" + "77" * 32, 31337, "0x" + "ab" * 20)
ASKED: dict[str, Any] = {
    "domain": DOMAIN,
    "method": "GET",
    "path": "/v1/leases?all=1",
    "body": b"",
}
HEADER = authorize(key=KEY, at_s=NOW_S, nonce=5, **ASKED)


def test_caller_is_named() -> None:
    assert HEADER.startswith("Sublet ")
    found = check_authorization(HEADER, now_s=NOW_S, **ASKED)
    assert found == (KEY.address, 5)


def test_signed_type_is_the_documented_one() -> None:
    members = (
        ("method", "string"),
        ("path", "string"),
        ("bodyHash", "bytes32"),
        ("atS", "uint64"),
        ("nonce", "uint64"),
    )
    empty = "0xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    struct_hash = compile_struct("ApiRequest", {"ApiRequest": members})(
        {
            "method": "GET",
            "path": "/v1/leases?all=1",
            "bodyHash": empty,
            "atS": NOW_S,
            "nonce": 5,
        }
    )
    digest = digest_of(separator=DOMAIN.separator, struct_hash=struct_hash)
    by_hand = (
        f'{{"address":"{KEY.address}","at_s":{NOW_S},"nonce":5,'
        f'"signature":"0x{KEY.sign(digest).hex()}"}}'
    )
    encoded = urlsafe_b64encode(by_hand.encode()).decode().rstrip("=")
    assert "Sublet " + encoded == HEADER


@pytest.mark.parametrize(
    "change",
    [
        {"method": "POST"},
        {"path": "/v1/leases"},
        {"body": b"{}"},
        {"domain": Domain("0x" + "78" * 32, 31337, "0x" + "ab" * 20)},  # other market
        {"domain": Domain("0x" + "77" * 32, 1, "0x" + "ab" * 20)},  # other chain
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_request_is_not_covered(change: dict[str, Any]) -> None:
    with pytest.raises(Unauthorized) as error:
        check_authorization(HEADER, now_s=NOW_S, **(ASKED | change))
    assert error.value.code == "forged_authorization"
    assert isinstance(error.value, Refused)


@pytest.mark.parametrize("skew_s", [-30, 30])
def test_half_a_minute_either_way_is_good(skew_s: int) -> None:
    check_authorization(HEADER, now_s=NOW_S + skew_s, **ASKED)


@pytest.mark.parametrize("skew_s", [-3_600, -31, 31, 3_600])
def test_stale_and_future_requests_are_refused(skew_s: int) -> None:
    with pytest.raises(Unauthorized) as error:
        check_authorization(HEADER, now_s=NOW_S + skew_s, **ASKED)
    assert error.value.code == "stale_authorization"
    assert "clock" in str(error.value)


def _header(text: str) -> str:
    return "Sublet " + urlsafe_b64encode(text.encode()).decode().rstrip("=")


SIGNATURE = "0x" + "00" * 65


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "no_authorization"),
        ("", "no_authorization"),
        ("Bearer abc", "bad_authorization"),
        ("sublet " + HEADER[7:], "bad_authorization"),
        ("Sublet", "bad_authorization"),
        ("Sublet !!!!", "bad_authorization"),
        ("Sublet a", "bad_authorization"),
        ("Sublet ä", "bad_authorization"),
        (HEADER + "=", "bad_authorization"),  # padding: another way to write it
        (HEADER + "\n", "bad_authorization"),
        (HEADER[:40] + " " + HEADER[40:], "bad_authorization"),
        ("Sublet " + "A" * 100_000, "bad_authorization"),
        (_header("{}"), "bad_authorization"),
        (_header("[" * 700), "bad_authorization"),
        (_header('{"v":2,"address":1}'), "bad_authorization"),
        (
            _header(
                f'{{"address":"{KEY.address}","at_s":{NOW_S},"nonce":5,'
                f'"signature":"{SIGNATURE}"}}'
            ),
            "bad_authorization",
        ),
        (
            _header(
                f'{{"address":"{KEY.address}","at_s":{NOW_S},"nonce":-5,'
                f'"signature":"{SIGNATURE}"}}'
            ),
            "bad_authorization",
        ),
    ],
)
def test_malformed_headers_are_refused(header: str | None, code: str) -> None:
    with pytest.raises(Unauthorized) as error:
        check_authorization(header, now_s=NOW_S, **ASKED)
    assert error.value.code == code


def test_nobody_speaks_for_another() -> None:
    other = Key.generate(b"\x22" * 32)
    mine = authorize(key=KEY, at_s=NOW_S, nonce=6, **ASKED)
    encoded = mine.removeprefix("Sublet ")
    raw = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    theirs = _header(raw.replace(KEY.address, other.address))
    with pytest.raises(Unauthorized) as error:
        check_authorization(theirs, now_s=NOW_S, **ASKED)
    assert error.value.code == "forged_authorization"


def test_endless_paths_are_refused() -> None:
    asked = ASKED | {"path": "/" + "a" * 2_048}
    header = authorize(key=KEY, at_s=NOW_S, nonce=7, **asked)
    with pytest.raises(Unauthorized) as error:
        check_authorization(header, now_s=NOW_S, **asked)
    assert error.value.code == "bad_authorization"
