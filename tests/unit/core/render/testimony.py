"""A unit that a liar rendered, and what two honest providers say of it: whole evidence."""

from collections.abc import Sequence

import msgspec
import numpy as np
from blake3 import blake3

from sublet.core.render.evidence import (
    Block,
    Evidence,
    Signed,
    Testimony,
    cut_blocks,
)
from sublet.core.render.picture import Picture, hash_pixels, write_pixels
from sublet.core.render.probe import Probe, draw_probes, make_seed
from sublet.core.render.tile import crop
from sublet.core.render.unit import Recipe, Unit, UnitReport
from sublet.core.task.commitment import commit, write_given

WORKER, CHECKER, ARBITER = (f"0x{n:040x}" for n in range(1, 4))
RECIPE = Recipe(
    scene="a.blend",
    root="0x" + "ab" * 32,
    build="toy 1",
    engine="toy",
    device="cpu",
    width=160,
    height=90,
    samples=8,
    seed=0,
)
UNIT = Unit(frame=7)
SALT = b"s" * 32


def paint(seed: int) -> Picture:
    """A picture of noise."""
    random = np.random.default_rng(seed)
    return (random.random((90, 160, 4)) + 0.1).astype(np.float32)


def report(picture: Picture, *, kernel: str = "toy") -> UnitReport:
    """What somebody says of a picture that it rendered."""
    return UnitReport(
        pixels=hash_pixels(picture),
        width=picture.shape[1],
        height=picture.shape[0],
        device="cpu",
        kernel=kernel,
        build="toy 1",
        seconds=1.0,
    )


def make_testimony(
    provider: str, *, task: str, data: object, wrote: object, blocks: Sequence[Block]
) -> Testimony:
    """What a provider did, and the line of its output about it, among others."""
    given = write_given({"args": [], "env": {}, "data": msgspec.to_builtins(data)})
    text = msgspec.json.encode(wrote)
    lines = [
        commit("another", given=b"", wrote=b""),
        commit(task, given=given, wrote=text),
    ]
    stream = b"noise\n" + b"\n".join(map(msgspec.json.encode, lines)) + b"\n"
    return Testimony(
        provider=provider,
        lease="0x" + provider[-2:] * 32,
        stream=stream,
        task=task,
        given=given,
        wrote=text,
        blocks=tuple(blocks),
    )


def check(
    provider: str, picture: Picture, probes: Sequence[Probe], *, kernel: str = "toy"
) -> Testimony:
    """What a provider says that renders a picture's probes alone."""
    crops = [crop(picture, probe.tile) for probe in probes]
    return make_testimony(
        provider,
        task="check-7",
        data={"recipe": RECIPE, "units": [probe.of(UNIT) for probe in probes]},
        wrote=[report(one, kernel=kernel) for one in crops],
        blocks=[Block(write_pixels(one)) for one in crops],
    )


def check_whole(
    provider: str, picture: Picture, probes: Sequence[Probe], *, recipe: Recipe
) -> Testimony:
    """What a provider says that renders all of the unit again."""
    return make_testimony(
        provider,
        task="check-7",
        data={"recipe": recipe, "units": [UNIT]},
        wrote=[report(picture)],
        blocks=cut_blocks(picture, recipe=recipe, unit=UNIT, probes=probes),
    )


def draw(picture: Picture) -> tuple[Probe, ...]:
    """The probes of what was committed to."""
    pixels = hash_pixels(picture)
    seed = make_seed(salt=SALT, recipe=RECIPE, unit=UNIT, pixels=pixels)
    return draw_probes(picture, recipe=RECIPE, unit=UNIT, seed=seed)


def give(evidence: Evidence, *, worker: str, lease: str) -> Evidence:
    """Let a lease of a real log be the worker's."""
    was = evidence.worker
    return msgspec.structs.replace(
        evidence,
        worker=msgspec.structs.replace(was, provider=worker, lease=lease),
    )


def make_evidence(
    committed: Picture,
    checked: Picture,
    arbitrated: Picture | None = None,
    *,
    kernels: tuple[str, str, str] = ("toy", "toy", "toy"),
) -> Evidence:
    """All that is known of one unit; each picture is what that provider renders."""
    probes = draw(committed)
    worker = make_testimony(
        WORKER,
        task="frame-7",
        data={"recipe": RECIPE, "unit": UNIT},
        wrote=report(committed, kernel=kernels[0]),
        blocks=cut_blocks(committed, recipe=RECIPE, unit=UNIT, probes=probes),
    )
    return Evidence(
        v=1,
        recipe=RECIPE,
        unit=UNIT,
        salt=SALT,
        probes=probes,
        worker=worker,
        checker=check(CHECKER, checked, probes, kernel=kernels[1]),
        arbiter=None
        if arbitrated is None
        else check(ARBITER, arbitrated, probes, kernel=kernels[2]),
    )


def sign(*testimonies: Testimony | None) -> dict[str, Signed]:
    """What the receipts of their leases show."""
    return {
        one.lease: Signed(one.provider, "0x" + blake3(one.stream).hexdigest())
        for one in testimonies
        if one is not None
    }
