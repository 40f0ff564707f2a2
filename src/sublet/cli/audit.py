"""``sublet audit``: check a market's books, tell the life of a lease.

Exit code of ``verify``: 0, everything is right; 1, something is wrong; 2, the request
cannot be carried out as it stands.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from sublet.base.ids import NO_DIGEST
from sublet.base.units import format_money
from sublet.cli.audit_erasure import audit_erasure
from sublet.cli.log_option import (
    JsonOption,
    LogOption,
    MarketOption,
    find_file,
    find_lease_id,
    open_source,
    read_facts,
    read_file,
)
from sublet.cli.witnessed import Testimony, hear, parse_witness
from sublet.service.audit import LogSource, verify
from sublet.service.entry_audit import PAGES_AHEAD
from sublet.service.story import StoryLine, story
from sublet.service.verdict import Finding, Verdict

app = typer.Typer(
    help="Check a market's books yourself: every match, charge and balance.",
    no_args_is_help=True,
)


WALLETS_SHOWN_MAX = 20
JOBS_MAX = 64
ENTRIES_FEW = 20_000  # two seconds' work for one process
NOTE_BYTES_MAX = 16_384
FILE_BYTES_MAX = 65_536


@app.command("verify")
def verify_log(
    log: LogOption = "",
    market: MarketOption = "",
    is_from_snapshot: Annotated[
        bool,
        typer.Option("--from-snapshot", help="Begin at the newest sealed snapshot."),
    ] = False,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", help="A signed checkpoint that you kept; repeat."),
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(
            "--witness",
            help="KEY or KEY@URL of a witness that must have cosigned; repeat.",
        ),
    ] = None,
    quorum: Annotated[
        int,
        typer.Option(
            "--witness-quorum", min=1, help="So many of them; 2 of 3, for example."
        ),
    ] = 1,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            min=1,
            max=JOBS_MAX,
            help="Processes that check signatures; unless you say, as it is quickest.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute the whole log; name the first entry that is wrong."""
    from sublet.adapter.clock_system import SystemClock
    from sublet.adapter.sqlite_file import LogDamaged
    from sublet.wire.codec import DocumentCodec
    from sublet.wire.note import read_checkpoint

    held = [
        read_file(path, "--checkpoint", NOTE_BYTES_MAX) for path in checkpoint or []
    ]
    named = [parse_witness(text) for text in witness or []]
    heard: Testimony | None = None
    with (
        open_source(log, market) as (source, expected),
        show_progress("checking") as progress,
    ):
        try:
            if named:
                heard = hear(source, named, quorum=quorum, log=find_file(log))
                held += heard.notes
            with _open_executor(jobs or _choose_jobs(source)) as executor:
                verdict = verify(
                    source,
                    DocumentCodec(),
                    SystemClock(),
                    read_note=read_checkpoint,
                    is_from_snapshot=is_from_snapshot,
                    held=held,
                    market=expected,
                    executor=executor,
                    progress=progress,
                )
        except LogDamaged as error:
            # Broken for a node that lives on this file; for an auditor, the answer.
            verdict = Verdict(Finding("damaged", error.message, 0, 0, code=error.code))
    if heard is not None and verdict.is_good:
        fault = heard.find_fault(entries=verdict.entries)
        verdict = msgspec.structs.replace(verdict, finding=fault)
    if as_json:
        report = msgspec.to_builtins(verdict) | {"is_good": verdict.is_good}
        if heard is not None:
            report["witnessed_size"] = heard.size
            report["cosigned"] = msgspec.to_builtins(heard.cosigned)
        typer.echo(msgspec.json.encode(report).decode())
    else:
        _show_verdict(verdict, Console())
        for sentence in heard.sentences() if heard is not None else ():
            typer.echo(f"  witness      {sentence}")
    raise typer.Exit(0 if verdict.is_good else 1)


@app.command("split")
def check_split(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Evidence, as it was kept.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Check evidence that a log showed two histories; needs no network.

    Exit code: 0, it is proven; 2, it is not, and why.
    """
    from sublet.wire.split_view import check_split_view, read_split_view

    shown = read_split_view(read_file(file, "FILE", FILE_BYTES_MAX))
    older, newer = check_split_view(shown)
    if as_json:
        report = {
            "is_proven": True,
            "verifier_key": shown.verifier_key,
            "origin": older.origin,
            "sizes": [older.size, newer.size],
            "roots": [older.root.hex(), newer.root.hex()],
        }
        typer.echo(msgspec.json.encode(report).decode())
        return
    typer.echo(
        f"Proven: whoever holds the key {shown.verifier_key}\nsigned two histories of "
        f"{older.origin}:\n  {older.size} entries with root {older.root.hex()}\n"
        f"  {newer.size} entries with root {newer.root.hex()}\n"
        "No log that only grows has both."
    )


@app.command("story")
def tell_story(
    lease: Annotated[str, typer.Argument(metavar="LEASE", help="The lease's id.")],
    log: LogOption = "",
    market: MarketOption = "",
    as_json: JsonOption = False,
) -> None:
    """Tell the life of one lease: facts, phases, causes, amounts."""
    with open_source(log, market) as (source, _):
        facts = list(read_facts(source))
    lines = story(facts, find_lease_id(facts, lease))
    if as_json:
        typer.echo(msgspec.json.encode(lines).decode())
    else:
        _show_story(lines, Console())


app.command("erasure")(audit_erasure)


def _choose_jobs(source: LogSource) -> int:
    """One for each core, unless the audit ends sooner than processes start."""
    return 1 if source.size() < ENTRIES_FEW else len(os.sched_getaffinity(0))


@contextmanager
def _open_executor(jobs: int) -> Iterator[Executor | None]:
    """Give so many processes for an audit; None where this one does it all."""
    if jobs == 1:
        yield None
        return
    # Not forked from here: by now there are threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sublet.service.entry_audit", "sublet.wire.codec"])
    executor = ProcessPoolExecutor(min(jobs, PAGES_AHEAD), mp_context=context)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


# ---- where the log comes from -----------------------------------------------------


@contextmanager
def show_progress(doing: str) -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal how many entries are done."""
    with _bar(Console(stderr=True)) as progress:
        task = progress.add_task(doing, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("entries"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


# ---- what people see --------------------------------------------------------------


def _show_verdict(verdict: Verdict, console: Console) -> None:
    if verdict.market != NO_DIGEST:
        console.print(
            f"Market [bold]{escape(verdict.name)}[/bold] {verdict.market}",
            soft_wrap=True,
            highlight=False,
        )
        _show_checked(verdict, console)
    for sentence in verdict.not_checked:
        console.print(f"  [yellow]not checked[/yellow]  {sentence}", soft_wrap=True)
    if verdict.finding is not None:
        _show_finding(verdict, console)
        return
    _show_wallets(verdict, console)
    if verdict.unsigned:
        console.print(
            f"[yellow]The last {verdict.unsigned} entries are not signed for yet.[/yellow]"
        )
    console.print(
        f"[bold green]Everything is right.[/bold green] The operator has signed for "
        f"{verdict.signed_size} entries, root {verdict.signed_root}. Keep that "
        "checkpoint: with it you can prove any later change.",
        soft_wrap=True,
        highlight=False,
    )


def _show_checked(verdict: Verdict, console: Console) -> None:
    voids = ", ".join(f"{void.count} {void.code}" for void in verdict.voids)
    void_count = sum(void.count for void in verdict.voids)
    rows = [
        ("entries", f"{verdict.entries} with every signature checked again, "
         f"{verdict.entries_per_s} a second"),
        ("leases", f"{verdict.leases} matched again, {verdict.leases_settled} settled, "
         f"{format_money(verdict.paid)} paid in all"),
        ("credits", f"{format_money(verdict.issued)} issued by the operator"),
        ("void", f"{void_count} entries that the market refused"
         + (f" ({voids})" if voids else "")),
        ("checkpoints", f"{verdict.checkpoints} signed trees and {verdict.seals} sealed "
         "books compared"),
    ]  # fmt: skip
    for name, text in rows:
        console.print(f"  {name:<12} {text}", soft_wrap=True, highlight=False)


def _show_finding(verdict: Verdict, console: Console) -> None:
    finding = verdict.finding
    if finding is None:
        return
    where = f"entry {finding.first}"
    if finding.what == "damaged":
        where = "the file"
    elif finding.last != finding.first:
        where = f"entries {finding.first} to {finding.last}"
    console.print(f"[bold red]Something is wrong: {where}.[/bold red]")
    console.print(f"  {finding.why}", soft_wrap=True, highlight=False, markup=False)
    code = f" ({finding.code})" if finding.code else ""
    document = f", document {finding.id}" if finding.id != NO_DIGEST else ""
    console.print(f"  {finding.what}{code}{document}", soft_wrap=True, highlight=False)
    console.print("Nothing behind it was checked.")


def _show_wallets(verdict: Verdict, console: Console) -> None:
    table = Table("party", title="Balances", title_justify="left", box=None)
    for name in ("free", "held", "earned", "spent"):
        table.add_column(name, justify="right")
    for wallet in verdict.wallets[:WALLETS_SHOWN_MAX]:
        amounts = (wallet.balance, wallet.held, wallet.earned, wallet.spent)
        table.add_row(wallet.party, *(format_money(amount) for amount in amounts))
    console.print(table)
    more = len(verdict.wallets) - WALLETS_SHOWN_MAX
    if more > 0:
        console.print(f"  and {more} more; --json lists them all")


def _show_story(lines: list[StoryLine], console: Console) -> None:
    for line in lines:
        at = datetime.fromtimestamp(line.at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
        mark = (
            "[red]x[/red]" if line.refused else "[bold]>[/bold]" if line.moved else " "
        )
        console.print(
            f"{at} {mark} [cyan]{line.phase or '-':<9}[/cyan] {line.who:<8} ",
            end="",
            highlight=False,
        )
        console.print(
            f"{line.text} [#{line.index}]",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
