"""TOML within limits: our own error for everything that is none."""

import pytest

from sublet.base.toml import LINE_DOTS_MAX, BadToml, parse_toml

BAD = {
    "not TOML": "a =",
    "a number too long to be read": "a = " + "9" * 5_000,
    "lists in lists": "a = " + "[" * 5_000,
    "a key of many parts": "a." * (LINE_DOTS_MAX + 1) + "a = 1",
    "too long": "#" * 101,
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_refuses(text: str) -> None:
    with pytest.raises(BadToml):
        parse_toml(text, length_max=100 if text.startswith("##") else 100_000)


def test_reads_what_is_within() -> None:
    assert parse_toml('a.b = [1.5, "x.y"]') == {"a": {"b": [1.5, "x.y"]}}
