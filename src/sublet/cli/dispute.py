"""``sublet dispute``: all that is signed about one lease, in a file that anyone checks.

``verify`` needs neither home nor network nor market. Its exit code: 0, the file holds;
1, something in it does not; 2, the request cannot be carried out.
"""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from typer.core import TyperGroup

from sublet.base.errors import Refused
from sublet.base.ids import Digest
from sublet.cli.dispute_case import execute, open_, propose, sign
from sublet.cli.dispute_chain import collect, slash, write_file
from sublet.cli.log_option import (
    JsonOption,
    LogOption,
    MarketOption,
    open_source,
    read_file,
)

if TYPE_CHECKING:  # whoever only verifies has no use for the book, nor the means
    from sublet.service.dispute import Gathered

OTHER_BYTES_MAX = 16_384


class _Group(TyperGroup):
    """``sublet dispute LEASE`` is ``sublet dispute make LEASE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``make`` in front of what names no verb."""
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["make", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    help="Gather what is signed about a lease, or check what somebody gathered.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("make")
def make_dispute(
    lease: Annotated[str, typer.Argument(metavar="LEASE", help="The lease's id.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file; default: dispute-LEASE.json."),
    ] = None,
    other: Annotated[
        list[Path] | None,
        typer.Option(
            "--add", help="A signed document that is in no log (JSON); repeat."
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--with-manifest",
            help="The private manifest (canonical JSON), with its salt: whoever reads "
            "the file reads it.",
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", help="Who signs the file; default: your home's key."),
    ] = None,
    log: LogOption = "",
    market: MarketOption = "",
    as_json: JsonOption = False,
) -> None:
    """Gather all that the log holds about a lease, with proofs, into one file.

    Orders, offers, terms, meter readings, checkpoints, receipts, vouchers: each with
    the proof that it is in the market's log. The job itself stays private: the file has
    digests of it, unless you add the manifest. A provider names its key:
    --key ~/.sublet/provider/key, or wherever its home is.

    \b
    Examples:
      sublet dispute 0x3f2a…
      sublet dispute make 0x3f2a… --output evidence.json    (the same)
      sublet dispute verify evidence.json
    """
    from sublet.adapter.key_file import load_key
    from sublet.cli.audit import show_progress
    from sublet.service.dispute import gather
    from sublet.wire.codec import DocumentCodec
    from sublet.wire.dispute import FILE_BYTES_MAX, hash_dispute

    home = Path(os.environ.get("SUBLET_HOME") or "~/.sublet")
    signer = load_key((key or home / "key").expanduser())
    others = tuple(
        read_file(path, "--add", OTHER_BYTES_MAX).decode(errors="replace").strip()
        for path in other or []
    )
    private = ""
    if manifest is not None:
        raw = read_file(manifest, "--with-manifest", FILE_BYTES_MAX)
        private = raw.decode(errors="replace").strip()
    with open_source(log, market) as (source, _), show_progress("reading") as progress:
        gathered = gather(
            source, DocumentCodec(), _complete(source, lease), progress=progress
        )
    raw = write_dispute(
        gathered,
        key=signer,
        made_at_s=int(time.time()),
        others=others,
        manifest=private,
    )
    place = output or Path(f"dispute-{_lease_of(gathered)[2:14]}.json")
    report = _judge(raw)  # what does not hold is not written
    write_file(place, raw)
    if as_json:
        typer.echo(msgspec.json.encode(report | {"file": str(place)}).decode())
        return
    typer.echo(
        f"{place}: {len(gathered.entries)} entries of the log, {len(raw):,} bytes\n"
        f"SHA-256 {hash_dispute(raw)}\n"
        "Anyone can check it, without a network: sublet dispute verify " + str(place)
    )
    if not private:
        typer.echo(
            "Left out, because it is private: the manifest. The file has its digest."
        )


@app.command("verify")
def verify_dispute(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file.")],
    market_id: Annotated[
        str,
        typer.Option("--market-id", help="The market that you expect it to be of."),
    ] = "",
    witness: Annotated[
        list[str] | None,
        typer.Option("--witness", help="KEY of a witness that must have cosigned."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a file of evidence: what it proves, by whom, and what it does not.

    Needs no home, no network and no market. Exit code: 0, it holds; 1, something in it
    does not; 2, it cannot be read.
    """
    from sublet.cli.dispute_report import make_report, show_report
    from sublet.cli.witnessed import parse_witness
    from sublet.wire.dispute import FILE_BYTES_MAX

    keys = [parse_witness(text).verifier_key for text in witness or []]
    raw = read_file(file, "FILE", FILE_BYTES_MAX)
    report = make_report(raw, market_id=market_id.lower(), witnesses=keys)
    if as_json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        show_report(report)
    raise typer.Exit(0 if report.is_good else 1)


app.command("open")(open_)
for verb in (slash, collect, propose, sign, execute):
    app.command()(verb)


def write_dispute(
    gathered: "Gathered",
    *,
    key: Any,
    made_at_s: int,
    others: tuple[str, ...] = (),
    manifest: str = "",
) -> bytes:
    """Write what was gathered as a file, signed by ``key``.

    Raises:
        Refused: ``dispute_too_large``.
    """
    from sublet.wire.dispute import Dispute, Held, sign_dispute
    from sublet.wire.message import PROTOCOL_VERSION

    entries = tuple(
        Held(
            each.index,
            each.body.decode(),
            tuple(node.hex() for node in each.proof),
            each.void,
        )
        for each in gathered.entries
    )
    dispute = Dispute(
        v=PROTOCOL_VERSION,
        type="sublet-dispute",
        made_at_s=made_at_s,
        maker=key.address,
        market=gathered.market,
        lease=_lease_of(gathered),
        order=gathered.order,
        told=gathered.told,
        records_left_out=gathered.records_left_out,
        vouchers_left_out=gathered.vouchers_left_out,
        checkpoint=gathered.note.decode(),
        entries=entries,
        others=others,
        manifest=manifest,
    )
    return sign_dispute(dispute, key=key)


def _lease_of(gathered: "Gathered") -> Digest:
    return gathered.order if gathered.lease is None else gathered.lease.id


def _judge(raw: bytes) -> dict[str, Any]:
    """Check what was just made, as its reader will."""
    from sublet.cli.dispute_report import make_report

    report = make_report(raw)
    if not report.is_good:
        raise Refused(
            f"the evidence would not hold: {report.why}; nothing was written",
            code=report.code,
        )
    built: dict[str, Any] = msgspec.to_builtins(report)
    return built


def _complete(source: Any, text: str) -> Digest:
    """Complete an id of which people give the beginning; a piece's is given whole."""
    from sublet.cli.log_option import find_lease_id, read_facts

    if len(text.removeprefix("0x")) == 64:
        return "0x" + text.lower().removeprefix("0x")
    return find_lease_id(list(read_facts(source)), text)
