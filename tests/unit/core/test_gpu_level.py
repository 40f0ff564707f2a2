"""Versions and shares, as people write them and as they must not."""

from collections.abc import Callable

import pytest

from sublet.base.errors import Refused
from sublet.core.gpu_level import (
    format_compute,
    format_cuda,
    format_driver,
    parse_compute,
    parse_cuda,
    parse_driver,
    parse_share,
)

Parse = Callable[..., int]

REFUSED: list[tuple[Parse, str]] = [
    (parse_driver, "550.54.14.1"),
    (parse_driver, ""),
    (parse_driver, "5500"),
    (parse_driver, "new"),
    (parse_cuda, "12.4.1"),
    (parse_cuda, "12."),
    (parse_cuda, "-1"),
    (parse_compute, "sm_90"),
    (parse_compute, "٩.0"),  # a digit, but not one of ours
    (parse_share, "0"),
    (parse_share, "1.5"),
    (parse_share, "3/2"),
    (parse_share, "1/0"),
    (parse_share, "120%"),
    (parse_share, "half"),
]


@pytest.mark.parametrize(("parse", "text"), REFUSED)
def test_refuses_what_is_no_level(parse: Parse, text: str) -> None:
    with pytest.raises(Refused, match="write it like") as refusal:
        parse(text, field="--x")
    assert refusal.value.field == "--x"


@pytest.mark.parametrize("text", ["550", "550.54", "550.54.14", "570.133.20"])
def test_driver_is_written_as_it_was_read(text: str) -> None:
    assert format_driver(parse_driver(text, field="x")) == text


def test_later_versions_are_larger() -> None:
    drivers = ("535.183.1", "550.9.99", "550.54", "550.54.14", "1.0.0")
    levels = [parse_driver(text, field="x") for text in drivers]
    assert sorted(levels) == [levels[4], *levels[:4]]


def test_pairs_are_written_as_they_were_read() -> None:
    assert format_cuda(parse_cuda("12.4", field="x")) == "12.4"
    assert format_compute(parse_compute("8.9", field="x")) == "8.9"
