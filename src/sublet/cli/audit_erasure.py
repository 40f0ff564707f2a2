"""``sublet audit erasure``: hold a signed statement of erasure against the log."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from msgspec import Struct

from sublet.base.errors import Refused
from sublet.base.ids import Digest
from sublet.cli.log_option import (
    JsonOption,
    LogOption,
    MarketOption,
    find_lease_id,
    open_source,
    read_facts,
)
from sublet.core.book.book import Book
from sublet.core.book.step import step
from sublet.core.document import Erasure, Fact
from sublet.core.lease.phase import Lease

ReceiptOption = Annotated[
    Path | None,
    typer.Option(
        "--receipt",
        help="The statement, a file erasure-….json; unless you say, that of your job.",
    ),
]
_LEVELS = {
    "A0": "declared, and signed by nobody",
    "A1": "signed by the provider, logged, checked by nobody else",
    "A2": "checked by others",
    "A3": "checked by an auditor",
    "A4": "attested by hardware",
}
_MEANS = (
    "The provider stands by this with its key and its name: the key of the scratch "
    "was destroyed, nothing that can be read was left on its disk, and the slice was "
    "bound until it said so.",
    "It does not prove that no copy was made while the job ran, nor that the program "
    "which signed was the true one: nobody but the provider has seen it.",
)


class ErasureReport(Struct, frozen=True):
    """What an audit of one erasure found."""

    lease: Digest
    is_good: bool
    faults: tuple[str, ...]
    category: str
    level: str
    provider: str
    signer: str
    statement: Digest
    logged_at_s: int
    medium: dict[str, Any]
    steps: tuple[dict[str, Any], ...]
    gpus: tuple[dict[str, Any], ...]


def audit_erasure(
    lease: Annotated[str, typer.Argument(metavar="LEASE", help="The lease's id.")],
    receipt: ReceiptOption = None,
    log: LogOption = "",
    market: MarketOption = "",
    as_json: JsonOption = False,
) -> None:
    """Check the statement that nothing of a lease's data is left.

    Its signature, the log's word for it, the lease, the times and the order of its
    steps. Exit code: 0, it holds; 1, something is wrong; 2, it cannot be checked.
    """
    with open_source(log, market) as (source, _):
        facts = list(read_facts(source))
    found, logged_at_s = _replay(facts, find_lease_id(facts, lease))
    report = check_erasure(
        found, _read_statement(receipt, found.id), logged_at_s=logged_at_s
    )
    if as_json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        _show(report)
    raise typer.Exit(0 if report.is_good else 1)


def check_erasure(lease: Lease, raw: bytes, *, logged_at_s: int) -> ErasureReport:
    """Hold a statement against its lease.

    Raises:
        PeerFault: it is no signed statement.
    """
    from sublet.wire.sanitization import find_faults, open_envelope

    read = open_envelope(raw)
    said = read.statement.predicate
    faults = find_faults(read, lease, logged_at_s=logged_at_s)
    return ErasureReport(
        lease=lease.id,
        is_good=not faults,
        faults=faults,
        category=said.category,
        level=said.level,
        provider=lease.provider,
        signer=read.signer,
        statement=read.digest,
        logged_at_s=logged_at_s,
        medium=msgspec.to_builtins(said.medium),
        steps=tuple(msgspec.to_builtins(each) for each in said.steps),
        gpus=tuple(msgspec.to_builtins(each) for each in said.gpus),
    )


def _replay(facts: Iterable[Fact], lease_id: Digest) -> tuple[Lease, int]:
    """Fold the log; give the lease at its end, and when its erasure was heard."""
    book, logged_at_s = Book(), 0
    lease: Lease | None = None
    for fact in facts:
        done = step(book, fact)
        lease = book.find_lease(lease_id) or lease  # old ones are forgotten
        is_ours = getattr(fact.document, "lease_id", "") == lease_id
        if is_ours and isinstance(fact.document, Erasure) and done.refusal is None:
            logged_at_s = fact.at_s
    if lease is None:
        raise Refused(
            f"the log knows no lease {lease_id}; its id is that of its order",
            code="unknown_lease",
            field="LEASE",
        )
    return lease, logged_at_s


def _read_statement(receipt: Path | None, lease_id: Digest) -> bytes:
    """Read the statement: where the caller says, or in the folder of the job."""
    from sublet.base.limits import STATEMENT_BYTES_MAX

    home = Path(os.environ.get("SUBLET_HOME") or "~/.sublet").expanduser()
    name = f"erasure-{lease_id[2:14]}.json"
    known = [receipt] if receipt else sorted(home.glob(f"jobs/*/{name}"))
    if not known:
        raise Refused(
            f"no job here has a file {name}; name the provider's statement with "
            "--receipt FILE",
            code="no_statement",
            field="--receipt",
        )
    try:
        with known[-1].expanduser().open("rb") as file:
            return file.read(STATEMENT_BYTES_MAX + 1)
    except OSError as error:
        raise Refused(
            f"--receipt: {known[-1]} cannot be read ({error.strerror})",
            code="no_statement",
            field="--receipt",
        ) from error


def _show(report: ErasureReport) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    medium = report.medium
    console.print(f"Lease {report.lease} of {report.provider}")
    what = medium["kind"] or "no data was ever received"
    cipher = f", {medium['cipher']}, key {medium['keyId']}" if medium["cipher"] else ""
    console.print(
        f"  lay on      {what}{cipher}; {medium['files']} files, {medium['bytes']} "
        f"bytes; swap {medium['swap']}",
        markup=False,
    )
    for step_ in report.steps:
        mark = "ok    " if step_["isOk"] else "FAILED"
        console.print(f"  {step_['name']:<18}{mark} {step_['note']}", markup=False)
    for gpu in report.gpus:
        console.print(
            f"  {gpu['uuid']}: {gpu['bytesOverwritten']} of {gpu['bytesTotal']} bytes "
            f"overwritten, {gpu['bytesSampled']} read back; {gpu['note']}",
            markup=False,
        )
    for fault in report.faults:
        console.print(f"[bold red]Wrong:[/bold red] {fault}.")
    if report.faults:
        return
    console.print(
        f"[bold green]The statement holds:[/bold green] {report.category} (NIST SP "
        f"800-88r2), level {report.level}: {_LEVELS.get(report.level, 'unknown')}."
    )
    for sentence in _MEANS:
        console.print(sentence)
