"""A service's persistent volume outlives the machine, at the path that its file names."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.market_house import House, Run, open_house
from tests.image_rig import busybox_image

pytestmark = [pytest.mark.sandbox, pytest.mark.container]

# Nothing of it knows of Sublet; none of these folders is in the image.
SDL = """\
version: "2.0"
services:
  web:
    image: oci-archive:{archive}
    command: [sh, -c]
    args:
      - >-
        if [ -e /var/lib/db/data/mark ]; then
        cat /var/lib/db/data/mark /root/.cache/mark; ls /scratch; echo end; exit 7; fi;
        echo kept > /var/lib/db/data/mark; echo cached > $HOME/.cache/mark;
        echo gone > /scratch/x; sleep 600
    expose: [{{port: 80, to: [{{global: true}}]}}]
    params:
      storage:
        data: {{mount: /var/lib/db/data}}
        scratch: {{mount: /scratch}}
        cache: {{mount: /root/.cache}}
profiles:
  compute:
    small:
      resources:
        cpu: {{units: 0.5}}
        memory: {{size: 256Mi}}
        storage:
          - {{name: scratch, size: 8Mi}}
          - {{name: cache, size: 16Mi, attributes: {{persistent: true}}}}
          - {{name: data, size: 16Mi, attributes: {{persistent: true}}}}
  placement:
    here: {{pricing: {{small: {{denom: uact, amount: 100000}}}}}}
deployment:
  web: {{here: {{profile: small, count: 1}}}}
"""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path) as opened:
        archive = busybox_image().write_archive(tmp_path / "box.tar")
        (tmp_path / "deploy.yaml").write_text(SDL.format(archive=archive))
        yield opened


async def test_volume_is_found_on_the_next_machine(
    house: House, tmp_path: Path
) -> None:
    file = str(tmp_path / "deploy.yaml")
    flags = ("--max-total", "5.00", "--timeout", "10m", "--name", "db")
    service = Run(house, "deploy", "--yes", *flags, file)
    await service.wait_notice(b"stored here")
    await house.kill_machine("cheap")
    assert await service.wait() == 7, service
    assert service.out.read_text().splitlines() == [
        "db.web.1 | kept",
        "db.web.1 | cached",
        "db.web.1 | end",
    ]
    # It failed by itself: what it kept is here, as files.
    (kept,) = (house.tenant_home / "jobs").glob("*/checkpoint/data/mark")
    assert kept.read_text() == "kept\n"
    assert f"what it kept last is in {kept.parents[1]}" in service.err.read_text()
    leases = await house.leases()
    assert [lease.provider for lease in leases] == [
        house.addresses["cheap"],
        house.addresses["dear"],
    ]
