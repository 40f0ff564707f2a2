"""``sublet provider``: offer this machine, run strangers' jobs on it, earn."""

import asyncio
import re
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from sublet.cli.option import parse_listen
from sublet.cli.provider_option import DEFAULT_HOME, HomeOption, JsonOption
from sublet.cli.provider_stake import appeal, stake, unstake

if TYPE_CHECKING:
    from sublet.provider.agent import Agent
    from sublet.provider.sandboxes import SandboxReport
    from sublet.provider.setup import SetUp, Wish
    from sublet.provider.status import Status

app = typer.Typer(
    help="Offer this machine and earn.", no_args_is_help=True, rich_markup_mode=None
)

DEFAULT_MARKET = "http://127.0.0.1:8470"


@app.command()
def init(
    home: HomeOption = DEFAULT_HOME,
    market: Annotated[
        str, typer.Option("--market", metavar="URL", help="The market's node.")
    ] = DEFAULT_MARKET,
    name: Annotated[
        str | None, typer.Option("--name", help="Of this machine; its host name.")
    ] = None,
    region: Annotated[
        str, typer.Option("--region", help="ISO 3166, such as DE or US-CA.")
    ] = "",
    cpus: Annotated[
        str | None, typer.Option("--cpus", metavar="N", help="CPUs; all of them.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Such as 16GiB.")
    ] = None,
    disk: Annotated[
        str | None, typer.Option("--disk", metavar="SIZE", help="Such as 100GB.")
    ] = None,
    price_gpu: Annotated[
        str | None,
        typer.Option(
            "--price-gpu", "--gpu-price", metavar="USD", help="An hour of a GPU."
        ),
    ] = None,
    price_cpu: Annotated[
        str | None,
        typer.Option(
            "--price-cpu", "--cpu-price", metavar="USD", help="An hour of a CPU."
        ),
    ] = None,
    price_memory: Annotated[
        str | None,
        typer.Option(
            "--price-memory", "--memory-price", metavar="USD", help="Of a GiB."
        ),
    ] = None,
    watts: Annotated[
        int | None,
        typer.Option("--watts", help="What the machine draws when it works."),
    ] = None,
    tariff: Annotated[
        str | None,
        typer.Option("--tariff", metavar="USD", help="Price of a kilowatt-hour."),
    ] = None,
    wear: Annotated[
        str, typer.Option("--wear", metavar="USD", help="Wear, an hour.")
    ] = "0.00",
    margin: Annotated[
        int, typer.Option("--margin", metavar="PERCENT", help="On top of all that.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Make a provider: keys, a look at the machine, a short benchmark, prices.

    Prices are fixed (--price-gpu, --price-cpu, --price-memory), or come from what the
    machine costs you (--watts, --tariff, --wear, --margin).
    """
    from sublet.adapter.clock_system import SystemClock
    from sublet.adapter.devices_machine import MachineDevices
    from sublet.provider.sandboxes import make_adapters
    from sublet.provider.setup import set_up
    from sublet.sdk.nodes import parse_urls

    wish = _make_wish(
        market=",".join(parse_urls(market)),
        name=name if name is not None else _host_name(),
        region=region,
        sizes=(cpus, memory, disk),
        prices=(price_cpu, price_memory, price_gpu),
        electricity=(watts, tariff, wear, margin),
    )
    console = Console(stderr=True, highlight=False)
    with console.status("looking at this machine and measuring it"):
        done = set_up(
            home.expanduser(),
            wish,
            sandboxes=make_adapters(),
            devices=MachineDevices(),
            clock=SystemClock(),
        )
    if as_json:
        sys.stdout.write(msgspec.json.encode(done).decode() + "\n")
    else:
        _show_set_up(done, home)


@app.command()
def start(
    home: HomeOption = DEFAULT_HOME,
    listen: Annotated[
        str,
        typer.Option(
            "--listen", metavar="HOST:PORT", help="Serve tenants directly, too."
        ),
    ] = "",
    endpoint: Annotated[
        str,
        typer.Option(
            "--endpoint", metavar="HOST:PORT", help="How others reach --listen."
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Offer the machine until Ctrl-C; it gives tenants notice, a second stops now.

    Nothing listens unless --listen is given: the provider only dials out.
    """
    from sublet.adapter.devices_machine import MachineDevices
    from sublet.provider.compose import serve
    from sublet.provider.journal import Journal, send_to_stderr
    from sublet.provider.sandboxes import make_adapters
    from sublet.provider.scratches import make_scratches, make_vram

    send_to_stderr(is_json=as_json)
    place = parse_listen(listen, example="0.0.0.0:2222") if listen else None

    def ready(agent: "Agent", port: int) -> None:
        _catch_signals(agent)
        _show_ready(agent, port, as_json=as_json)

    asyncio.run(
        serve(
            home.expanduser(),
            sandboxes=make_adapters(),
            scratches=make_scratches(),
            vram=make_vram(),
            devices=MachineDevices(),
            journal=Journal(),
            listen=place,
            endpoint=endpoint,
            ready=ready,
        )
    )


@app.command()
def status(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show offers, leases, earnings, the sandbox and the link."""
    from sublet.base.errors import Unavailable
    from sublet.provider import control
    from sublet.provider.status import Status, read_status_at_rest

    home = home.expanduser()
    try:
        said = msgspec.json.decode(control.ask(home, "status"), type=Status)
    except Unavailable:
        said = read_status_at_rest(home)
    if as_json:
        sys.stdout.write(msgspec.json.encode(said).decode() + "\n")
    else:
        _show_status(said)


@app.command()
def drain(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Withdraw the offer; the agent finishes what runs and ends."""
    from sublet.provider import control
    from sublet.provider.status import Status

    said = msgspec.json.decode(control.ask(home.expanduser(), "drain"), type=Status)
    if as_json:
        sys.stdout.write(msgspec.json.encode(said).decode() + "\n")
        return
    running = sum(lease.stage != "ended" for lease in said.leases)
    Console(highlight=False).print(
        f"Offer withdrawn. {running} leases run to their end; then the agent ends."
    )


@app.command()
def claim(home: HomeOption = DEFAULT_HOME) -> None:
    """Claim on the chain all that tenants have vouched for, and be paid.

    The agent does so by itself once it is worth the gas, and at once when a tenant
    takes its deposit back. Only where the market's money lies on a chain.
    """
    from sublet.base.errors import Refused
    from sublet.provider import control

    if control.ask(home.expanduser(), "claim") == control.UNKNOWN_WORD:
        raise Refused(
            "this market's money is credits; there is nothing to claim on a chain",
            code="wrong_rail",
        )
    Console(highlight=False).print("Claiming; see the agent's journal, or the chain.")


for verb in (stake, unstake, appeal):
    app.command()(verb)


# ---- reading ------------------------------------------------------------------------


def _make_wish(
    *,
    market: str,
    name: str,
    region: str,
    sizes: tuple[str | None, str | None, str | None],
    prices: tuple[str | None, str | None, str | None],
    electricity: tuple[int | None, str | None, str, int],
) -> "Wish":
    from sublet.base.errors import Refused
    from sublet.base.units import parse_money, parse_size
    from sublet.provider.setup import Electricity, Wish

    cpus, memory, disk = sizes
    cpu, ram, gpu = prices
    watts, tariff, wear, margin = electricity
    if (watts is None) != (tariff is None):
        raise Refused(
            "--watts and --tariff go together: what it draws, and what that costs",
            code="half_a_price",
            field="--watts" if watts is None else "--tariff",
        )
    power = None
    if watts is not None and tariff is not None:
        power = Electricity(
            watts=watts,
            tariff_kwh=parse_money(tariff, field="--tariff"),
            wear_hour=parse_money(wear, field="--wear"),
            margin_percent=margin,
        )
    return Wish(
        market=market,
        name=name,
        region=region,
        cpus_milli=None if cpus is None else _parse_cpus(cpus),
        memory_bytes=None if memory is None else parse_size(memory, field="--memory"),
        disk_bytes=None if disk is None else parse_size(disk, field="--disk"),
        cpu_hour=None if cpu is None else parse_money(cpu, field="--price-cpu"),
        memory_hour=None if ram is None else parse_money(ram, field="--price-memory"),
        gpu_hour=None if gpu is None else parse_money(gpu, field="--price-gpu"),
        electricity=power,
    )


def _parse_cpus(text: str) -> int:
    from sublet.base.errors import Refused

    if re.fullmatch(r"\d{1,4}(\.\d{1,3})?", text) is None:
        raise Refused(
            f"--cpus: {text[:40]!r} is not a number of CPUs; write 4 or 0.5",
            code="bad_cpus",
            field="--cpus",
        )
    whole, _, rest = text.partition(".")
    return int(whole) * 1_000 + int(rest.ljust(3, "0"))


def _host_name() -> str:
    plain = re.sub(r"[^\w.-]", "-", socket.gethostname(), flags=re.ASCII)
    return plain[:64] or "machine"


# ---- acting -------------------------------------------------------------------------


def _catch_signals(agent: "Agent") -> None:
    """First Ctrl-C: notice to the tenants, then the end. Second: the end, now."""
    loop = asyncio.get_running_loop()
    kept: set[asyncio.Task[None]] = set()
    asked = 0

    def catch() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            agent.give_back(notice_s=agent.around.config.notice_s)
        else:
            kept.add(loop.create_task(agent.stop_now()))

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, catch)


# ---- showing ------------------------------------------------------------------------


def _show_ready(agent: "Agent", port: int, *, as_json: bool) -> None:
    config = agent.around.config
    if as_json:
        line = {
            "provider": agent.around.address,
            "machine": config.name,
            "market": config.market,
            "port": port,
        }
        sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
        sys.stdout.flush()
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Provider {agent.around.address} offers {config.name}")
    console.print(f"on {config.market}. Ctrl-C gives tenants notice and ends.")
    if port:
        console.print(f"Tenants reach it directly on port {port}.")


def _show_set_up(done: "SetUp", home: Path) -> None:
    from sublet.base.units import format_money, format_size

    config, console = done.config, Console(highlight=False, soft_wrap=True)
    console.print(f"Provider {done.provider} on {config.market}")
    console.print(
        f"{config.name} offers {config.cpus_milli / 1_000:g} CPUs "
        f"(score {config.cpu_score}), {format_size(config.memory_bytes)} of memory, "
        f"{format_size(config.disk_bytes)} of disk (score {config.disk_score})"
    )
    if config.gpu_uuids:
        console.print(
            f"and {len(config.gpu_uuids)} x {config.gpu_model} with "
            f"{format_size(config.gpu_memory_bytes)} each"
        )
    else:
        console.print("and no GPU: none was found")
    console.print(
        f"for {format_money(config.cpu_price_hour)} a CPU, "
        f"{format_money(config.memory_price_hour)} a GiB of memory"
        + (f", {format_money(config.gpu_price_hour)} a GPU" if config.gpu_uuids else "")
        + f", an hour: {done.price_story}."
    )
    console.print("What tenants pay may be more, never less.")
    _show_sandboxes(console, done.sandboxes)
    if not any(each.is_ok for each in done.sandboxes):
        console.print("Until one of them works, nothing is offered.")
    console.print(f"Settings: {done.path}")
    where = "" if home == DEFAULT_HOME else f" --home {home}"
    console.print(f"Start it with: sublet provider start{where}")


def _show_sandboxes(console: Console, reports: "tuple[SandboxReport, ...]") -> None:
    for each in reports:
        state = "" if each.is_ok else "does NOT work here: "
        console.print(f"Sandbox {each.name}: {state}{each.reason}")


def _show_status(said: "Status") -> None:
    from rich.table import Table

    from sublet.base.units import format_duration, format_money

    console = Console(highlight=False, soft_wrap=True)
    state = "not running"
    if said.is_running:
        state = "draining" if said.is_draining else "running"
        state += ", linked" if said.is_linked else ", NOT linked to the market"
    console.print(f"Provider {said.provider}, {said.machine}: {state}")
    console.print(f"Market {said.market}")
    if said.clock_ahead_s:
        console.print(f"Clock: {said.clock_ahead_s} s ahead of the market's")
    _show_sandboxes(console, said.sandboxes)
    for each in filter(None, (said.images, said.erasure)):
        state = "" if each.is_ok else "NOT offered: "
        console.print(f"{each.name.capitalize()}: {state}{each.reason}")
    console.print(
        f"Offer: {'standing' if said.offer_id else 'none'}, "
        f"{format_money(said.cpu_price_hour)} a CPU, "
        f"{format_money(said.memory_price_hour)} a GiB, "
        f"{format_money(said.gpu_price_hour)} a GPU, an hour"
    )
    for reason in said.held_back:
        console.print(f"Not offered: {reason}")
    console.print(
        f"Earned today {format_money(said.earned_today)}, in all "
        f"{format_money(said.earned_total)} with {said.leases_settled} leases"
    )
    if said.documents_waiting:
        console.print(f"{said.documents_waiting} documents wait for the market")
    if not said.leases:
        return
    table = Table("lease", "tenant", "stage", "ran", "owed", box=None)
    for lease in said.leases:
        table.add_row(
            lease.id[:12],
            lease.tenant[:12],
            lease.stage,
            format_duration(lease.ran_ms // 1_000),
            format_money(lease.owed),
        )
    console.print(table)
