"""Groups and manifest: equal to what Akash's own tools write."""

import hashlib
import json

import pytest

from sublet.workload.deploy.sdl import parse_sdl
from sublet.workload.deploy.sdl_manifest import compute_version, make_groups
from tests.unit.workload.deploy.sdl_text import DATA, SDL

INPUTS = sorted(DATA.glob("input/v2.*/*/input.yaml"))


def groups_of(text: str):
    return make_groups(parse_sdl(text.encode(), file="deploy.yaml"))


def test_there_are_inputs() -> None:
    assert len(INPUTS) == 7


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.parent.name)
def test_equals_akashs_own(path) -> None:
    manifest, groups = groups_of(path.read_text())
    folder = DATA / "output-fixtures" / path.parent.relative_to(DATA / "input")
    assert manifest == json.loads((folder / "manifest.json").read_text())
    assert groups == json.loads((folder / "group-specs.json").read_text())


def with_second_service(text: str) -> str:
    """Add a service that shares the compute profile and the placement."""
    second = (
        "  api:\n    image: api:1\n"
        "    expose: [{port: 3000, to: [{global: true}]}]\n"
        "    params: {storage: {data: {mount: /d}}}\n"
    )
    placed = "  api:\n    west:\n      profile: small\n      count: 3\n"
    return text.replace("profiles:", second + "profiles:", 1) + placed


def test_first_version_keeps_services_apart() -> None:
    _, [group] = groups_of(with_second_service(SDL))
    units = [(unit["resource"]["id"], unit["count"]) for unit in group["resources"]]
    assert units == [(1, 3), (2, 2)]


def test_second_version_merges_what_shares_a_profile() -> None:
    text = with_second_service(SDL).replace('"2.0"', '"2.1"')
    [made], [group] = groups_of(text)
    [unit] = group["resources"]
    assert unit["count"] == 5
    kinds = [each.get("kind", 0) for each in unit["resource"]["endpoints"]]
    assert kinds == [1, 0]  # the API's port, then the web's HTTP
    assert [service["resources"]["id"] for service in made["services"]] == [1, 1]


def test_address_used_twice_counts_twice() -> None:
    text = SDL.replace('"2.0"', '"2.1"').replace(
        "- global: true", "- {global: true, ip: one}"
    )
    text = text.replace(
        "    params:",
        "      - {port: 9, to: [{global: true, ip: one}]}\n    params:",
    )
    [made], _ = groups_of(text + "endpoints: {one: {kind: ip}}\n")
    numbers = [e["endpointSequenceNumber"] for e in made["services"][0]["expose"]]
    assert numbers == [2, 2]


def test_first_version_forgets_an_address() -> None:
    credentials = (
        "    credentials: {host: ' h ', username: u, password: secret, "
        "email: a@b.org}\n"
    )
    text = SDL.replace("    env:", credentials + "    env:")
    first = groups_of(text)[0][0]["services"][0]["credentials"]
    second = groups_of(text.replace('"2.0"', '"2.1"'))[0][0]["services"][0][
        "credentials"
    ]
    assert (first["host"], first["email"]) == (" h ", "")
    assert (second["host"], second["email"]) == ("h", "a@b.org")


def test_volumes_are_sorted_as_go_does() -> None:
    volumes = (
        "storage: [{name: a, size: 1Gi}, {name: b, size: 1Gi}, {name: c, size: 5Mi}]"
    )
    start, end = SDL.index("storage:\n          - size"), SDL.index("        gpu:")
    text = SDL[:start] + volumes + "\n" + SDL[end:]
    text = text.replace("        data:\n          mount", "        a:\n          mount")
    [made], _ = groups_of(text)
    names = [each["name"] for each in made["services"][0]["resources"]["storage"]]
    assert names == ["c", "b", "a"]


def test_version_is_a_hash_of_sorted_json() -> None:
    manifest = [{"b": "<&>", "a": None}]
    text = '[{"a":null,"b":"\\u003c\\u0026\\u003e"}]'
    assert compute_version(manifest) == hashlib.sha256(text.encode()).hexdigest()
