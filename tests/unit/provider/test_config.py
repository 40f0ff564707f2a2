"""The provider's configuration: written, read back, refused with a cure."""

import tomllib
from pathlib import Path

import pytest
from msgspec.structs import replace

from sublet.base.errors import Faults, Refused
from sublet.provider.config import (
    CONFIG_FILE,
    Config,
    make_offer,
    parse_config,
    read_config,
    write_config,
)
from sublet.provider.declared import Declared

CONFIG = Config(
    market="http://127.0.0.1:8470",
    name="box",
    region="US-CA",
    endpoint="host.example:2222",
    cpu_price_hour=10_001,
    memory_price_hour=2_000,
    gpu_price_hour=400_000,
    cpus_milli=3_500,
    memory_bytes=8 << 30,
    disk_bytes=16 << 30,
    gpu_uuids=("GPU-0", "GPU-1"),
    gpu_model="h200",
    gpu_memory_bytes=141 << 30,
    cpu_score=1,
    disk_score=2,
    gpu_score=3,
    declared=Declared(
        jurisdiction="DE",
        network="as24940",
        up_mbit_s=500,
        down_mbit_s=2_500,
        latencies=("frankfurt=12", "oslo=30"),
        attributes=("tier=datacenter",),
        disk_class="nvme",
        gpu_vendor="nvidia",
        gpu_interface="sxm",
        gpu_compute=90,
        gpu_driver=550_054_014,
        cuda=12_040,
    ),
    credit_s=31,
    notice_s=32,
    retention_s=33,
    voucher_s=4,
)


def test_reads_what_it_wrote(tmp_path: Path) -> None:
    write_config(tmp_path, CONFIG, price_story="because")
    assert read_config(tmp_path) == CONFIG
    text = (tmp_path / CONFIG_FILE).read_text()
    assert "# because" in text
    assert (tmp_path / CONFIG_FILE).stat().st_mode & 0o077 == 0


def test_reads_which_parts_it_wrote(tmp_path: Path) -> None:
    declared = replace(CONFIG.declared, gpu_share_milli=142, gpu_sharing="time-slice")
    sliced = replace(CONFIG, declared=declared)
    write_config(tmp_path, sliced, price_story="")
    assert read_config(tmp_path) == sliced
    assert len(sliced.gpu_parts) == 14


def test_writes_the_defaults_that_it_reads(tmp_path: Path) -> None:
    write_config(tmp_path, CONFIG, price_story="")
    path = tmp_path / CONFIG_FILE
    path.write_text(path.read_text().partition("[egress]")[0])
    assert read_config(tmp_path) == CONFIG


def _table(tmp_path: Path) -> dict[str, dict[str, object]]:
    write_config(tmp_path, CONFIG, price_story="")
    return tomllib.loads((tmp_path / CONFIG_FILE).read_text())


@pytest.mark.parametrize(
    ("section", "key", "value", "field"),
    [
        ("price", "cpu", "cheap", "price.cpu"),
        ("price", "gpu", "-1", "price.gpu"),
        ("price", "gpu", "nan", "price.gpu"),
        ("machine", "memory", "16", "machine.memory"),  # no unit
        ("habits", "credit", "0.5", "habits.credit"),
    ],
)
def test_names_the_wrong_value(
    tmp_path: Path, section: str, key: str, value: str, field: str
) -> None:
    table = _table(tmp_path)
    table[section][key] = value
    with pytest.raises(Faults) as error:
        parse_config(table)  # type: ignore[arg-type]
    assert [fault.field for fault in error.value.faults] == [field]


def test_lists_all_faults_at_once(tmp_path: Path) -> None:
    table = _table(tmp_path)
    table["price"]["cpu"] = table["machine"]["disk"] = "?"
    with pytest.raises(Faults) as error:
        parse_config(table)  # type: ignore[arg-type]
    assert len(error.value.faults) == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("region", "Germany"),
        ("region", "de"),
        ("name", "two words"),
        ("name", ""),
        ("endpoint", "nowhere"),
        ("surprise", 1),
    ],
)
def test_refuses_unlawful_keys(tmp_path: Path, key: str, value: object) -> None:
    table: dict[str, object] = {**_table(tmp_path), key: value}
    with pytest.raises(Refused) as error:
        parse_config(table)
    assert error.value.code == "bad_config"


def test_writes_nothing_unreadable(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        write_config(tmp_path, replace(CONFIG, region="Mars!"), price_story="")
    assert not (tmp_path / CONFIG_FILE).exists()


def test_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="sublet provider init"):
        read_config(tmp_path)
    (tmp_path / CONFIG_FILE).write_bytes(b"\xff = 1")
    with pytest.raises(Refused, match="not TOML"):
        read_config(tmp_path)


def test_offers_what_is_configured() -> None:
    offer = make_offer(
        CONFIG,
        ssh_host_key="ssh-ed25519 AAAA",
        seal_key="",
        sandboxes=("bubblewrap",),
        features=(),
        now_s=100,
        lasts_s=60,
        salt=1,
    )
    assert offer.expires_at_s == 160
    assert (offer.gpu_model, offer.gpu_uuids) == ("h200", ("GPU-0", "GPU-1"))
    bare = make_offer(
        replace(CONFIG, gpu_uuids=()),
        ssh_host_key="",
        seal_key="",
        sandboxes=(),
        features=(),
        now_s=0,
        lasts_s=0,
        salt=0,
    )
    assert (bare.gpu_model, bare.gpu_memory_bytes) == ("", 0)
