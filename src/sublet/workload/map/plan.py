"""From what was asked to what all workers of a map are sent. Blocks on the disk."""

from pathlib import Path

import msgspec
from blake3 import blake3
from msgspec import Struct, structs

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.base import limits
from sublet.base.errors import Refused
from sublet.core.book.mode import STANDING
from sublet.core.task.state import RETRIES, MapLimits
from sublet.wire.message import FileEntry, Tree
from sublet.workload.map import clerk, harness
from sublet.workload.map.session import BOX
from sublet.workload.run import survey
from sublet.workload.run.need import parse_span
from sublet.workload.run.plan import Program, find_metadata, find_paths, parse_program
from sublet.workload.run.wish import Collector, Terms, Wish, refuse
from sublet.workload.run.work import Work

PARALLEL = 4
SECONDS_PER_HOUR = 3_600
_HARNESS = f"{BOX}/worker.py"
_CLERK = f"{BOX}/clerk.py"
_KEPT = f"{BOX}/kept"


class MapWish(Struct, frozen=True, kw_only=True):
    """What a map asks for beside what a job does; texts as they were typed."""

    parallel: int | None = None
    volume: str | None = None  # machine time of all workers, in one standing order
    timeout: str | None = None  # of one attempt at one task
    stall: str | None = None  # that one may make no progress
    fastest_ms: int = 0  # no honest machine does a task in less
    is_warm: bool = False  # the program is started once and told of each task
    retries: int | None = None
    is_fail_fast: bool = False
    retry_failed: bool = False
    is_open: bool = False  # tasks may be added while it runs


class MapWork(Struct, frozen=True):
    """What all workers of a map have in common."""

    work: Work
    head: tuple[str, ...]  # of every task's command; {python} is the script's own
    args: tuple[str, ...]  # before a task's own
    fingerprint: str  # of program and files
    is_warm: bool = False


def parse_limits(wish: MapWish, terms: Terms) -> MapLimits:
    """Read what a map asks for; the number of tasks comes later.

    Raises:
        Faults: all that is wrong.
    """
    found = Collector()
    spans = {"--timeout": wish.timeout, "--stall": wish.stall}
    seconds = {
        field: found.take(0, parse_span, text, field, 1, limits.LEASE_S_MAX)
        for field, text in spans.items()
        if text is not None
    }
    retries = RETRIES if wish.retries is None else wish.retries
    parallel = PARALLEL if wish.parallel is None else wish.parallel
    if terms.needs.volume_s:
        parallel = -(-terms.needs.volume_s // terms.needs.timeout_s)
    for field, value, least, most in (
        ("--parallel", parallel, 1, limits.PARALLEL_MAX),
        ("--retries", retries, 0, limits.RETRIES_MAX),
    ):
        if not least <= value <= most:
            text = f"{value} is not between {least} and {most}"
            found.faults.append(refuse(field, text, code="out_of_range"))
    found.check()
    return MapLimits(
        tasks=0,
        parallel=parallel,
        total_max=terms.needs.total_max,
        retries=retries,
        timeout_ms=seconds.get("--timeout", 0) * 1_000,
        stall_ms=seconds.get("--stall", 0) * 1_000,
        fastest_ms=wish.fastest_ms,
        is_fail_fast=wish.is_fail_fast,
        is_open=wish.is_open,
    )


def add_volume(wish: MapWish, terms: Terms, *, max_price: str | None) -> Terms:
    """Give the terms of workers that one standing order pays for, where that is asked.

    Without a price of its own an hour may cost what the total has for it.

    Raises:
        Faults: all that is wrong.
    """
    if wish.volume is None:
        return terms
    found, needs = Collector(), terms.needs
    most = needs.timeout_s * min(limits.PIECES_PER_ORDER_MAX, limits.PARALLEL_MAX)
    volume_s = found.take(0, parse_span, wish.volume, "--volume", needs.timeout_s, most)
    if needs.mode != STANDING:
        found.faults.append(
            refuse(
                "--volume",
                "an order that is filled in pieces waits: add --mode standing:TIME",
                code="bad_volume",
            )
        )
    if wish.parallel is not None:
        found.faults.append(
            refuse(
                "--parallel",
                "with --volume as many machines work as there are; leave it out",
                code="bad_volume",
            )
        )
    found.check()
    price = needs.price_hour_max
    if max_price is None:
        price = needs.total_max * SECONDS_PER_HOUR // volume_s
    return structs.replace(
        terms, needs=structs.replace(needs, volume_s=volume_s, price_hour_max=price)
    )


def gather_work(
    wish: Wish, terms: Terms, *, folder: Path, is_warm: bool = False
) -> MapWork:
    """Put program, inputs, harness and clerk into one tree.

    Args:
        wish: the program and its arguments, inputs, variables.
        terms: of each worker.
        folder: for chunks; cheap to lose.
        is_warm: the program is started once and told of each task.

    Raises:
        Refused: something that cannot travel, or is not there.
    """
    seen = {path: survey.look(path) for path in find_paths(wish)}
    program = parse_program(wish, seen)
    # Inputs can be read again; only what is fetched has to be on the disk.
    blobs = FolderBlobs(folder, is_durable=False)
    inputs = survey.gather(program, blobs=blobs, bytes_max=terms.needs.disk_bytes)
    if any(file.path.split("/")[0] == BOX for file in inputs.files):
        raise Refused(
            f"--input: {BOX} is where a worker keeps its tasks; rename yours",
            code="same_name",
            field="--input",
        )
    head, metadata = _find_head(program, inputs, blobs)
    text = Path(harness.__file__).read_text(encoding="utf-8")
    if metadata:
        text = f"{text}\n\n{metadata}\n"
    own = [
        _put(_HARNESS, text, blobs),
        _put(_CLERK, Path(clerk.__file__).read_text(encoding="utf-8"), blobs),
    ]
    tree = Tree(files=tuple(sorted((*inputs.files, *own), key=lambda file: file.path)))
    worker = Program("script", (_HARNESS,), program.sources, program.command)
    args = program.argv[1:]
    return MapWork(
        work=Work(
            id="",
            program=worker,
            terms=structs.replace(terms, checkpoint=_KEPT, outputs=()),
            inputs=tree,
            blobs=FolderBlobs(folder),
        ),
        head=head,
        args=args,
        fingerprint=_identify(program, inputs, terms, is_warm=is_warm),
        is_warm=is_warm,
    )


def _identify(program: Program, inputs: Tree, terms: Terms, *, is_warm: bool) -> str:
    """Hash what decides what a task comes to; of secrets only the names."""
    names = sorted(terms.secrets)
    parts = (program.kind, program.argv, inputs, terms.env, names, is_warm)
    return blake3(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def _find_head(
    program: Program, inputs: Tree, blobs: FolderBlobs
) -> tuple[tuple[str, ...], str]:
    """Say how a task is run, and what the worker's environment needs."""
    name = program.argv[0]
    if program.kind != "script":
        return (name,), ""
    script = next(file for file in inputs.files if file.path == name)
    return ("{python}", name), find_metadata(survey.read_text(script, blobs))


def _put(path: str, text: str, blobs: FolderBlobs) -> FileEntry:
    content = text.encode()
    return FileEntry(
        path=path, size=len(content), mode=0o644, chunks=(blobs.put(content),)
    )
