"""``sublet node``: from an empty folder to a market that answers, and over TLS."""

import datetime
import ipaddress
import ssl
import stat
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from sublet.adapter.key_file import load_key, load_note_key
from sublet.base.errors import Refused
from sublet.cli.node import app
from sublet.core.document import Market
from sublet.node.config import read_config
from sublet.node.serve import serve
from sublet.wire.codec import decode
from sublet.wire.message import MarketInfo
from sublet.wire.note import read_checkpoint
from tests.fakes.world import World
from tests.integration.node_house import (
    ANSWER_MAX,
    make_config,
    make_home,
    running_node,
)
from tests.integration.test_node_crash import node_process


def init(home: Path, *flags: str) -> None:
    result = CliRunner().invoke(app, ["init", "--home", str(home), *flags])
    assert result.exit_code == 0, result.output


async def test_two_commands_make_a_market(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "node"
    init(home, "--name", "Our lab", "--faucet", "5.00")
    assert read_config(home).faucet == 5_000_000
    async with node_process(home, World()) as (guest, _):
        info = await guest.learn()
        market = info.market
        assert isinstance(market, Market)
        assert market.name == "Our lab"
        assert info.operator == market.token == load_key(home / "key").address
        _, note = await guest.get("/v1/log/checkpoint")
        signed = read_checkpoint(note, verifier_key=market.note_key)
        assert (signed.size, signed.origin) == (info.size, f"sublet/{info.id[2:]}")


def test_init_keeps_secrets_private(tmp_path: Path) -> None:
    init(tmp_path / "node")
    for name in ("key", "note_key"):
        mode = (tmp_path / "node" / name).stat().st_mode
        assert stat.S_IMODE(mode) == 0o600
    assert load_note_key(tmp_path / "node" / "note_key").verifier_key


def test_init_prints_no_secret(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["init", "--home", str(tmp_path / "node")])
    for name in ("key", "note_key"):
        assert (tmp_path / "node" / name).read_text().strip() not in result.output


def test_second_init_changes_nothing(tmp_path: Path) -> None:
    init(tmp_path / "node")
    before = {p.name: p.read_bytes() for p in (tmp_path / "node").iterdir()}
    result = CliRunner().invoke(app, ["init", "--home", str(tmp_path / "node")])
    assert isinstance(result.exception, Refused)
    assert result.exception.code == "node_exists"
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "node").iterdir()}


@pytest.mark.parametrize(
    "flags", [("--faucet", "free"), ("--name", "x" * 200), ("--name", "a\x1bb")]
)
def test_bad_init_writes_nothing(tmp_path: Path, flags: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, ["init", "--home", str(tmp_path / "n"), *flags])
    assert isinstance(result.exception, Refused)
    assert not (tmp_path / "n").exists()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate for this machine, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([here]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_path, key_path


async def test_tls_is_spoken(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    trusted = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=cert))
    tls = {"tls_cert": str(cert), "tls_key": str(key)}
    async with (
        running_node(tmp_path / "node", World(), connector=trusted, **tls) as guest,
        guest.http.get(guest.url + "/v1/market") as answer,
    ):
        assert guest.url.startswith("https://")
        info = decode(await answer.read(), MarketInfo, size_max=ANSWER_MAX)
        assert info.size == 1


async def test_bad_certificate_is_named(tmp_path: Path) -> None:
    make_home(tmp_path / "node", World())
    (tmp_path / "cert.pem").write_text("no certificate")
    tls = {name: str(tmp_path / "cert.pem") for name in ("tls_cert", "tls_key")}
    with pytest.raises(Refused) as caught:
        await serve(make_config(tmp_path / "node", **tls))
    assert caught.value.code == "bad_tls"


async def test_taken_address_is_named(tmp_path: Path) -> None:
    async with running_node(tmp_path / "one", World()) as guest:
        make_home(tmp_path / "two", World())
        listen = guest.url.removeprefix("http://")
        with pytest.raises(Refused) as caught:
            await serve(make_config(tmp_path / "two", listen=listen))
    assert caught.value.code == "cannot_listen"


def test_start_without_node_says_how(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["start", "--home", str(tmp_path)])
    assert isinstance(result.exception, Refused)
    assert "sublet node init" in result.exception.message
