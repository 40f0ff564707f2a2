"""Evidence holds as it was made, names the liar, and falls with any part that is changed."""

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from sublet.base.errors import PeerFault
from sublet.core.render.evidence import Block, Evidence, draw_again, show
from sublet.core.render.picture import write_pixels
from sublet.core.render.probe import draw_probes
from sublet.core.render.verdict import Phase
from tests.unit.core.render.testimony import (
    ARBITER,
    CHECKER,
    RECIPE,
    UNIT,
    WORKER,
    check,
    check_whole,
    draw,
    make_evidence,
    make_testimony,
    paint,
    report,
    sign,
)

TRUE, FALSE, OTHER = paint(1), paint(2), paint(3)


def judge(evidence: Evidence):
    parts = (evidence.worker, evidence.checker, evidence.arbiter)
    return show(evidence, signed=sign(*parts))


@pytest.mark.parametrize(
    ("pictures", "phase", "liar"),
    [
        ((FALSE, TRUE, TRUE), Phase.CONVICTED, WORKER),
        ((TRUE, FALSE, TRUE), Phase.CONVICTED, CHECKER),
        ((FALSE, TRUE, OTHER), Phase.UNDECIDED, ""),
        ((FALSE, TRUE), Phase.DISPUTED, ""),  # nobody was there to decide
        ((TRUE, TRUE), Phase.AGREED, ""),
    ],
)
def test_the_trial_comes_out_again(pictures, phase, liar):
    shown = judge(make_evidence(*pictures))
    assert (shown.trial.phase, shown.trial.liar) == (phase, liar)
    assert shown.unbound == ()


def test_between_classes_closeness_decides():
    near = (TRUE * np.float32(1.005)).astype(np.float32)
    kernels = ("cpu-avx2", "cpu-sse42", "cpu-avx2")
    shown = judge(make_evidence(TRUE, near, kernels=kernels))
    assert shown.trial.phase is Phase.AGREED
    assert shown.against_worker.unequal == sum(
        one.pixels for one in shown.against_worker.probes
    )
    shown = judge(make_evidence(FALSE, near, TRUE, kernels=kernels))
    assert shown.trial.liar == WORKER


def test_words_without_a_receipt_are_told_apart():
    evidence = make_evidence(FALSE, TRUE, TRUE)
    shown = show(evidence, signed=sign(evidence.worker))
    assert shown.bound == (WORKER,)
    assert shown.unbound == (CHECKER, ARBITER)


def test_the_probes_are_drawn_again_from_the_picture():
    evidence = make_evidence(FALSE, TRUE)
    assert draw_again(evidence, FALSE) == evidence.probes
    assert draw_again(replace(evidence, salt=bytes(32)), FALSE) != evidence.probes


def test_travels_as_json():
    evidence = make_evidence(FALSE, TRUE, TRUE)
    raw = msgspec.json.encode(evidence)
    assert msgspec.json.decode(raw, type=Evidence) == evidence
    assert len(raw) < 150_000


def test_a_volume_is_checked_as_a_whole():
    recipe = replace(RECIPE, is_exact=False)
    evidence = make_evidence(FALSE, TRUE)
    worker = make_testimony(
        WORKER,
        task="frame-7",
        data={"recipe": recipe, "unit": UNIT},
        wrote=report(FALSE),
        blocks=evidence.worker.blocks,
    )
    evidence = replace(
        evidence,
        recipe=recipe,
        worker=worker,
        checker=check_whole(CHECKER, TRUE, evidence.probes, recipe=recipe),
        arbiter=check_whole(ARBITER, TRUE, evidence.probes, recipe=recipe),
    )
    assert judge(evidence).trial.liar == WORKER
    forged = replace(evidence.checker, blocks=evidence.worker.blocks)
    with pytest.raises(PeerFault) as caught:
        judge(replace(evidence, checker=forged))
    assert caught.value.code == "bad_proof"


EVIDENCE = make_evidence(FALSE, TRUE, TRUE)
FORGED = draw_probes(FALSE, recipe=RECIPE, unit=UNIT, seed=bytes(32))


def with_worker(**fields):
    return replace(EVIDENCE, worker=replace(EVIDENCE.worker, **fields))


def with_checker(**fields):
    return replace(EVIDENCE, checker=replace(EVIDENCE.checker, **fields))


def swap_first(blocks, pixels):
    return (replace(blocks[0], pixels=pixels), *blocks[1:])


TRUE_BLOCK = write_pixels(paint(9)[:16, :16])
OTHER_UNIT = {"recipe": RECIPE, "unit": replace(UNIT, frame=8)}
OTHER_RECIPE = {"recipe": replace(RECIPE, samples=4), "unit": UNIT}
TAMPERED = {
    # Whoever makes the file puts words or pixels into somebody's mouth.
    "other pixels of the worker": (
        with_worker(blocks=swap_first(EVIDENCE.worker.blocks, TRUE_BLOCK)),
        "bad_proof",
    ),
    "no proof": (
        with_worker(blocks=tuple(Block(x.pixels) for x in EVIDENCE.worker.blocks)),
        "bad_proof",
    ),
    "other pixels of the checker": (
        with_checker(blocks=swap_first(EVIDENCE.checker.blocks, TRUE_BLOCK)),
        "foreign_block",
    ),
    "another report": (
        with_worker(wrote=msgspec.json.encode(report(TRUE))),
        "not_said",
    ),
    "another unit was given": (
        with_worker(given=msgspec.json.encode(OTHER_UNIT)),
        "not_said",
    ),
    # A liar's words that are its own, and about something else.
    "its own words about another frame": (
        replace(
            EVIDENCE,
            worker=make_testimony(
                WORKER,
                task="frame-7",
                data=OTHER_UNIT,
                wrote=report(FALSE),
                blocks=EVIDENCE.worker.blocks,
            ),
        ),
        "bad_evidence",
    ),
    "its own words about fewer samples": (
        replace(
            EVIDENCE,
            worker=make_testimony(
                WORKER,
                task="frame-7",
                data=OTHER_RECIPE,
                wrote=report(FALSE),
                blocks=EVIDENCE.worker.blocks,
            ),
        ),
        "bad_evidence",
    ),
    "its own words that are no report": (
        replace(
            EVIDENCE,
            worker=make_testimony(
                WORKER,
                task="frame-7",
                data={"recipe": RECIPE, "unit": UNIT},
                wrote={"error": "no_camera"},
                blocks=EVIDENCE.worker.blocks,
            ),
        ),
        "bad_evidence",
    ),
    "a checker of other probes": (
        replace(EVIDENCE, checker=check(CHECKER, TRUE, FORGED)),
        "bad_evidence",
    ),
    "the worker judges itself": (
        replace(EVIDENCE, checker=check(WORKER, TRUE, draw(FALSE))),
        "bad_evidence",
    ),
    "one provider judges twice": (
        replace(EVIDENCE, arbiter=EVIDENCE.checker),
        "bad_evidence",
    ),
    "a probe that lies elsewhere": (
        replace(
            EVIDENCE,
            probes=(
                replace(EVIDENCE.probes[0], tile=EVIDENCE.probes[1].tile),
                *EVIDENCE.probes[1:],
            ),
        ),
        "bad_evidence",
    ),
    "a probe outside": (
        replace(
            EVIDENCE,
            probes=(replace(EVIDENCE.probes[0], block=60), *EVIDENCE.probes[1:]),
        ),
        "bad_evidence",
    ),
    "a probe twice": (
        replace(EVIDENCE, probes=(EVIDENCE.probes[0],) * 5),
        "bad_evidence",
    ),
    "a block too few": (
        with_worker(blocks=EVIDENCE.worker.blocks[1:]),
        "bad_evidence",
    ),
    "a checker's block too few": (
        with_checker(blocks=EVIDENCE.checker.blocks[1:]),
        "bad_evidence",
    ),
    "another output than the receipt's": (
        with_worker(stream=EVIDENCE.worker.stream + b"more\n"),
        "not_said",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_falls_when_a_part_is_changed(name):
    tampered, code = TAMPERED[name]
    signed = sign(EVIDENCE.worker, EVIDENCE.checker, EVIDENCE.arbiter)
    if code == "bad_evidence":  # their own words, and signed; they do not fit together
        signed |= sign(tampered.worker, tampered.checker, tampered.arbiter)
    with pytest.raises(PeerFault) as caught:
        show(tampered, signed=signed)
    assert caught.value.code == code


def test_a_receipt_of_somebody_else_binds_nobody():
    signed = sign(EVIDENCE.worker)
    [lease] = signed
    signed[lease] = replace(signed[lease], provider=CHECKER)
    with pytest.raises(PeerFault, match="is not 0x"):
        show(EVIDENCE, signed=signed)
