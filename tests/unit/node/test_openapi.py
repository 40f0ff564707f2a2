"""The API's description and the API are one."""

import re
from typing import Any

import msgspec
from openapi_spec_validator import validate

from sublet.node.openapi import compute_openapi
from sublet.node.route import ROUTES

API: dict[str, Any] = msgspec.json.decode(compute_openapi(ROUTES))


def test_description_is_valid() -> None:
    validate(API)


def test_every_route_is_described() -> None:
    described = {(m, p) for p, methods in API["paths"].items() for m in methods}
    assert described == {(route.method.lower(), route.path) for route in ROUTES}


def test_no_route_stands_twice() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


def test_patterns_are_those_of_json_schema() -> None:
    text = msgspec.json.encode(API).decode()
    assert re.search(r"\\\\[AZ]", text) is None
    lease_id = API["components"]["schemas"]["Lease"]["properties"]["id"]
    assert lease_id["pattern"] == "^0x[0-9a-f]{64}$"


def test_signed_calls_say_so() -> None:
    account = API["paths"]["/v1/account"]["get"]
    assert account["security"] == [{"signed": []}]
    assert {"200", "401", "403", "429", "503"} <= account["responses"].keys()
    assert "security" not in API["paths"]["/v1/market"]["get"]
