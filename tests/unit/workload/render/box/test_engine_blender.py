"""What of Blender's engine needs no Blender: borders, progress, the class of a CPU."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.workload.render.box.engine_blender import compute_border, name_cpu


def narrow(number: float) -> float:
    """As Blender keeps it: in 32 bits."""
    return struct.unpack("f", struct.pack("f", number))[0]


@given(st.integers(1, 16_384), st.integers(1, 16_384), st.data())
def test_border_leads_back_to_the_pixels(width: int, height: int, data) -> None:
    left = data.draw(st.integers(0, width - 1))
    right = data.draw(st.integers(left + 1, width))
    top = data.draw(st.integers(0, height - 1))
    bottom = data.draw(st.integers(top + 1, height))
    tile = {"left": left, "top": top, "right": right, "bottom": bottom}
    borders = compute_border(tile, width, height)
    assert all(0 <= border <= 1 for border in borders)
    # Blender multiplies in 32 bits and cuts the fraction off.
    x0, x1 = (int(narrow(narrow(one) * width)) for one in borders[:2])
    y0, y1 = (int(narrow(narrow(one) * height)) for one in borders[2:])
    assert (x0, x1, height - y1, height - y0) == (left, right, top, bottom)


def test_cpu_without_avx2_is_another_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLES_CPU_NO_AVX2", "1")
    assert name_cpu().startswith("cpu-sse42-")
    assert len(name_cpu()) < 128
