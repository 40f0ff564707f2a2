"""SDL files, Akash's own and wrong ones: every fault with its line, key and cure."""

import json

import pytest

from sublet.base.errors import Faults, Refused
from sublet.workload.deploy.sdl import parse_sdl
from sublet.workload.deploy.sdl_type import Credentials
from tests.unit.workload.deploy.sdl_text import DATA, SDL, line_of

REFUSED = sorted([*DATA.glob("input/invalid/*"), *DATA.glob("input/schema-only*/*")])
AWESOME = json.loads((DATA / "awesome-akash.json").read_text())


def faults_of(text: str) -> list[Refused]:
    """Give what is refused about a file."""
    with pytest.raises(Faults) as caught:
        parse_sdl(text.encode(), file="deploy.yaml")
    return [fault for fault in caught.value.faults if isinstance(fault, Refused)]


def test_sound_file_is_read() -> None:
    stack = parse_sdl(SDL.encode(), file="deploy.yaml")
    assert stack.services["web"].env == ("MODE=fast",)
    assert stack.deployment["web"]["west"].count == 2


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_refuses_akashs_invalid_files(path) -> None:
    for fault in faults_of(path.read_text()):
        assert fault.message.startswith(f"deploy.yaml:{fault.detail['line']}: ")
        assert fault.field and fault.detail["cure"]


def test_there_are_files_to_refuse() -> None:
    assert len(REFUSED) == 15


@pytest.mark.parametrize(("name", "known"), AWESOME.items())
def test_real_files_and_all_their_faults(name: str, known: list) -> None:
    raw = (DATA / "awesome-akash" / name).read_bytes()
    faults = []
    try:
        parse_sdl(raw, file=name)
    except Faults as fault:
        faults = fault.faults
    assert [[one.detail["line"], one.field] for one in faults] == known
    lines = raw.decode().split("\n")
    for one in faults:
        # What is missing stands at the line of the key that it is missing in.
        key = one.field.rpartition(".")[2].partition("[")[0]
        assert one.code == "missing_key" or key in lines[one.detail["line"] - 1]


def test_real_files_are_of_both_kinds() -> None:
    assert len(AWESOME) == 42
    assert sum(map(bool, AWESOME.values())) == 28


# What stands in the sound file, what is put in its place, and what is then said:
# (key, words of the cure).
WRONG = [
    ("    image: nginx:1.27\n", "", "services.web.image", "name an image"),
    ("units: 0.5", "units: -1", "profiles.compute.small.resources.cpu.units", "500m"),
    ("units: 0.5", "units: 9m", "profiles.compute.small.resources.cpu.units", "0.01"),
    ("512Mi", "4GB", "profiles.compute.small.resources.memory.size", "4Gi"),
    ("512Mi", "3Ti", "profiles.compute.small.resources.memory.size", "2Ti"),
    ("size: 1Gi", "size: 1Mi", "profiles.compute.small.resources.storage[0].size", "5"),
    ("name: data", "x: 1", "profiles.compute.small.resources.storage[1].x", "remove"),
    ("port: 8080", "port: 0", "services.web.expose[0].port", "1 to 65535"),
    ("as: 80\n", "as: 70000\n", "services.web.expose[0].as", "1 to 65535"),
    ("as: 80\n", "proto: HTTP\n", "services.web.expose[0].proto", "TCP, UDP"),
    ("www.example.org", "WWW", "services.web.expose[0].accept[0]", "small letters"),
    ("MODE=fast", "1A=b", "services.web.env[0]", "NAME=value"),
    ("    env:", "    environment:", "services.web.environment", "env:, a list"),
    ("    env:", "    envs:", "services.web.envs", "did you mean env?"),
    ("mount: /data", "mount: data", "services.web.params.storage.data.mount", "/data"),
    ("        data:\n", "        x:\n", "services.web.params.storage.x", "default"),
    ("nvidia:", "amd:", "…gpu.attributes.vendor.amd", "only nvidia"),
    ("ram: 24Gi", "ram: 24G", "…gpu.attributes.vendor.nvidia[0].ram", "80Gi"),
    ("model: rtx4090", "model: rtx 4090", "…vendor.nvidia[0].model", "without blanks"),
    ("gpu:\n          units: 1", "gpu:\n          units: 0", "…gpu.units", "how many"),
    ("persistent: true", "persistent: maybe", "…attributes.persistent", "true or"),
    ("persistent: true", "class: beta1", "…attributes.class", "persistent: true"),
    ("denom: uakt", "denom: usd", "…pricing.small.denom", "uact, uakt"),
    ("amount: 1000", "amount: 0", "…pricing.small.amount", "above 0"),
    ("amount: 1000", "amount: -1", "…pricing.small.amount", "above 0"),
    ("        region: us", "        1x: us", "…attributes.1x", "begin with a letter"),
    ("count: 2", "count: 0", "deployment.web.west.count", "from 1"),
    ("profile: small", "profile: big", "deployment.web.west.profile", "define it"),
    (
        "    west:\n      profile",
        "    east:\n      profile",
        "deployment.web.east",
        "de",
    ),
    ("deployment:\n  web:", "deployment:\n  db:", "deployment.db", "under services"),
    ('"2.0"', "2.0.1", "version", "with the quotes"),
    ("- global: true", "- global: false", "services", "global: true to one"),
    ("- global: true", "- global: true\n            ip: a", "….to[0].ip", "endpoints:"),
    ("deployment:", "include: x\ndeployment:", "include", "a list"),
    ("deployment:", "surprise: x\ndeployment:", "surprise", "known here: version"),
]


@pytest.mark.parametrize(("old", "new", "key", "cure"), WRONG)
def test_names_line_key_and_cure(old: str, new: str, key: str, cure: str) -> None:
    text = SDL.replace(old, new, 1)
    assert text != SDL
    faults = faults_of(text)
    told = {fault.field: fault for fault in faults}
    found = next(
        (f for name, f in told.items() if name.endswith(key.lstrip("…"))), None
    )
    assert found is not None, list(told)
    assert cure in str(found.detail["cure"])
    assert 1 <= int(found.detail["line"]) <= text.count("\n")


def test_faulty_line_is_that_of_the_key() -> None:
    text = SDL.replace("count: 2", "count: none")
    [fault] = faults_of(text)
    assert fault.detail["line"] == line_of(text, "count: none")


def test_all_faults_are_told_at_once() -> None:
    text = SDL.replace("512Mi", "4GB").replace("8080", "0").replace("2Gi", "x")
    assert [fault.field.rpartition(".")[2] for fault in faults_of(text)] == [
        "port",
        "size",
        "size",
    ]


def test_a_hole_causes_no_second_fault() -> None:
    [fault] = faults_of(SDL.partition("deployment:")[0])
    assert (fault.code, fault.field) == ("missing_key", "deployment")


def test_endpoint_has_to_be_used() -> None:
    text = SDL + "endpoints:\n  spare:\n    kind: ip\n"
    assert [fault.field for fault in faults_of(text)] == ["endpoints.spare"]


def test_persistent_volume_needs_a_mount() -> None:
    text = SDL.replace(SDL[SDL.index("    params:") : SDL.index("profiles:")], "")
    assert [fault.field for fault in faults_of(text)] == [
        "services.web.params.storage.data.mount"
    ]


def test_credentials_never_show_a_password() -> None:
    given = Credentials(host="h", username="u", password="hunter2")
    assert "hunter2" not in repr(given)
