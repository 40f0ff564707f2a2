"""What ``sublet deploy`` reads and shows: plans, faults, services' lines, the schema."""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

import msgspec
import typer

from sublet.base.errors import Faults, Refused, SubletError
from sublet.base.units import format_duration, format_money
from sublet.cli.output import Screen, format_table
from sublet.workload.deploy.file import Read, read_file
from sublet.workload.deploy.launch import Copy
from sublet.workload.deploy.own import make_schema
from sublet.workload.deploy.plan import HEAD, DeployPlan, describe
from sublet.workload.deploy.tree import FILE_BYTES_MAX

FILES = ("sublet.yaml", "deploy.yaml", "compose.yaml", "docker-compose.yml")
COPIES_HEAD = ("DEPLOYMENT", "COPY", "STATE", "RAN", "COST", "PORTS", "JOB")
LINE_BYTES_MAX = 65_536  # of a service's line, before it is shown in parts


def render_schema() -> str:
    """Give the JSON Schema of ``sublet.yaml`` as its published file has it."""
    schema = msgspec.json.format(msgspec.json.encode(make_schema()), indent=2)
    return schema.decode() + "\n"


def read(
    file: Path | None,
    *,
    name: str | None,
    akt_usd: str | None,
    is_any_provider: bool,
    as_json: bool,
) -> Read:
    """Read a deployment file.

    Raises:
        Refused: there is none, or it cannot be read.
        Faults: everything that is wrong with it.
    """
    place = file or next((Path(one) for one in FILES if Path(one).is_file()), None)
    if place is None:
        raise Refused(
            f"name a file; there is no {', '.join(FILES)} here",
            code="no_target",
            field="FILE",
        )
    try:
        with place.open("rb") as opened:
            raw = opened.read(FILE_BYTES_MAX + 1)
        own = place.resolve().parent.name
    except OSError as exc:
        raise Refused(
            f"{place} cannot be read: {exc.strerror}", code="no_input", field="FILE"
        ) from exc
    rate = None if akt_usd is None else _parse_rate(akt_usd)
    try:
        found = read_file(
            raw,
            file=str(place),
            name=name or own,
            akt_usd=rate,
            is_any_provider=is_any_provider,
        )
    except Faults as fault:
        if as_json:
            rows = [_row(one) for one in fault.faults]
            typer.echo(msgspec.json.encode({"ok": False, "faults": rows}).decode())
            raise typer.Exit(2) from fault
        raise
    if name is None:
        return found
    return msgspec.structs.replace(
        found, plan=msgspec.structs.replace(found.plan, name=_check_name(name))
    )


def _check_name(name: str) -> str:
    is_name = len(name) <= 28 and name.isascii() and name.replace("-", "a").isalnum()
    if not is_name or name.startswith("-"):
        raise Refused(
            f"--name: {name[:40]!r} is no name; use letters, digits and -, at most 28",
            code="bad_name",
            field="--name",
        )
    return name


def _parse_rate(text: str) -> Decimal:
    try:
        rate = Decimal(text)
    except InvalidOperation:
        rate = Decimal(0)
    if not Decimal("0.000001") <= rate <= 1_000_000:
        raise Refused(
            f"--akt-usd: {text[:40]!r} is no price of an AKT; write it like 1.20",
            code="bad_money",
            field="--akt-usd",
        )
    return rate


def _row(fault: SubletError) -> dict[str, str | int]:
    detail = fault.detail
    return {
        "file": detail.get("file", ""),
        "line": detail.get("line", 0),
        "key": fault.field,
        "message": fault.message,
        "cure": detail.get("cure", ""),
        "code": fault.code,
    }


def show(found: Read, *, as_json: bool) -> None:
    """Show what a file that is right comes to, and what cannot be had here."""
    plan = found.plan
    if as_json:
        typer.echo(
            msgspec.json.encode(
                {"ok": True, "kind": found.kind, "plan": plan, "akash": found.akash}
            ).decode()
        )
        return
    typer.echo(render_plan(plan))
    for service in plan.services:
        for text in service.unmet:
            typer.echo(f"cannot be had here: {service.name}: {text}")


def render_plan(plan: DeployPlan) -> str:
    """Lay a plan out for people."""
    count = sum(service.copies for service in plan.services)
    head = f"deployment {plan.name}: {count} leases"
    notes = "".join(f"\nnote: {text}" for text in plan.notes)
    return f"{head}\n{format_table(HEAD, describe(plan))}{notes}"


def render_copies(copies: Sequence[Copy], *, as_json: bool) -> str:
    """Lay out how copies stand."""
    if as_json:
        return msgspec.json.encode(copies).decode()
    rows = [
        (
            one.deployment,
            f"{one.service}.{one.number}",
            f"exit {one.record.job.exit_code}" if one.state == "over" else one.state,
            format_duration(sum(a.ran_ms for a in one.record.job.attempts) // 1_000),
            format_money(one.record.job.cost),
            ",".join(map(str, one.ports)) or "-",
            one.record.id,
        )
        for one in copies
    ]
    text = format_table(COPIES_HEAD, rows)
    reached = next((c for c in copies if c.ports and c.state == "running"), None)
    if reached is None:
        return text
    return f"{text}\nreach a port: sublet port {reached.record.name} {reached.ports[0]}"


class Lines:
    """The output of several services, line by line, each with its service's name."""

    def __init__(self, number: int, *, width: int) -> None:
        """Take the file descriptor, and how wide names are."""
        self._screen = Screen(number)
        self._width = width
        self._rests: dict[tuple[str, str], bytes] = {}

    async def write(self, name: str, stream: str, content: bytes) -> None:
        """Write the lines that are whole."""
        rest = self._rests.pop((name, stream), b"") + content
        *whole, rest = rest.split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            whole.append(rest)
            rest = b""
        if rest:
            self._rests[name, stream] = rest
        mark = f"{name:<{self._width}} | ".encode()
        await self._screen.write(b"".join(mark + line + b"\n" for line in whole))

    async def flush(self) -> None:
        """Write what has no end of line."""
        for name, stream in list(self._rests):
            await self.write(name, stream, b"\n")
