"""The configuration: every fault at once, every default documented by its type."""

from pathlib import Path

import pytest

from sublet.base.errors import Faults, Refused
from sublet.base.units import MicroUsd
from sublet.node.config import (
    X402_CONTRACT,
    EscrowChoice,
    is_local,
    parse_config,
    read_config,
    write_config,
)

HOME = Path("/nowhere")


def test_defaults_are_those_of_protocol() -> None:
    config = parse_config({}, home=HOME)
    market = config.market
    assert (config.host, config.port, config.faucet) == ("127.0.0.1", 8_470, 0)
    assert (market.accept_s, market.deliver_s, market.prepare_s) == (20, 60, 900)
    assert (market.report_s, market.close_s, market.settle_s) == (45, 90, 60)
    assert (market.withdraw_delay_s, market.chain_id) == (86_400, 31_337)
    assert (market.contract, market.token) == (X402_CONTRACT, None)
    assert config.limits.lost_after_s == 10


GOOD_LISTENS = (
    ("0.0.0.0:80", "0.0.0.0", 80),  # text only
    ("[::1]:0", "::1", 0),
    ("market.example:8470", "market.example", 8_470),
)


@pytest.mark.parametrize(("listen", "host", "port"), GOOD_LISTENS)
def test_listen_names_host_and_port(listen: str, host: str, port: int) -> None:
    config = parse_config({"listen": listen}, home=HOME)
    assert (config.host, config.port) == (host, port)


BAD_TABLES = (
    # the table, and the settings that are named
    ({"lisen": "x"}, ["lisen"]),
    ({"listen": "8470"}, ["listen"]),
    ({"listen": "localhost:70000"}, ["listen"]),
    ({"faucet": "five"}, ["faucet"]),
    ({"faucet": "-5"}, ["faucet"]),
    ({"tls_cert": "cert.pem"}, ["tls_cert"]),
    ({"market": 5}, ["market"]),
    ({"market": {"accept_s": -1, "close_s": "1m"}}, ["accept_s", "close_s"]),
    ({"market": {"contract": "0xABC"}}, ["market.contract"]),
    ({"limits": {"lost_after_s": 3, "ping_s": 3}}, ["limits.ping_s"]),
    ({"limits": {"gone_after_s": 3, "ping_s": 3}}, ["limits.ping_s"]),
    (
        {"lisen": "", "faucet": 5, "limits": {"ping": 1, "relay_join_s": 0}},
        ["lisen", "faucet", "limits.ping", "limits.relay_join_s"],
    ),
)


@pytest.mark.parametrize(("table", "named"), BAD_TABLES)
def test_all_faults_come_at_once(table: dict[str, object], named: list[str]) -> None:
    with pytest.raises(Faults) as caught:
        parse_config(table, home=HOME)
    assert len(caught.value.faults) == len(named)
    for fault, name in zip(caught.value.faults, named, strict=True):
        assert name in fault.message


def test_near_miss_is_suggested() -> None:
    with pytest.raises(Faults, match=r"did you mean market\.accept_s\?"):
        parse_config({"market": {"accept": 5}}, home=HOME)


def test_written_config_reads_back(tmp_path: Path) -> None:
    write_config(tmp_path, name='the "best"', faucet=MicroUsd(0))
    assert read_config(tmp_path).market.name == 'the "best"'
    with pytest.raises(Faults):  # no control characters in a name
        write_config(tmp_path / "other", name="worst\n", faucet=MicroUsd(0))


def test_escrow_needs_its_chain(tmp_path: Path) -> None:
    with pytest.raises(Faults) as caught:
        parse_config({"faucet": "1.00", "market": {"rail": "escrow"}}, home=tmp_path)
    assert {fault.field for fault in caught.value.faults} == {
        "chain.rpc",
        "market.token",
        "faucet",
    }
    choice = EscrowChoice(
        "https://rpc.example/SECRET", 8453, "0x" + "1" * 40, "0x" + "2" * 40, 5
    )
    write_config(tmp_path, name="m", faucet=MicroUsd(0), escrow=choice)
    config = read_config(tmp_path)
    assert (config.market.rail, config.chain.confirmations) == ("escrow", 5)
    assert "SECRET" not in repr(config)
    assert (tmp_path / "config.toml").stat().st_mode & 0o777 == 0o600


def test_flags_win_over_file(tmp_path: Path) -> None:
    write_config(tmp_path, name="Ünder \\ lab", faucet=MicroUsd(2_500_000))
    config = read_config(tmp_path, overrides={"listen": "127.0.0.1:9"})
    assert (config.port, config.market.name) == (9, "Ünder \\ lab")
    assert config.faucet == 2_500_000


def test_existing_config_is_kept(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("mine")
    with pytest.raises(Refused) as caught:
        write_config(tmp_path, name="other", faucet=MicroUsd(0))
    assert caught.value.code == "node_exists"
    assert (tmp_path / "config.toml").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "no_node"), (b"a = ", "bad_config"), (b"\xff", "bad_config")],
)
def test_unreadable_config_is_named(
    tmp_path: Path, content: bytes | None, code: str
) -> None:
    if content is not None:
        (tmp_path / "config.toml").write_bytes(content)
    with pytest.raises(Refused) as caught:
        read_config(tmp_path)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)],
)
def test_only_loopback_is_local(host: str, expected: bool) -> None:
    assert is_local(host) is expected


def test_maker_is_the_escrow_rails() -> None:
    rail = {"rail": "escrow", "token": "0x" + "12" * 20}
    table = {"market": rail, "chain": {"rpc": ["http://127.0.0.1:1"]}}
    assert parse_config(table, home=HOME).convert is None
    own = {"feeds": "prices.toml", "key_file": "maker", "most": "25.00"}
    making = parse_config({**table, "convert": own}, home=HOME).convert
    assert making is not None
    assert (making.terms.spread_bps, making.terms.most) == (50, 25_000_000)
    for wrong in (
        {"convert": own},  # on the credits rail
        {**table, "convert": {"feeds": "prices.toml"}},
        {**table, "convert": {**own, "spread_bps": 2_001}},
        {**table, "convert": {**own, "most": "much"}},
    ):
        with pytest.raises(Faults, match="convert"):
            parse_config(wrong, home=HOME)
