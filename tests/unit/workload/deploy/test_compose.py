"""Compose files: the common part is read, the rest is refused by its name."""

import pytest

from sublet.base.errors import Faults, Refused
from sublet.wire.message import Volume
from sublet.workload.deploy.file import read_file
from sublet.workload.deploy.plan import Gpus, Port

COMPOSE = """\
x-common: &common
  MODE: fast
services:
  web:
    image: nginx:1.27
    entrypoint: nginx
    command: -g 'daemon off;'
    environment:
      <<: *common
      SIZE: 5
    ports:
      - "8080:80"
      - 53:53/udp
    depends_on:
      - api_db
    deploy:
      replicas: 2
      resources:
        limits:
          cpus: "0.5"
          memory: 512M
        reservations:
          devices:
            - driver: nvidia
              count: 1
              capabilities: [gpu]
  api_db:
    image: postgres:16
    environment:
      - POSTGRES_PASSWORD=x
    expose: ["5432"]
    volumes:
      - data:/work/data
volumes:
  data:
"""


def read(text: str):
    return read_file(text.encode(), file="compose.yaml", name="app")


def test_common_part_is_read() -> None:
    found = read(COMPOSE)
    database, web = found.plan.services  # the database first: web waits for it
    assert found.kind == "compose" and found.plan.name == "app"
    assert web.command == ("nginx", "-g", "daemon off;")
    assert web.env == {"MODE": "fast", "SIZE": "5"}
    assert web.ports == (Port(80, "TCP", True), Port(53, "UDP", True))
    assert (web.copies, web.cpus_milli, web.memory_bytes) == (2, 500, 512 << 20)
    assert web.gpus == Gpus(count=1)
    assert database.name == "api-db" and database.env == {"POSTGRES_PASSWORD": "x"}
    assert database.volumes == (Volume("data", "/work/data", True),)
    assert database.checkpoint == "data"


WRONG = [
    ("    entrypoint: nginx\n", "    build: .\n", "services.web.build", "push it"),
    (
        "    entrypoint: nginx\n",
        "    restart: always\n",
        "services.web.restart",
        "remove",
    ),
    ("- api_db", "- db", "services.web.depends_on", "name one"),
    ("- data:/work/data", "- ./x:/y", "services.api_db.volumes[0]", "put the files"),
    (
        "- data:/work/data",
        "- b:/work/b",
        "services.api_db.volumes[0]",
        "add volumes: b",
    ),
    ('cpus: "0.5"', "cpus: many", "services.web.deploy.resources.limits.cpus", "2 or"),
    (
        "memory: 512M",
        "memory: x",
        "services.web.deploy.resources.limits.memory",
        "512M",
    ),
    ("count: 1", "count: all", "services.web.deploy.resources", "how many"),
    ("[gpu]", "[tpu]", "….devices[0].capabilities[0]", "one of gpu"),
    ("- POSTGRES_PASSWORD=x", "- HOME", "services.api_db.environment[0]", "nothing is"),
    ('"8080:80"', '"8080:99999"', "services.web.ports[0]", "write 8080"),
    ("-g 'daemon off;'", '"\'"', "services.web.command", "as a list"),
]


@pytest.mark.parametrize(("old", "new", "key", "cure"), WRONG)
def test_names_line_key_and_cure(old: str, new: str, key: str, cure: str) -> None:
    text = COMPOSE.replace(old, new, 1)
    assert text != COMPOSE
    with pytest.raises(Faults) as caught:
        read(text)
    [fault] = caught.value.faults
    assert fault.field.endswith(key.lstrip("…")) and cure in str(fault.detail["cure"])


def test_shared_volumes_are_unmet() -> None:
    """In Compose they would be one folder; here each copy is on a machine of its own."""
    assert "shared" not in str(read(COMPOSE).plan)
    shared = COMPOSE.replace("  api_db:", "    volumes: [data:/data]\n  api_db:", 1)
    database, web = read(shared).plan.services
    assert "volume data, shared" in str(web.unmet)
    assert "volume data, shared" in str(database.unmet)
    (note,) = read(COMPOSE).plan.notes
    assert note.startswith("services do not reach each other")


def test_command_alone_follows_the_entrypoint() -> None:
    web = read(COMPOSE.replace("    entrypoint: nginx\n", "")).plan.services[1]
    assert web.lengthens and "entrypoint" not in str(web.unmet)


def test_circle_is_refused() -> None:
    text = COMPOSE.replace("    expose:", "    depends_on: [web]\n    expose:")
    with pytest.raises(Refused) as caught:
        read(text)
    assert caught.value.code == "circle"
