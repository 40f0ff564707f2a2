"""One question to a price feed over HTTP, by its manners: small, quick, and no detours.

A key is read from a file of its own, is sent in a header and nowhere else, and only over
TLS or to this machine. Redirects are not followed: they would carry it to somebody else.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path

import aiohttp

from sublet.base.errors import Refused
from sublet.service.price_port import BadAnswer, FeedBusy, FeedDown, FeedRefused

TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 262_144
KEY_BYTES_MAX = 1_024
RETRY_S_MAX = 3_600  # that a feed may have itself left alone for


class FeedKey:
    """A key for a feed; shows itself to nobody but ``reveal``'s caller."""

    def __init__(self, text: str) -> None:
        """Take the key."""
        self._text = text

    def reveal(self) -> str:
        """Give the key, for a header."""
        return self._text


def read_key(place: Path) -> FeedKey:
    """Read a key from its file.

    Raises:
        Refused: ``bad_feed_key``: no such file, or nothing in it that a header takes.
    """
    try:
        with place.expanduser().open("rb") as file:
            text = file.read(KEY_BYTES_MAX + 1).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    if not text or len(text) > KEY_BYTES_MAX or not text.isprintable() or " " in text:
        raise Refused(
            f"key_file: {place} holds no key; write it there as one line, for your eyes "
            "only (chmod 600)",
            code="bad_feed_key",
            field="key_file",
        )
    return FeedKey(text)


def check_url(url: str, *, field: str) -> str:
    """Give a feed's address without a slash at its end.

    Raises:
        Refused: ``bad_feed_url``: not https, nor http on this machine.
    """
    import yarl

    try:
        parsed = yarl.URL(url)
        host = parsed.host or ""
    except ValueError:
        parsed, host = yarl.URL(), ""
    is_here = host == "localhost" or _is_loopback(host)
    if (
        not host
        or parsed.user
        or not (parsed.scheme == "https" or (parsed.scheme == "http" and is_here))
    ):
        raise Refused(
            f"{field}: {url[:80]!r} is no address of a feed; write https://HOST/PATH "
            "(http only on this machine)",
            code="bad_feed_url",
            field=field,
        )
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


async def fetch(
    http: aiohttp.ClientSession,
    url: str,
    *,
    source: str,
    params: Sequence[tuple[str, str]],
    headers: Mapping[str, str],
) -> bytes:
    """Ask once, and give the body of the answer.

    Raises:
        FeedDown: no answer in time, or a status that says nothing of use.
        FeedBusy: status 429.
        FeedRefused: status 401 or 403.
        BadAnswer: longer than ``ANSWER_BYTES_MAX``.
    """
    limit = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with http.get(
            url,
            params=params,
            headers={"Accept-Encoding": "identity", **headers},
            timeout=limit,
            allow_redirects=False,
        ) as answer:
            _check_status(answer, source)
            body = await answer.content.read(ANSWER_BYTES_MAX + 1)
            while len(body) <= ANSWER_BYTES_MAX and (
                more := await answer.content.read(ANSWER_BYTES_MAX + 1 - len(body))
            ):
                body += more
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise FeedDown(f"{source} does not answer ({type(error).__name__})") from error
    if len(body) > ANSWER_BYTES_MAX:
        raise BadAnswer(f"{source} answered more than {ANSWER_BYTES_MAX} bytes")
    return body


def _check_status(answer: aiohttp.ClientResponse, source: str) -> None:
    if answer.status == HTTPStatus.OK:
        return
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        told = answer.headers.get("Retry-After", "")
        is_number = told.isascii() and told.isdigit() and len(told) <= 6
        raise FeedBusy(
            f"{source} is asked too often",
            retry_after_s=min(int(told), RETRY_S_MAX) if is_number else 0,
        )
    if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise FeedRefused(
            f"{source} does not take this key (status {answer.status}); give one with "
            "key_file in the settings"
        )
    raise FeedDown(f"{source} answered with status {answer.status}")
