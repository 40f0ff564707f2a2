"""One file about one unit that anybody can check: who said what, and who lied. Pure.

In it are the words of two or three providers, with what binds them to their words: the
evidence about their leases (``wire.dispute``), the output that their receipts cover, the
line in it about this task (``core.task.commitment``), and the probed blocks of their
pictures. A block of the worker's is shown to be of the picture that it committed to by a
Merkle proof; a block that was rendered alone is a whole picture, and its hash is a leaf
of that very tree.

Everything is computed anew: nothing that the maker of the file says is believed. What it
cannot show without Blender is who is *right*: that is what the third provider is for, and
whoever doubts it renders the probes. How the probes were drawn convicts nobody either,
since an honest picture stands wherever it is probed; with the whole picture at hand
``draw_again`` draws them.

Not here: files, and the leases' evidence itself (``workload.render.evidence``).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeVar

import msgspec
import numpy as np
from blake3 import blake3
from msgspec import Meta, Struct

from sublet.base.errors import PeerFault
from sublet.base.ids import Address, Digest
from sublet.core.merkle import inclusion_proof, leaf_hash, verify_inclusion
from sublet.core.render import verdict
from sublet.core.render.compare import Finding, compare, get_rule
from sublet.core.render.picture import (
    BLOCK,
    CHANNELS,
    Picture,
    count_blocks,
    hash_blocks,
    write_pixels,
)
from sublet.core.render.probe import (
    SALT_BYTES,
    Probe,
    cut_probes,
    draw_probes,
    list_checked,
    locate,
    make_seed,
)
from sublet.core.render.unit import Recipe, Unit, UnitReport, get_tile
from sublet.core.task.commitment import Commitment, commit, read_commitments

T = TypeVar("T")

STREAM_BYTES_MAX = 16 * 1024 * 1024
TEXT_BYTES_MAX = 1 << 20  # of what a task was given, and of what it wrote
LEASE_BYTES_MAX = 64 * 1024 * 1024
PROBES_MAX = 64
_BLOCK_BYTES = BLOCK * BLOCK * CHANNELS * 4
_PROOF_MAX = 24  # levels of a tree over the largest picture's blocks


class BadEvidence(PeerFault):
    """This file about a unit does not hold.

    Codes: ``bad_evidence`` (its parts do not fit together), ``foreign_block`` (pixels
    that are not of the picture), ``not_said`` (no line of the output says so).
    """

    code = "bad_evidence"


class Block(Struct, frozen=True, forbid_unknown_fields=True):
    """The pixels of one probe, and the proof that they are of the whole picture."""

    pixels: Annotated[bytes, Meta(max_length=_BLOCK_BYTES)]  # float32, little-endian
    proof: Annotated[tuple[bytes, ...], Meta(max_length=_PROOF_MAX)] = ()


class Testimony(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one provider was given, what it answered, and what binds it to that."""

    provider: Address
    lease: Digest
    stream: Annotated[bytes, Meta(max_length=STREAM_BYTES_MAX)]  # its lease's output
    task: Annotated[str, Meta(max_length=100)]
    given: Annotated[bytes, Meta(max_length=TEXT_BYTES_MAX)]
    wrote: Annotated[bytes, Meta(max_length=TEXT_BYTES_MAX)]
    blocks: Annotated[tuple[Block, ...], Meta(min_length=1, max_length=PROBES_MAX)]


class Evidence(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file."""

    v: int
    type: Literal["sublet-render-evidence"] = "sublet-render-evidence"
    recipe: Recipe
    unit: Unit
    salt: Annotated[bytes, Meta(min_length=SALT_BYTES, max_length=SALT_BYTES)]
    probes: Annotated[tuple[Probe, ...], Meta(min_length=1, max_length=PROBES_MAX)]
    worker: Testimony
    checker: Testimony
    arbiter: Testimony | None = None
    leases: Annotated[
        tuple[Annotated[str, Meta(max_length=LEASE_BYTES_MAX)], ...], Meta(max_length=3)
    ] = ()  # evidence about each lease; one that has no receipt yet is not there


class Signed(Struct, frozen=True):
    """What a receipt shows, once its signature and its place in the log were checked."""

    provider: Address
    stdout: Digest  # BLAKE3 of the lease's output


class Shown(Struct, frozen=True):
    """What a file shows."""

    trial: verdict.Trial  # as it comes out when everything is computed anew
    against_worker: Finding  # the checker's blocks and the worker's
    bound: tuple[Address, ...]  # whose words are covered by their receipts
    unbound: tuple[
        Address, ...
    ]  # whose are not: the maker of the file says they said so
    pixels: Digest  # that the worker committed to


class _Whole(Struct, frozen=True, forbid_unknown_fields=True):
    recipe: Recipe
    unit: Unit


class _Parts(Struct, frozen=True, forbid_unknown_fields=True):
    recipe: Recipe
    units: tuple[Unit, ...]


class _WorkerGiven(Struct, frozen=True):
    data: _Whole


class _CheckerGiven(Struct, frozen=True):
    data: _Parts


def cut_blocks(
    picture: Picture, *, recipe: Recipe, unit: Unit, probes: Sequence[Probe]
) -> tuple[Block, ...]:
    """Cut the probes out of a whole unit's picture, with their proofs."""
    leaves = hash_blocks(picture)
    parts = cut_probes(picture, probes, recipe=recipe, unit=unit)
    return tuple(
        Block(write_pixels(part), tuple(inclusion_proof(leaves, index=probe.block)))
        for probe, part in zip(probes, parts, strict=True)
    )


def draw_again(evidence: Evidence, picture: Picture) -> tuple[Probe, ...]:
    """Draw the probes from the salt, where the whole committed picture is at hand."""
    pixels = _read(evidence.worker.wrote, UnitReport).pixels
    recipe, unit = evidence.recipe, evidence.unit
    seed = make_seed(salt=evidence.salt, recipe=recipe, unit=unit, pixels=pixels)
    count = len(evidence.probes)
    return draw_probes(picture, recipe=recipe, unit=unit, seed=seed, count=count)


def show(evidence: Evidence, *, signed: Mapping[Digest, Signed]) -> Shown:
    """Check every part of a file, and hold the trial again.

    Args:
        evidence: the file.
        signed: what the receipts of its leases show, by lease.

    Raises:
        BadEvidence: its parts do not fit together.
        BadProof: a block is not of the picture that its worker committed to.
    """
    people = [evidence.worker, evidence.checker]
    people += [] if evidence.arbiter is None else [evidence.arbiter]
    if len({one.provider for one in people}) != len(people):
        raise BadEvidence("somebody judges its own work")
    _check_probes(evidence)
    bound = tuple(one.provider for one in people if _is_bound(one, signed))
    report = _check_worker(evidence)
    ours = [
        _read_block(evidence, n, evidence.worker) for n in range(len(evidence.probes))
    ]
    kernel, theirs = _check_checker(evidence, evidence.checker)
    finding = compare(
        evidence.probes, ours, theirs, rule=get_rule(report.kernel, kernel)
    )
    trial = verdict.Trial(
        unit=evidence.unit, worker=evidence.worker.provider, kernel=report.kernel
    )
    trial, _ = verdict.step(trial, verdict.Chosen())
    trial, _ = verdict.step(trial, verdict.Checked(evidence.checker.provider, finding))
    if evidence.arbiter is not None and not trial.is_over:
        third, pictures = _check_checker(evidence, evidence.arbiter)
        probes = evidence.probes
        said = verdict.Arbitrated(
            evidence.arbiter.provider,
            compare(probes, ours, pictures, rule=get_rule(report.kernel, third)),
            compare(probes, theirs, pictures, rule=get_rule(kernel, third)),
        )
        trial, _ = verdict.step(trial, said)
    return Shown(
        trial=trial,
        against_worker=finding,
        bound=bound,
        unbound=tuple(x.provider for x in people if x.provider not in bound),
        pixels=report.pixels,
    )


# ---- its parts ----------------------------------------------------------------------


def _check_probes(evidence: Evidence) -> None:
    tile = get_tile(evidence.unit, evidence.recipe)
    columns, rows = count_blocks(width=tile.width, height=tile.height)
    for probe in evidence.probes:
        if not 0 <= probe.block < columns * rows:
            raise BadEvidence(f"the unit has no block {probe.block}")
        if probe != locate(tile, probe.block):
            raise BadEvidence(f"block {probe.block} lies elsewhere than the file says")
    if len({probe.block for probe in evidence.probes}) != len(evidence.probes):
        raise BadEvidence("a block is there twice")


def _is_bound(one: Testimony, signed: Mapping[Digest, Signed]) -> bool:
    """Say whether a receipt covers its words; raise where they are not its words."""
    line = commit(one.task, given=one.given, wrote=one.wrote)
    if not _says(one.stream, line):
        raise BadEvidence(
            f"no line of {one.provider}'s output says that task {one.task} gave this",
            code="not_said",
        )
    receipt = signed.get(one.lease)
    if receipt is None:
        return False
    if receipt.provider != one.provider:
        raise BadEvidence(f"lease {one.lease} is not {one.provider}'s")
    if receipt.stdout != "0x" + blake3(one.stream).hexdigest():
        raise BadEvidence(
            f"the receipt of lease {one.lease} covers another output", code="not_said"
        )
    return True


def _says(stream: bytes, line: Commitment) -> bool:
    return any(said == line for said in read_commitments(stream))


def _check_worker(evidence: Evidence) -> UnitReport:
    given = _read(evidence.worker.given, _WorkerGiven)
    if given.data != _Whole(evidence.recipe, evidence.unit):
        raise BadEvidence("the worker was given another unit than the file says")
    report = _read(evidence.worker.wrote, UnitReport)
    _check_proofs(evidence, evidence.worker, report)
    return report


def _check_checker(evidence: Evidence, one: Testimony) -> tuple[str, list[Picture]]:
    """Give the kernel class of who rendered the probes alone, and their pictures."""
    given = _read(one.given, _CheckerGiven)
    units = list_checked(evidence.probes, recipe=evidence.recipe, unit=evidence.unit)
    if given.data != _Parts(evidence.recipe, units):
        raise BadEvidence(f"{one.provider} was given other probes than the file says")
    reports = _read(one.wrote, tuple[UnitReport, ...])
    if len(reports) != len(units) or len({each.kernel for each in reports}) != 1:
        raise BadEvidence(f"{one.provider} did not report on each probe, in one class")
    if evidence.recipe.is_exact:
        _check_leaves(evidence, one, reports)
    else:
        _check_proofs(evidence, one, reports[0])
    pictures = [_read_block(evidence, n, one) for n in range(len(evidence.probes))]
    return reports[0].kernel, pictures


def _check_leaves(
    evidence: Evidence, one: Testimony, reports: Sequence[UnitReport]
) -> None:
    """Check that each block is the whole of a picture that was reported."""
    _check_count(evidence, one)
    for report, block in zip(reports, one.blocks, strict=True):
        if report.pixels != "0x" + leaf_hash(block.pixels).hex():
            raise BadEvidence(
                f"a block of {one.provider} is not what it reported",
                code="foreign_block",
            )


def _check_proofs(evidence: Evidence, one: Testimony, report: UnitReport) -> None:
    """Check that each block is of the unit's picture that was reported."""
    tile = get_tile(evidence.unit, evidence.recipe)
    columns, rows = count_blocks(width=tile.width, height=tile.height)
    _check_count(evidence, one)
    for probe, block in zip(evidence.probes, one.blocks, strict=True):
        verify_inclusion(
            leaf_hash(block.pixels),
            index=probe.block,
            size=columns * rows,
            root=bytes.fromhex(report.pixels[2:]),
            proof=block.proof,
        )


def _check_count(evidence: Evidence, one: Testimony) -> None:
    if len(one.blocks) != len(evidence.probes):
        raise BadEvidence(f"{one.provider} has not one block for each probe")


def _read_block(evidence: Evidence, number: int, one: Testimony) -> Picture:
    tile, raw = evidence.probes[number].tile, one.blocks[number].pixels
    if len(raw) != tile.width * tile.height * CHANNELS * 4:
        raise BadEvidence(
            f"a block of {one.provider} is not of its size", code="foreign_block"
        )
    pixels = np.frombuffer(raw, "<f4").astype(np.float32)
    return pixels.reshape(tile.height, tile.width, CHANNELS)


def _read(raw: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise BadEvidence(f"not what such a task is given, or writes: {exc}") from exc
