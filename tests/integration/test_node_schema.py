"""A running node against its own description: no 5xx, nothing that it does not say.

Schemathesis reads ``openapi.json`` and makes requests of it, lawful and unlawful ones,
the same at each run.
"""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from requests.auth import AuthBase
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from sublet.wire.request import authorize
from sublet.wire.signature import Key
from sublet.wire.typed_data import Domain
from tests.fakes.world import World
from tests.integration.node_house import Guest, running_node, stock

OPERATIONS_MIN = 10  # or it looks at nothing
EXAMPLES = 4  # of each operation, in each way
WAIT_S = 30
# What a document means is no matter of its schema: lawful ones may be refused.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


class Signed(AuthBase):
    """Signs what is really sent, as a client would; then may spoil it."""

    def __init__(self, key: Key, domain: Domain, spoil: Callable[[str], str]) -> None:
        self._key, self._domain, self._spoil = key, domain, spoil

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body or b""
        header = authorize(
            key=self._key,
            domain=self._domain,
            method=request.method or "",
            path=request.path_url,
            body=body.encode() if isinstance(body, str) else body,
            at_s=int(time.time()),
            nonce=secrets.randbits(62),
        )
        request.headers["Authorization"] = self._spoil(header)
        return request


def _whole(header: str) -> str:
    return header


def _broken(header: str) -> str:
    at = secrets.randbelow(len(header))
    return header[:at] + secrets.choice("Aa0_ =.") + header[at + 1 :]


@pytest.mark.parametrize(
    ("who", "mode"),
    [
        ("nobody", GenerationMode.POSITIVE),
        ("nobody", GenerationMode.NEGATIVE),
        ("tenant", GenerationMode.POSITIVE),
        ("tenant", GenerationMode.NEGATIVE),
        ("forger", GenerationMode.POSITIVE),
    ],
)
async def test_answers_as_described(
    who: str, mode: GenerationMode, tmp_path: Path
) -> None:
    async with _house(tmp_path) as guest:
        spoil = {"tenant": _whole, "forger": _broken}.get(who)
        key, domain = guest.world.tenant, guest.world.domain
        auth = Signed(key, domain, spoil) if spoil else None
        _, raw = await guest.get("/openapi.json")
        look = partial(_probe, json.loads(raw), guest.url, auth, mode)
        assert await asyncio.to_thread(look) >= OPERATIONS_MIN
        assert (await guest.get("/readyz"))[0] == 200


def _probe(
    described: dict[str, Any], url: str, auth: AuthBase | None, mode: GenerationMode
) -> int:
    """Probe each operation; give how many of them."""
    schema, probed = schemathesis.openapi.from_dict(described), 0
    with requests.Session() as session:
        for found in schema.get_all_operations():
            operation = found.ok()
            if auth is not None and not operation.definition.raw.get("security"):
                continue  # nobody asks who it is

            @settings(
                max_examples=EXAMPLES,
                derandomize=True,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: Any) -> None:
                answer = case.call(
                    base_url=url,
                    session=session,
                    auth=auth,
                    timeout=WAIT_S,
                    allow_redirects=False,
                )
                assert answer.status_code < 500 or answer.status_code == 503
                case.validate_response(answer, checks=CHECKS)

            # Where nothing is asked, nothing can be asked wrongly.
            with contextlib.suppress(Unsatisfiable):
                check()
                probed += 1
    return probed


@contextlib.asynccontextmanager
async def _house(tmp_path: Path) -> AsyncIterator[Guest]:
    plenty = {"requests_per_s": 1_000_000, "requests_burst": 1_000_000}
    async with running_node(tmp_path / "node", World(), limits=plenty) as guest:
        links = await stock(guest)
        yield guest
        for link in links:
            await link.socket.close()
