"""What a file of evidence proves, by whom, and what it does not: for people and JSON."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import typer
from msgspec import Struct

from sublet.base.errors import PeerFault, Refused
from sublet.base.ids import NO_ADDRESS, NO_DIGEST, Address, Digest
from sublet.base.units import format_duration, format_money
from sublet.core.document import Receipt, UsageRecord
from sublet.core.lease.contradiction import Contradiction
from sublet.core.lease.phase import Lease
from sublet.core.lease.retold import Line

_SHOWN_MAX = 60  # lines of a lease's life that a terminal is given


class Outcome(Struct, frozen=True):
    """The lease as the file's entries make it. Money in micro-USD."""

    phase: str
    tenant: Address
    provider: Address
    price_hour: int
    duration_s: int
    started_at_s: int
    ended_at_s: int
    ran_ms: int
    secured_ms: int
    exit_code: int
    reason: str
    fault: str
    owed: int
    vouched: int  # over the whole channel
    paid: int


class Outputs(Struct, frozen=True):
    """Digests that the provider signed for what came out."""

    entry: int
    outputs: Digest
    stdout: Digest
    stderr: Digest
    egress: Digest


class DisputeReport(Struct, frozen=True):
    """The outcome of a check."""

    is_good: bool
    sha256: Digest
    code: str = ""  # of what is wrong
    why: str = ""
    market: Digest = NO_DIGEST
    market_name: str = ""
    operator: Address = NO_ADDRESS
    note_key: str = ""
    lease: Digest = NO_DIGEST
    maker: Address = NO_ADDRESS
    maker_role: str = ""
    made_at_s: int = 0
    checkpoint_size: int = 0
    checkpoint_root: str = ""
    cosigned: dict[str, int] = {}  # witness -> when
    entries: int = 0
    others: int = 0
    reached_s: int = 0  # how late it is in the log at the last entry
    outcome: Outcome | None = None
    readings: int = 0
    outputs: tuple[Outputs, ...] = ()
    has_manifest: bool = False
    lines: tuple[Line, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    not_proven: tuple[str, ...] = ()


def make_report(
    raw: bytes, *, market_id: Digest = "", witnesses: Sequence[str] = ()
) -> DisputeReport:
    """Check a file; what is wrong with it is in the report. Never raises for that."""
    from sublet.wire.dispute import hash_dispute, judge, open_dispute

    sha256 = hash_dispute(raw)
    try:
        opened = open_dispute(raw)
        judgement = judge(opened, witnesses=witnesses)
        if market_id and opened.dispute.market != market_id:
            raise Refused(
                f"it is of market {opened.dispute.market}, and you expect {market_id}",
                code="wrong_market",
            )
        if missing := [key for key in witnesses if key not in judgement.cosigned]:
            raise Refused(
                f"{missing[0].partition('+')[0]} has not cosigned its checkpoint",
                code="unwitnessed",
            )
    except (PeerFault, Refused) as error:
        return DisputeReport(False, sha256, error.code, error.message)
    return _report(sha256, opened, judgement)


def _report(sha256: Digest, opened: Any, judgement: Any) -> DisputeReport:
    dispute, retold = opened.dispute, judgement.retold
    lease: Lease | None = retold.lease
    facts = [(each.index, each.fact) for each in opened.heard if not each.is_clock]
    roles = {opened.operator: "the operator"}
    if lease is not None:
        roles |= {lease.provider: "the provider", lease.tenant: "the tenant"}
    return DisputeReport(
        is_good=True,
        sha256=sha256,
        market=dispute.market,
        market_name=opened.market.name,
        operator=opened.operator,
        note_key=opened.market.note_key,
        lease=dispute.lease,
        maker=dispute.maker,
        maker_role=roles.get(dispute.maker, "no party of the lease"),
        made_at_s=dispute.made_at_s,
        checkpoint_size=opened.checkpoint.size,
        checkpoint_root=opened.checkpoint.root.hex(),
        cosigned=judgement.cosigned,
        entries=len(opened.heard),
        others=len(opened.others),
        reached_s=opened.heard[-1].fact.at_s,
        outcome=None if lease is None else _outcome(lease, retold.vouched),
        readings=sum(isinstance(fact.document, UsageRecord) for _, fact in facts),
        outputs=tuple(
            Outputs(index, said.outputs, said.stdout, said.stderr, said.egress)
            for index, fact in facts
            if isinstance(said := fact.document, Receipt)
        ),
        has_manifest=opened.manifest is not None,
        lines=retold.lines,
        contradictions=judgement.contradictions,
        not_proven=(*retold.unproven, *_unproven(opened, judgement)),
    )


def _outcome(lease: Lease, vouched: int) -> Outcome:
    return Outcome(
        phase=lease.phase.value,
        tenant=lease.tenant,
        provider=lease.provider,
        price_hour=lease.price_hour,
        duration_s=lease.duration_s,
        started_at_s=lease.started_at_s,
        ended_at_s=lease.ended_at_s,
        ran_ms=lease.ran_ms,
        secured_ms=lease.secured_ms,
        exit_code=lease.exit_code,
        reason=lease.reason,
        fault=lease.fault.value,
        owed=lease.owed,
        vouched=vouched,
        paid=lease.paid,
    )


def _unproven(opened: Any, judgement: Any) -> list[str]:
    """Say what a reader might think that the file shows, and it does not."""
    dispute = opened.dispute
    said = [
        "that nothing was left out: a proof shows that an entry is in the log, and "
        "never that another is not; whoever misses one brings it in a file of their own",
        "that the meter was honest, or what really ran: a reading is the provider's "
        "word, a voucher the tenant's",
        f"that {dispute.market} is the market that you mean: compare, or say --market-id",
    ]
    if judgement.retold.lease is not None:
        said.append(
            "that the market matched rightly, when it matched, what it held, and "
            f"{format_money(dispute.told.before)} that older leases take of the voucher: "
            "only the whole log shows it (sublet audit verify)"
        )
    else:
        said.append("that anyone took the order: no terms of it are here")
    if not judgement.cosigned:
        said.append(
            "that the market shows everybody this same log: no witness that you named "
            "has cosigned (--witness)"
        )
    if left := dispute.records_left_out + dispute.vouchers_left_out:
        said.append(
            f"what {left} readings and vouchers between these say: they are cumulative, "
            "and the maker left them out"
        )
    if opened.manifest is None:
        said.append("what the job was: its manifest is private and not here")
    return said


# ---- what people see --------------------------------------------------------------


def show_report(report: DisputeReport) -> None:
    """Print a report."""
    if not report.is_good:
        typer.echo(f"This file does not hold: {report.why} ({report.code})")
        typer.echo("Nothing in it is to be believed.")
        return
    typer.echo(f"Evidence about lease {report.lease}")
    typer.echo(
        f"  market      {report.market_name} {report.market}, operator {report.operator}"
    )
    typer.echo(
        f"  made by     {report.maker} ({report.maker_role}), {_time(report.made_at_s)}"
    )
    typer.echo(
        f"  checkpoint  signed by {report.note_key.partition('+')[0]} over "
        f"{report.checkpoint_size} entries, root {report.checkpoint_root}"
    )
    for witness, at_s in report.cosigned.items():
        name = witness.partition("+")[0]
        typer.echo(f"  witness     {name} cosigned it, {_time(at_s)}")
    typer.echo(f"  SHA-256     {report.sha256}")
    _show_life(report)
    _show_outcome(report)
    _show_contradictions(report)
    typer.echo("\nNot proven")
    for sentence in report.not_proven:
        typer.echo(f"  - {sentence}")
    typer.echo("\nThe file holds.")


def _show_life(report: DisputeReport) -> None:
    typer.echo(
        f"\nProven: each was signed by whom it names, and is one of {report.entries} "
        "entries that the log has"
    )
    lines = report.lines
    skipped = max(0, len(lines) - _SHOWN_MAX)
    half = _SHOWN_MAX // 2
    shown = lines if not skipped else (*lines[:half], None, *lines[-half:])
    for line in shown:
        if line is None:
            typer.echo(f"  … {skipped} more; --json has them all")
            continue
        mark = "x" if line.void else " "
        typer.echo(
            f"  {_time(line.at_s)} {mark} {line.phase or '-':<9} {line.who:<8} "
            f"{line.text} [#{line.index}]"
        )
    if report.others:
        typer.echo(f"  and {report.others} signed documents that are in no log")


def _show_outcome(report: DisputeReport) -> None:
    found = report.outcome
    if found is None:
        return
    typer.echo(f"\nRecomputed, as of {_time(report.reached_s)}")
    typer.echo(f"  parties     tenant {found.tenant}, provider {found.provider}")
    typer.echo(
        f"  terms       {format_money(found.price_hour)} an hour, at most "
        f"{format_duration(found.duration_s)}"
    )
    reason = f", {found.reason}" if found.reason else ""
    typer.echo(f"  phase       {found.phase}{reason}; at fault: {found.fault}")
    typer.echo(
        f"  meter       {found.ran_ms / 1_000:.3f} s by {report.readings} readings, "
        f"{found.secured_ms / 1_000:.3f} s of it secured by checkpoints"
    )
    typer.echo(
        f"  money       {format_money(found.owed)} owed, {format_money(found.paid)} paid; "
        f"{format_money(found.vouched)} vouched for over the whole channel"
    )
    for each in report.outputs:
        typer.echo(
            f"  outputs     {each.outputs} [#{each.entry}]\n"
            f"  stdout      {each.stdout}\n  stderr      {each.stderr}"
        )
    if report.has_manifest:
        typer.echo("  manifest    is here, and is the one that the tenant committed to")


def _show_contradictions(report: DisputeReport) -> None:
    for each in report.contradictions:
        typer.echo(
            f"\nEquivocation: {each.signer} signed two {each.kind} that contradict each "
            f"other in {', '.join(each.fields)}:\n  {each.first} ({each.first_where})\n"
            f"  {each.second} ({each.second_where})"
        )


def _time(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
