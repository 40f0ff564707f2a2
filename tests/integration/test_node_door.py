"""A node's door: signed requests, rates, slow and greedy clients, health, the page."""

import asyncio
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from openapi_spec_validator import validate

from sublet.wire.request import authorize
from sublet.wire.typed_data import Domain
from tests.fakes.world import World
from tests.integration.node_house import (
    STRANGER,
    Guest,
    fault_code,
    running_node,
)

PATH = "/v1/account"


@pytest.fixture
async def guest(tmp_path: Path) -> AsyncIterator[Guest]:
    async with running_node(tmp_path / "node", World()) as guest:
        yield guest


def make_header(
    guest: Guest,
    *,
    path: str = PATH,
    method: str = "GET",
    body: bytes = b"",
    age_s: int = 0,
    domain: Domain | None = None,
) -> str:
    return authorize(
        key=STRANGER,
        domain=domain or guest.world.domain,
        method=method,
        path=path,
        body=body,
        at_s=int(time.time()) - age_s,
        nonce=1,
    )


def claim_other_key(header: str) -> str:
    scheme, _, encoded = header.partition(" ")
    raw = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    forged = raw.replace(STRANGER.address.encode(), b"0x" + b"11" * 20)
    return scheme + " " + urlsafe_b64encode(forged).decode().rstrip("=")


def other_market(guest: Guest) -> Domain:
    return msgspec.structs.replace(guest.world.domain, market="0x" + "22" * 32)


DENIALS: tuple[tuple[str, Callable[[Guest], str | None]], ...] = (
    # the code, and how the header is made
    ("no_authorization", lambda guest: None),
    ("bad_authorization", lambda guest: "Bearer abc"),
    ("bad_authorization", lambda guest: "Sublet !!!"),
    ("bad_authorization", lambda guest: "Sublet " + "A" * 2_000),
    ("stale_authorization", lambda guest: make_header(guest, age_s=60)),
    ("stale_authorization", lambda guest: make_header(guest, age_s=-60)),
    ("forged_authorization", lambda guest: make_header(guest, path="/v1/leases")),
    ("forged_authorization", lambda guest: make_header(guest, path=PATH + "?a=1")),
    ("forged_authorization", lambda guest: make_header(guest, method="POST")),
    ("forged_authorization", lambda guest: make_header(guest, body=b"tampered")),
    ("forged_authorization", lambda guest: claim_other_key(make_header(guest))),
)


@pytest.mark.parametrize(("code", "make"), DENIALS)
async def test_unproved_caller_is_denied(
    guest: Guest, code: str, make: Callable[[Guest], str | None]
) -> None:
    header = make(guest)
    headers = {"Authorization": header} if header else {}
    async with guest.http.get(guest.url + PATH, headers=headers) as answer:
        assert (answer.status, fault_code(await answer.read())) == (401, code)
        assert answer.headers["Sublet-Fault"] == code


async def test_other_markets_signature_is_denied(guest: Guest) -> None:
    domain = Domain(
        market="0x" + "22" * 32,
        chain_id=guest.world.domain.chain_id,
        contract=guest.world.domain.contract,
    )
    headers = {"Authorization": make_header(guest, domain=domain)}
    async with guest.http.get(guest.url + PATH, headers=headers) as answer:
        assert (answer.status, fault_code(await answer.read())) == (
            401,
            "forged_authorization",
        )


async def test_nonce_is_good_once(guest: Guest) -> None:
    headers = {"Authorization": make_header(guest)}
    async with guest.http.get(guest.url + PATH, headers=headers) as answer:
        assert answer.status == 200
    async with guest.http.get(guest.url + PATH, headers=headers) as answer:
        assert fault_code(await answer.read()) == "replayed_authorization"


async def test_greedy_address_is_slowed(tmp_path: Path) -> None:
    limits = {"requests_per_s": 1, "requests_burst": 5}
    async with running_node(tmp_path / "node", World(), limits=limits) as guest:
        statuses = [(await guest.get("/v1/offers"))[0] for _ in range(8)]
        assert statuses.count(429) >= 2
        assert statuses[:4] == [200] * 4
        async with guest.http.get(guest.url + "/v1/offers") as answer:
            assert int(answer.headers["Retry-After"]) >= 1
        assert (await guest.get("/healthz"))[0] == 200


async def talk_raw(guest: Guest, sent: bytes) -> bytes:
    """Send bytes as they are; give what comes back until the node hangs up."""
    parts = urlsplit(guest.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(sent)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


async def test_unfinished_request_is_cut(tmp_path: Path) -> None:
    limits = {"keepalive_s": 1, "body_s": 1}
    async with running_node(tmp_path / "node", World(), limits=limits) as guest:
        assert await talk_raw(guest, b"") == b""
        assert await talk_raw(guest, b"GET /v1/market HTTP/1.1\r\nHost: x\r\nA:") == b""
        slow = b"POST /v1/documents HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
        assert b"too_slow" in await talk_raw(guest, slow)
        assert (await guest.get("/healthz"))[0] == 200


HOSTILE_HEADS = (
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",  # endless path
    b"GET / HTTP/1.1\r\nHost: x\r\nA: "
    + b"a" * 100_000
    + b"\r\n\r\n",  # endless header
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 5_000 + b"\r\n",  # many headers
    b"\x16\x03\x01\x02\x00\x01\x00",  # TLS to a plain port
    b"GET /v1/account\xff HTTP/1.1\r\nHost: x\r\n\r\n",  # no ASCII
)


@pytest.mark.parametrize("head", HOSTILE_HEADS)
async def test_hostile_head_is_survived(guest: Guest, head: bytes) -> None:
    answer = await talk_raw(guest, head + b"\r\n\r\n")
    assert b" 500 " not in answer.partition(b"\r\n")[0]
    assert (await guest.get("/healthz"))[0] == 200


async def test_compressed_body_is_refused(guest: Guest) -> None:
    headers = {"Content-Encoding": "gzip"}
    url = guest.url + "/v1/documents"
    async with guest.http.post(url, data=b"\x1f\x8b", headers=headers) as answer:
        assert fault_code(await answer.read()) == "bad_encoding"


async def test_health_tells_ready(guest: Guest) -> None:
    assert await guest.get("/healthz") == (200, b"ok\n")
    assert await guest.get("/readyz") == (200, b"ready\n")


async def test_metrics_count_what_happened(guest: Guest) -> None:
    await guest.accept(guest.world.credit(STRANGER.address, 5))
    await guest.post("/v1/documents", b"{")
    _, body = await guest.get("/metrics")
    text = body.decode()
    assert 'sublet_documents_appended_total{type="Credit"} 1.0' in text
    assert "sublet_log_entries 2.0" in text
    assert 'sublet_leases_open{phase="running"} 0.0' in text
    assert "sublet_commit_seconds_count 2.0" in text
    assert 'route="/v1/documents",status="200"} 1.0' in text


async def test_described_api_is_valid(guest: Guest) -> None:
    status, body = await guest.get("/openapi.json")
    assert status == 200
    validate(msgspec.json.decode(body))


async def test_described_paths_are_served(guest: Guest) -> None:
    _, body = await guest.get("/openapi.json")
    for path, methods in msgspec.json.decode(body)["paths"].items():
        url = guest.url + re.sub(r"\{\w+\}", "0x" + "0" * 64, path)
        for method in methods:
            async with guest.http.request(method, url) as answer:
                code = answer.headers.get("Sublet-Fault")
                assert code not in ("no_such_endpoint", "wrong_method", "internal")


async def test_page_allows_its_own_script_only(guest: Guest) -> None:
    async with guest.http.get(guest.url + "/") as answer:
        html = await answer.text()
        policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert not re.search(r"(src|href)=\"https?:", html)
    assert "innerHTML" not in html
