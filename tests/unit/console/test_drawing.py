"""The live view: what it says, and that strangers' words stay words."""

import io

import msgspec
from rich.console import Console, RenderableType

from sublet.console.drawing import draw, draw_leases, draw_providers, format_end
from sublet.console.picture import EventLine, LeaseLine, Picture, ProviderLine

PROVIDER = ProviderLine(
    machine="rig-1",
    provider="0x" + "1" * 40,
    is_up=True,
    region="DE",
    cpus_milli_free=1_500,
    cpus_milli=4_000,
    memory_bytes_free=1 << 30,
    memory_bytes=8 << 30,
    gpu_model="h200",
    gpus_free=1,
    gpus=2,
    cpu_price_hour=10_000,
    memory_price_hour=2_000,
    gpu_price_hour=1_500_000,
    leases_open=1,
    earned=42_000,
)
LEASE = LeaseLine(
    id="0xabcdef01" + "0" * 56,
    machine="rig-1",
    phase="running",
    ran_ms=12_340,
    secured_ms=0,
    price_hour=20_000,
    owed=68,
    reason="",
    fault="nobody",
)
PICTURE = Picture(
    name="local",
    url="http://127.0.0.1:8470",
    now_s=1_700_000_000,
    size=1_234,
    providers=(PROVIDER,),
    leases=(LEASE,),
    events=(EventLine(at_s=1_700_000_000, index=1_233, text="it runs"),),
)


def read(drawing: RenderableType) -> str:
    """Give what a wide terminal without colours would show."""
    page = io.StringIO()
    Console(file=page, width=200, color_system=None).print(drawing)
    return page.getvalue()


def test_whole_market_on_one_page() -> None:
    page = read(draw(PICTURE))
    for words in (
        "local at http://127.0.0.1:8470",
        "1 of 1 machines up",
        "1,234 entries in the log",
        "1 of 2 h200, 1.5 of 4 CPUs, 1.0 GiB of 8.0 GiB",
        "$1.50 a GPU, $0.01 a CPU, $0.002 a GiB",
        "abcdef01",
        "12.3 s",
        "$0.000068",
        "22:13:20   1233  it runs",
    ):
        assert words in page


def test_lost_machine_reads_down() -> None:
    lost = msgspec.structs.replace(PROVIDER, is_up=False)
    assert "down" in read(draw_providers((lost,)))
    assert "down" not in read(draw_providers((PROVIDER,)))


def test_empty_market_says_what_next() -> None:
    assert "no machine is on offer" in read(draw_providers(()))
    assert "sublet run" in read(draw_leases(()))


def test_markup_of_strangers_stays_text() -> None:
    evil = msgspec.structs.replace(PROVIDER, machine="[red]rig[/red] [link=x]y[/link]")
    assert "[red]rig[/red] [link=x]y[/link]" in read(draw_providers((evil,)))


def test_machine_without_gpu_names_none() -> None:
    plain = msgspec.structs.replace(PROVIDER, gpus=0, gpus_free=0, gpu_model="")
    assert "GPU" not in read(draw_providers((plain,)))


def test_end_names_the_guilty() -> None:
    lost = msgspec.structs.replace(LEASE, reason="provider_lost", fault="provider")
    assert format_end(lost) == "provider lost (fault: provider)"
    assert format_end(msgspec.structs.replace(LEASE, reason="exited")) == "exited"
    assert format_end(LEASE) == ""
