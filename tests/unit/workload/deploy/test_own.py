"""sublet.yaml: what it says, and the schema that is published of it."""

import json
import re
from pathlib import Path

import pytest

from sublet.base.errors import Faults
from sublet.cli.deploy_text import render_schema
from sublet.wire.message import Volume
from sublet.workload.deploy.file import read_file
from sublet.workload.deploy.own import OwnFile, OwnService
from sublet.workload.deploy.plan import Gpus, Port, make_options

ROOT = Path(__file__).parents[4]
OWN = """\
# yaml-language-server: $schema=docs/schema/sublet.schema.json
sublet: 1
name: my-app
services:
  web:
    image: nginx:1.27
    after: [trainer]
    ports: [8080]
    max_price: 0.40
  trainer:
    image: ghcr.io/me/train:2
    command: [python, train.py]
    env: {EPOCHS: 3}
    copies: 2
    cpus: 0.5
    memory: 2GiB
    disk: 10GB
    gpu: {model: h100, count: 2, memory: 80GB}
    keep: ckpt
    regions: [DE]
    egress: [huggingface.co:443]
"""


def read(text: str):
    return read_file(text.encode(), file="sublet.yaml", name="folder")


def test_everything_is_read() -> None:
    found = read(OWN)
    trainer, web = found.plan.services
    assert (found.kind, found.plan.name) == ("sublet", "my-app")
    assert trainer.gpus == Gpus(2, ("h100",), 80_000_000_000)
    assert (trainer.cpus_milli, trainer.disk_bytes) == (500, 10_000_000_000)
    assert trainer.checkpoint == "ckpt" and trainer.env == {"EPOCHS": "3"}
    assert web.ports == (Port(8080),) and web.price_hour_max == 400_000
    assert [name for name, _ in found.plan.copies()] == [
        "my-app.trainer.1",
        "my-app.trainer.2",
        "my-app.web.1",
    ]
    assert not trainer.unmet and not web.unmet


def test_folders_are_kept_where_they_are_named() -> None:
    keep = "keep: [/data, /var/lib/db]"
    trainer, _ = read(OWN.replace("keep: ckpt", keep)).plan.services
    assert not trainer.unmet and not trainer.checkpoint
    assert make_options(trainer, "x")["volumes"] == (
        Volume("data", "/data", is_persistent=True),
        Volume("var-lib-db", "/var/lib/db", is_persistent=True),
    )
    for bad in ("[ckpt, /data]", "[a, b]", "/etc", "[/data, /data/x]"):
        trainer, _ = read(OWN.replace("keep: ckpt", f"keep: {bad}")).plan.services
        assert "/data" in str(trainer.unmet), bad


@pytest.mark.parametrize(
    ("written", "command", "lengthens"),
    [
        ("args: [--epochs, '3']", ("--epochs", "3"), True),
        ("command: [train]\n    args: [--fast]", ("train", "--fast"), False),
        ("args: []", (), False),
    ],
)
def test_arguments_follow_command_or_entrypoint(
    written: str, command: tuple[str, ...], lengthens: bool
) -> None:
    found = read(OWN.replace("command: [python, train.py]", written))
    trainer, _ = found.plan.services
    assert (trainer.command, trainer.lengthens) == (command, lengthens)


WRONG = [
    ("sublet: 1", "sublet: 2", "sublet", "write sublet: 1"),
    ("image: nginx:1.27", "image:", "services.web.image", "nginx:1.27"),
    ("after: [trainer]", "after: [db]", "services.web.after[0]", "web, trainer"),
    ("ports: [8080]", "ports: [0]", "services.web.ports[0]", "1 to 65535"),
    ("max_price: 0.40", "max_price: free", "services.web.max_price", "0.40"),
    ("copies: 2", "replicas: 2", "services.trainer.replicas", "copies:"),
    ("cpus: 0.5", "cpus: -1", "services.trainer.cpus", "500m"),
    ("memory: 2GiB", "memory: 2", "services.trainer.memory", "512MiB"),
    ("name: my-app", "name: my app", "name", "A-Z"),
]


@pytest.mark.parametrize(("old", "new", "key", "cure"), WRONG)
def test_names_line_key_and_cure(old: str, new: str, key: str, cure: str) -> None:
    text = OWN.replace(old, new, 1)
    assert text != OWN
    with pytest.raises(Faults) as caught:
        read(text)
    [fault] = caught.value.faults
    assert fault.field == key and cure in str(fault.detail["cure"])


def test_published_schema_is_current() -> None:
    place = ROOT / "docs/schema/sublet.schema.json"
    assert place.read_text() == render_schema(), (
        "run: sublet deploy --schema > docs/schema/sublet.schema.json"
    )


def test_schema_names_every_field_in_words() -> None:
    schema = json.loads(render_schema())
    assert schema["required"] == ["sublet", "services"]
    assert schema["additionalProperties"] is False
    for part, kind in (
        (schema, OwnFile),
        (schema["$defs"]["OwnService"], OwnService),
    ):
        assert set(part["properties"]) == set(kind.__struct_fields__)


def test_schema_patterns_are_javascripts() -> None:
    patterns = re.findall(r'"pattern": "(.*?)"', render_schema())
    assert patterns and not any(r"\\A" in each or r"\\Z" in each for each in patterns)


def test_a_bad_name_hides_nothing_below_it() -> None:
    text = "sublet: 1\nservices:\n  w\u0435b:\n    image: x:1\n    memory: 4\n"
    with pytest.raises(Faults) as caught:
        read_file(text.encode(), file="f.yaml", name="n")
    told = [fault.message for fault in caught.value.faults]
    assert len(told) == 2 and "U+0435" in told[0] and "memory: is '4'" in told[1]


def test_variables_that_no_program_can_have_are_named() -> None:
    text = (
        "sublet: 1\nservices:\n  web:\n    image: x:1\n"
        '    env: {1A: "", B: "c\\0"}\n    command: ["a\\0"]\n'
    )
    (web,) = read_file(text.encode(), file="f.yaml", name="n").plan.services
    assert len(web.unmet) == 3 and "'1A'" in web.unmet[0]
