"""``openapi.json``, made from the route table and the types.

Nothing is written twice: what is not in the table is not served, and what is served
is described here.
"""

import re
from functools import cache
from typing import Any

import msgspec

from sublet.base.limits import REQUEST_AGE_S_MAX, TEXT_LENGTH_MAX
from sublet.node.route import Route
from sublet.wire.message import PROTOCOL_VERSION, Fault

Bodies = dict[type, dict[str, Any]]  # of each type, its JSON media object

_REF = "#/components/schemas/{name}"
_TEXT = {"type": "string", "maxLength": TEXT_LENGTH_MAX}
_PART = re.compile(r"\{(\w+)\}")
_WORDS = {400: "refused", 429: "too many requests", 503: "unavailable; retry later"}
_DOMAIN = (
    "Sublet base64url(JSON {address, at_s, nonce, signature}): EIP-712 over "
    "ApiRequest(method, path, bodyHash, atS, nonce) in the market's domain; good for "
    f"{REQUEST_AGE_S_MAX} s either way, each nonce once"
)


@cache
def compute_openapi(routes: tuple[Route, ...]) -> bytes:
    """Describe these routes as OpenAPI 3.1. Pure."""
    kinds = {kind for r in routes for kind in (r.takes, r.gives) if kind is not None}
    ordered = sorted(kinds | {Fault}, key=lambda kind: kind.__name__)
    # The names in the refs are msgspec's: two types may share their short name.
    refs, schemas = msgspec.json.schema_components(ordered, ref_template=_REF)
    bodies: Bodies = {
        kind: {"application/json": {"schema": ref}}
        for kind, ref in zip(ordered, refs, strict=True)
    }
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _describe(
            route, bodies
        )
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Sublet market node",
                "version": str(PROTOCOL_VERSION),
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": paths,
            "components": {
                "schemas": _to_ecma(schemas),
                "securitySchemes": {
                    "signed": {
                        "type": "apiKey",
                        "in": "header",
                        "name": "Authorization",
                        "description": _DOMAIN,
                    }
                },
            },
        }
    )


def _describe(route: Route, bodies: Bodies) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PART.findall(route.path)
        ]
        + [
            {"name": name, "in": "query", "schema": {"type": "integer", "minimum": 0}}
            for name in route.query
        ]
        + [{"name": name, "in": "query", "schema": _TEXT} for name in route.texts],
        "responses": _describe_answers(route, bodies),
    }
    if route.takes is not None:
        said["requestBody"] = {"required": True, "content": bodies[route.takes]}
    if route.is_signed:
        said["security"] = [{"signed": []}]
    return said


def _describe_answers(route: Route, bodies: Bodies) -> dict[str, Any]:
    if route.is_socket:
        good: dict[str, Any] = {"101": {"description": f"WebSocket: {route.summary}"}}
    else:
        content = bodies[route.gives] if route.gives is not None else {route.media: {}}
        good = {"200": {"description": route.summary, "content": content}}
    faults = dict(_WORDS)
    if route.is_signed:
        faults |= {401: "not signed as it must be", 403: "not yours"}
    if _PART.search(route.path) or route.path.startswith("/v1/log/"):
        faults[404] = "no such thing here"
    if route.takes is not None:
        faults |= {409: "conflict", 413: "too large"}
    return good | {
        str(status): {"description": words, "content": bodies[Fault]}
        for status, words in sorted(faults.items())
    }


def _to_ecma(value: Any) -> Any:
    """Write Python's anchors as JSON Schema knows them."""
    if isinstance(value, dict):
        return {
            key: inner.replace(r"\A", "^").replace(r"\Z", "$")
            if key == "pattern" and isinstance(inner, str)
            else _to_ecma(inner)
            for key, inner in value.items()
        }
    return [_to_ecma(inner) for inner in value] if isinstance(value, list) else value
