"""The command line as a whole: verbs by name, loaded when they are called.

``sublet --help`` imports no verb: names and one line each stand here. Errors become
one line and an exit code here, and nowhere else.
"""

import os
import sys
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

EXIT_REFUSED = 2  # fix the request
EXIT_UNAVAILABLE = 3  # try again later
EXIT_PEER_FAULT = 4  # the other side broke the protocol
EXIT_OUTDATED = 5  # update sublet; starting it again does not help
EXIT_BROKEN = 70  # a fault of Sublet itself
EXIT_INTERRUPTED = 130

# What only an extra brings, by the module that is found missing.
_EXTRA_OF = {
    "bpy": "render",
    "numpy": "node",
    "openjd": "openjd",
    "prometheus_client": "node",
    "psutil": "provider",
    "pynvml": "provider",
    "pyseccomp": "provider",
    "reportlab": "pdf",
}

HELP = """Rent machines by the second, on an open market.

\b
  sublet up                      a market of your own, in this terminal
  sublet run train.py            a script, with the dependencies it names
  sublet run --gpu h200:1 --input data --output model/ ./project
  sublet run -- nvidia-smi       any command
  sublet map --tasks tasks.jsonl sweep.py    many tasks, on several machines
  sublet ps                      what runs
  sublet cost                    what it cost
"""


# What the tenant's verbs import when they are called.
LATE = (
    "sublet.cli.chart",
    "sublet.cli.output",
    "sublet.cli.map_screen",
    "sublet.cli.token_prices",
    "sublet.cli.token_text",
    "sublet.sdk.work_folder",
    "sublet.workload.bill",
    "sublet.workload.client",
    "sublet.workload.chain_lines",
    "sublet.workload.conversion",
    "sublet.workload.copy",
    "sublet.workload.escrow",
    "sublet.workload.orders",
    "sublet.workload.outlook",
    "sublet.workload.prices",
    "typer._click.decorators",
)


class Verb(NamedTuple):
    """Where a verb lives."""

    module: str
    help: str
    is_group: bool = False  # the module's app is the verb itself


VERBS = {
    "run": Verb("run", "Run a script, a folder or a command on a rented machine."),
    "map": Verb("map", "Run a program once for each of many tasks."),
    "openjd": Verb("openjd", "Run an Open Job Description template, step by step."),
    "render": Verb("render", "Render a scene's frames on several machines, exactly."),
    "deploy": Verb("deploy", "Run the services of a file: SDL, Compose, sublet.yaml."),
    "deployments": Verb("deploy", "List deployments, or stop one."),
    "quote": Verb("run", "Ask what a machine would cost now; nothing is bought."),
    "prices": Verb("prices", "Show what machines are offered for and were let for."),
    "orders": Verb("orders", "List orders that wait for bids, supply or a time."),
    "bids": Verb("orders", "List the bids for one of your orders."),
    "choose": Verb("orders", "Take one of the bids for your order."),
    "cancel": Verb("orders", "Take back an order that waits."),
    "ps": Verb("jobs", "List jobs."),
    "logs": Verb("jobs", "Show what a job wrote."),
    "attach": Verb("detached", "Follow a detached job, and fetch what it made."),
    "stop": Verb("jobs", "Stop a job and settle it."),
    "revoke": Verb("detached", "Take a detached job's budget back."),
    "cost": Verb("money", "Show what a job cost, or all of them."),
    "statement": Verb("statement", "What ran, when, for how much: CSV, PDF, ledgers."),
    "attest": Verb("attest", "Vouch for what is said of a provider, or take it back."),
    "attestations": Verb("attest", "List who vouches for what, of whom."),
    "wallet": Verb("money", "Show address and balance; get credits."),
    "escrow": Verb("escrow", "Show, add to or take back deposits.", is_group=True),
    "cp": Verb("files", "Copy files out of a running job."),
    "ssh": Verb("files", "Open a shell beside a running job; let ssh and scp in."),
    "port": Verb("files", "Reach a server that a running job runs."),
    "key": Verb("key", "Keep cold keys, encrypted; list yours.", is_group=True),
    "up": Verb("up", "Start a market for development, here.", is_group=True),
    "devchain": Verb("devchain", "Run a chain to try the escrow on.", is_group=True),
    "provider": Verb("provider", "Offer this machine and earn.", is_group=True),
    "node": Verb("node", "Operate a market.", is_group=True),
    "sell": Verb("sell", "Ask payment by x402 in front of an HTTP service."),
    "witness": Verb("witness", "Watch and cosign markets' logs.", is_group=True),
    "dispute": Verb("dispute", "Gather evidence about a lease, or check it.", True),
    "audit": Verb("audit", "Check a market's log: every match, every cent.", True),
}


class LazyGroup(TyperGroup):
    """Knows the names of all verbs, and imports one when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Name the verbs in the order in which people meet them."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a verb, or give None where there is none of this name."""
        return find_command(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Let the suggestion for a mistyped verb know all names."""
        self.commands = dict.fromkeys(VERBS)  # type: ignore[assignment]
        return super().resolve_command(ctx, args)


@cache
def find_command(name: str) -> Any:
    """Import a verb, or give None where there is none of this name."""
    verb = VERBS.get(name)
    if verb is None:
        return None
    app = import_module(f"sublet.cli.{verb.module}").app
    if verb.is_group:
        command = get_command(app)
        command.name = name
        return command
    return get_group(app).commands.get(name)


app = typer.Typer(
    cls=LazyGroup,
    help=HELP,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    ctx: typer.Context,
    version: bool = typer.Option(False, "--version", help="Say which version this is."),
) -> None:
    """Take what stands before the verb."""
    if version:
        from importlib.metadata import version as find_version

        typer.echo(f"sublet {find_version('sublet')}")
        raise typer.Exit


def run_command(argv: list[str]) -> int:
    """Run a command line to its end; give the exit code. Never raises."""
    from sublet.base.errors import SubletError

    try:
        code = _root_command().main(argv, "sublet", standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except SubletError as fault:
        return _tell(fault)
    except BrokenPipeError:
        return 141  # as a shell says of a program that wrote to nobody
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except ModuleNotFoundError as fault:
        return _tell_missing(fault)
    except Exception as fault:  # noqa: BLE001, the outermost loop of a face
        return _tell_unforeseen(fault)
    return int(code or 0)


@cache
def _root_command() -> Any:
    return get_command(app)


def load_everything() -> None:
    """Import what a tenant's verbs import, for a process that serves many of them."""
    for verb in VERBS.values():
        if not verb.is_group:
            import_module(f"sublet.cli.{verb.module}")
    for module in LATE:
        import_module(module)
    _root_command()


def _tell(fault: Any) -> int:
    """One line: what, where, and what to do about it."""
    from sublet.base.errors import Broken, Faults, Outdated, PeerFault, Refused

    faults = fault.faults if isinstance(fault, Faults) else (fault,)
    for one in faults:
        print_error(one.message)
    if isinstance(fault, Outdated):
        return EXIT_OUTDATED
    if isinstance(fault, Broken):
        return EXIT_BROKEN
    if isinstance(fault, PeerFault):
        return EXIT_PEER_FAULT
    return EXIT_REFUSED if isinstance(fault, Refused) else EXIT_UNAVAILABLE


def _tell_missing(fault: ModuleNotFoundError) -> int:
    """The base install is a tenant's; other faces bring more, by extras."""
    extra = _EXTRA_OF.get(fault.name or "")
    if extra is None:
        return _tell_unforeseen(fault)
    print_error(f"this needs more than the base install: pip install 'sublet[{extra}]'")
    return EXIT_REFUSED


def _tell_unforeseen(fault: Exception) -> int:
    if os.environ.get("SUBLET_DEBUG"):
        import traceback

        traceback.print_exception(fault)
    print_error(
        f"something went wrong that nobody foresaw ({type(fault).__name__}: {fault}); "
        "with SUBLET_DEBUG=1 it says where"
    )
    return EXIT_BROKEN


def print_error(message: str) -> None:
    """Write an error for people; a stranger's words lose what moves a cursor."""
    lines = [
        "".join(c for c in line if c.isprintable()) for line in message.split("\n")
    ]
    sys.stderr.write("".join(f"sublet: {line}\n" for line in lines if line))
    sys.stderr.flush()
