"""Signed HTTP requests: who asks, proved for one request, for half a minute.

The caller signs method, path, body hash, time and a nonce as typed data of the
market, so that a request cannot be replayed elsewhere. That a nonce is used once only
is for the node to remember; here is everything that needs no memory.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Annotated

from msgspec import Meta, Struct

from sublet.base import limits
from sublet.base.errors import PeerFault, Refused
from sublet.base.ids import Address, Digest
from sublet.core.member import Salt, Seconds
from sublet.wire.codec import UnsupportedVersion, decode, encode
from sublet.wire.signature import Key, recover
from sublet.wire.typed_data import Domain, compile_class, digest_of

SCHEME = "Sublet "
HEADER_LENGTH_MAX = 1_024
PATH_LENGTH_MAX = 2_048

_String = Annotated[str, Meta(extra={"abi": "string"})]


class ApiRequest(Struct, frozen=True):
    """What is signed. The class name and its fields are the EIP-712 type."""

    method: _String  # upper case
    path: _String  # with the query
    body_hash: Digest  # SHA-256
    at_s: Seconds
    nonce: Salt


class Authorization(Struct, frozen=True, forbid_unknown_fields=True):
    """What the header carries."""

    address: Address
    at_s: Seconds
    nonce: Salt
    signature: Annotated[str, Meta(pattern=r"\A0x[0-9a-f]{130}\Z")]


class Unauthorized(Refused):
    """The request does not prove who asks.

    Codes: ``no_authorization`` (no header), ``bad_authorization`` (malformed),
    ``stale_authorization`` (too old or from the future), ``forged_authorization``
    (another request, market or key was signed).
    """

    code = "bad_authorization"


def authorize(
    *,
    key: Key,
    domain: Domain,
    method: str,
    path: str,
    body: bytes,
    at_s: int,
    nonce: int,
) -> str:
    """Write the ``Authorization`` header of one request.

    Args:
        key: the caller's.
        domain: of the market that is asked.
        method: upper case.
        path: as sent, with the query.
        body: as sent; empty where there is none.
        at_s: now.
        nonce: random, 0 to 2^63 - 1; never the same twice within a minute.
    """
    request = ApiRequest(method, path, _hash(body), at_s, nonce)
    authorization = Authorization(
        address=key.address,
        at_s=at_s,
        nonce=nonce,
        signature="0x" + key.sign(_digest(request, domain)).hex(),
    )
    return SCHEME + urlsafe_b64encode(encode(authorization)).decode().rstrip("=")


def check_authorization(
    header: str | None,
    *,
    domain: Domain,
    method: str,
    path: str,
    body: bytes,
    now_s: int,
) -> tuple[Address, int]:
    """Check who made a request; give the address and the nonce.

    The caller refuses a pair that it has seen within the last minute.

    Raises:
        Unauthorized: see there.
    """
    given = _read_header(header)
    if abs(now_s - given.at_s) > limits.REQUEST_AGE_S_MAX:
        raise Unauthorized(
            f"the request was signed {now_s - given.at_s} s ago and is good for "
            f"{limits.REQUEST_AGE_S_MAX} s either way; set the clock",
            code="stale_authorization",
            detail={"now_s": now_s, "at_s": given.at_s},
        )
    if len(path) > PATH_LENGTH_MAX:
        raise Unauthorized(f"a path has at most {PATH_LENGTH_MAX} characters")
    request = ApiRequest(method, path, _hash(body), given.at_s, given.nonce)
    try:
        signer = recover(
            _digest(request, domain), bytes.fromhex(given.signature.removeprefix("0x"))
        )
    except PeerFault as exc:
        raise Unauthorized(f"the signature is bad: {exc}") from exc
    if signer != given.address:
        raise Unauthorized(
            f"{given.address} did not sign this request of this market; sign method, "
            "path with query, body hash, time and nonce exactly as they are sent",
            code="forged_authorization",
        )
    return signer, given.nonce


def _read_header(header: str | None) -> Authorization:
    if not header:
        raise Unauthorized(
            "this call needs an Authorization header", code="no_authorization"
        )
    if len(header) > HEADER_LENGTH_MAX or not header.startswith(SCHEME):
        raise Unauthorized("the Authorization header is: Sublet, a space, base64url")
    encoded = header.removeprefix(SCHEME)
    try:
        raw = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except ValueError as exc:
        raise Unauthorized("the Authorization header is not base64url") from exc
    if urlsafe_b64encode(raw).decode().rstrip("=") != encoded:
        raise Unauthorized("the Authorization header is not canonical base64url")
    try:
        return decode(raw, Authorization, size_max=HEADER_LENGTH_MAX)
    except (PeerFault, UnsupportedVersion) as exc:
        raise Unauthorized(f"the Authorization header is malformed: {exc}") from exc


def _hash(body: bytes) -> Digest:
    return "0x" + sha256(body).hexdigest()


def _digest(request: ApiRequest, domain: Domain) -> Digest:
    return digest_of(
        separator=domain.separator, struct_hash=compile_class(ApiRequest)(request)
    )
