"""Whether two pictures of a unit's probes are the same work, and by how much not. Pure.

Machines of one kernel class do the same arithmetic in the same order: their pixels are
equal, bit for bit. Of two classes they are close: a pixel is **off** where a channel
differs by more than 1 % of the brighter one. Between honest machines next to none is;
with fewer samples, another seed or another frame most are, wherever the picture varies.

A probe is small, so its share of pixels that are off is a rough measure: there is a
limit for the worst probe, and a lower one for all probes of the unit together. What the
limits let through and catch: docs/benchmarks.md, ``render_verify``.

Not here: where the probes lie (``probe``), what follows from a finding (``verdict``).
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sublet.core.render.picture import CHANNELS, Picture
from sublet.core.render.probe import Probe

RELATIVE = 0.01  # of the brighter value: more is off
FLOOR = 0.01  # light that counts at least as the brighter value
PROBE_OFF_MAX_PPM = 150_000  # of the pixels of one probe
UNIT_OFF_MAX_PPM = 30_000  # of the pixels of all probes of the unit
WHOLE_PPM = 1_000_000

EQUAL = "equal"
CLOSE = "close"


class ProbeFinding(Struct, frozen=True, forbid_unknown_fields=True):
    """What two pictures of one probe say."""

    probe: Probe
    pixels: int
    unequal: int  # pixels of which some bit differs
    off: int  # pixels that differ by more than the rule allows
    fault: str = ""  # "wrong_size" or "not_finite", of the picture that was checked

    @property
    def off_ppm(self) -> int:
        """Share of pixels that are off, in parts per million, rounded up."""
        return -(-self.off * WHOLE_PPM // self.pixels)


class Finding(Struct, frozen=True, forbid_unknown_fields=True):
    """What all probes of one unit say of two pictures of it."""

    rule: str  # "equal" within a kernel class, "close" between two
    probes: tuple[ProbeFinding, ...]

    @property
    def is_same(self) -> bool:
        """Say whether it is the same work, by the rule."""
        if any(one.fault for one in self.probes) or not self.probes:
            return False
        if self.rule == EQUAL:
            return self.unequal == 0
        return self.is_close

    @property
    def is_close(self) -> bool:
        """Say whether it would be the same work between two kernel classes."""
        return self.worst_ppm <= PROBE_OFF_MAX_PPM and self.off_ppm <= UNIT_OFF_MAX_PPM

    @property
    def unequal(self) -> int:
        """Pixels of all probes of which some bit differs."""
        return sum(one.unequal for one in self.probes)

    @property
    def off_ppm(self) -> int:
        """Share of the pixels of all probes that are off, in parts per million."""
        pixels = sum(one.pixels for one in self.probes)
        return -(-sum(one.off for one in self.probes) * WHOLE_PPM // max(1, pixels))

    @property
    def worst_ppm(self) -> int:
        """Share of the worst probe's pixels that are off, in parts per million."""
        return max((one.off_ppm for one in self.probes), default=WHOLE_PPM)

    def describe(self) -> str:
        """Say it in one line, with its numbers."""
        if faults := sorted({one.fault for one in self.probes if one.fault}):
            return f"no picture of it: {', '.join(faults)}"
        pixels = sum(one.pixels for one in self.probes)
        if self.rule == EQUAL:
            return f"{self.unequal} of {pixels} pixels are not equal"
        return (
            f"{self.off_ppm / 10_000:.2f} % of {pixels} pixels are off by more than 1 %"
            f" (at most {UNIT_OFF_MAX_PPM / 10_000:.0f} %), {self.worst_ppm / 10_000:.2f}"
            f" % in the worst probe (at most {PROBE_OFF_MAX_PPM / 10_000:.0f} %)"
        )


def get_rule(first: str, second: str) -> str:
    """Say what two kernel classes owe each other.

    >>> get_rule("cpu-avx2", "cpu-avx2"), get_rule("cpu-avx2", "cuda-sm_90")
    ('equal', 'close')
    """
    return EQUAL if first == second else CLOSE


def compare(
    probes: Sequence[Probe],
    ours: Sequence[Picture],
    theirs: Sequence[Picture],
    *,
    rule: str,
) -> Finding:
    """Hold the pictures of a unit's probes against each other, one to one.

    Args:
        probes: of the unit.
        ours: what was committed to, or what is taken as the measure; of the right size.
        theirs: what somebody else rendered; anything.
        rule: ``equal`` or ``close``, as ``get_rule`` says.
    """
    findings = tuple(
        _compare_probe(probe, one, other)
        for probe, one, other in zip(probes, ours, theirs, strict=True)
    )
    return Finding(rule=rule, probes=findings)


def find_off(one: Picture, other: Picture) -> NDArray[np.bool_]:
    """Say which pixels differ by more than 1 % in a channel: shape (height, width).

    What is not finite is off, in either. Symmetric; in float64, so that neither the
    difference nor the limit overflows.
    """
    first, second = one.astype(np.float64), other.astype(np.float64)
    finite = np.isfinite(first) & np.isfinite(second)
    first, second = np.where(finite, first, 0), np.where(finite, second, 0)
    brighter = np.maximum(np.maximum(np.abs(first), np.abs(second)), FLOOR)
    off = ~finite | (np.abs(first - second) > RELATIVE * brighter)
    return np.asarray(off.any(axis=2), np.bool_)


def _compare_probe(probe: Probe, one: Picture, other: Picture) -> ProbeFinding:
    height, width = probe.tile.height, probe.tile.width
    pixels = height * width
    if other.shape != (height, width, CHANNELS) or other.dtype != np.float32:
        return ProbeFinding(probe, pixels, pixels, pixels, fault="wrong_size")
    bits = [
        np.ascontiguousarray(each, dtype="<f4").view("<u4") for each in (one, other)
    ]
    unequal = int(np.count_nonzero((bits[0] != bits[1]).any(axis=2)))
    fault = "" if np.isfinite(other).all() else "not_finite"
    return ProbeFinding(
        probe, pixels, unequal, int(np.count_nonzero(find_off(one, other))), fault
    )
