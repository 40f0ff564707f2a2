"""A detached job at a node behind TLS, whose certificate the node itself cannot check."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sublet.cli.local_market import point_tenant, read_ready
from tests.acceptance.market_house import House, close_house
from tests.acceptance.test_detached import bring, sublet
from tests.integration.test_node_start import make_certificate

pytestmark = pytest.mark.sandbox


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    house = House(tmp_path)
    cert, key = make_certificate(tmp_path)
    house.prepare_node()
    config = house.node_home / "config.toml"
    tls = f'tls_cert = "{cert}"\ntls_key = "{key}"\n'
    config.write_text(tls + config.read_text())
    try:
        house.start_node()  # before the certificate is one to trust
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        read_ready(house.start_provider("cheap"))
        point_tenant(house.tenant_home, house.url)
        house.sublet("wallet", "faucet")
        house.wait_offers(1)
        yield house
    finally:
        close_house(house)


def test_pilot_reaches_its_own_node(house: House) -> None:
    assert house.url.startswith("https://")
    bring(house)
    job_id = sublet(
        house, "run", "--detach", "--disk", "64MiB", "--timeout", "10m", "--", "echo", "hello"
    ).strip()  # fmt: skip
    result = json.loads(sublet(house, "attach", "--json", job_id))
    assert result["exit_code"] == 0
    assert Path(result["stdout"]).read_text() == "hello\n"
