"""Money, sizes, durations: as people write them, and nothing that is not plain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.base.errors import Refused
from sublet.base.units import (
    compute_owed,
    format_duration,
    format_money,
    format_size,
    parse_duration,
    parse_money,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0B", 0),
        ("900B", 900),
        ("1kB", 1_000),
        ("1KB", 1_000),
        ("1K", 1_000),
        ("1KiB", 1_024),
        ("24GB", 24 * 10**9),
        ("24G", 24 * 10**9),
        ("24GiB", 24 << 30),
        ("24Gi", 24 << 30),
        ("1.5Gi", 3 << 29),
        ("0.000001MB", 1),
        ("1.9999B", 1),  # a part of a byte is none
        ("2 TiB", 2 << 40),
        (" 1PiB ", 1 << 50),
    ],
)
def test_sizes_are_read(text: str, size_bytes: int) -> None:
    assert parse_size(text, field="--memory") == size_bytes


@pytest.mark.parametrize(
    "text",
    ["", "24", "GB", "-1GB", "+1GB", "1e3GB", "NaN", "nanGB", "inf", "1,5GB", "1.GB",
     ".5GB", "0x10B", "24gb", "24GBs", "1_000B", "٣GB", "1GB\n2GB", "1.0000001GB",
     "9" * 5_000 + "GB"],
)  # fmt: skip
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(Refused) as error:
        parse_size(text, field="--memory")
    assert (error.value.code, error.value.field) == ("bad_size", "--memory")
    assert "GiB" in str(error.value)  # the cure


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0),
        ("0.40", 400_000),
        ("$0.40", 400_000),
        ("12", 12_000_000),
        ("0.000001", 1),
        (" $1.234567 ", 1_234_567),
        ("999999999999", 999_999_999_999_000_000),
    ],
)
def test_money_is_read(text: str, amount: int) -> None:
    assert parse_money(text, field="--max-price") == amount


@pytest.mark.parametrize(
    "text",
    ["", "$", "-1", "+1", "1.", ".5", "1.0000001", "1e3", "NaN", "inf", "1,000", "€1",
     "1 USD", "0x1", "1_000", "٣", "9999999999999", "$$1", "9" * 5_000],
)  # fmt: skip
def test_money_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Refused) as error:
        parse_money(text, field="--max-price")
    assert (error.value.code, error.value.field) == ("bad_money", "--max-price")


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [("0s", 0), ("90s", 90), ("15m", 900), ("2h", 7_200), ("1d", 86_400)],
)
def test_durations_are_read(text: str, duration_s: int) -> None:
    assert parse_duration(text, field="--timeout") == duration_s


@pytest.mark.parametrize(
    "text",
    [
        "",
        "90",
        "s",
        "-1s",
        "1.5h",
        "1h30m",
        "1w",
        "NaN",
        "1S",
        "1 s",
        "٣s",
        "9" * 5_000 + "s",
    ],
)
def test_durations_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(Refused) as error:
        parse_duration(text, field="--timeout")
    assert (error.value.code, error.value.field) == ("bad_duration", "--timeout")


@given(st.integers(0, 10**17))
def test_money_reads_back_as_written(amount: int) -> None:
    assert parse_money(format_money(amount), field="x") == amount


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "$0.00"), (1, "$0.000001"), (10, "$0.00001"), (100_000, "$0.10"),
     (-400_000, "-$0.40"), (12_000_000, "$12.00")],
)  # fmt: skip
def test_money_is_never_rounded(amount: int, text: str) -> None:
    assert format_money(amount) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1_023, "1023 B"), (1_024, "1.0 KiB"), (3 << 29, "1.5 GiB"),
     (1 << 50, "1.0 PiB"), (1 << 62, "4096.0 PiB")],
)  # fmt: skip
def test_sizes_are_written_in_large_units(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [(0, "0s"), (60, "1m"), (3_600, "1h"), (86_401, "1d 1s"), (90_061, "1d 1h 1m 1s")],
)
def test_durations_are_written_in_words(duration_s: int, text: str) -> None:
    assert format_duration(duration_s) == text


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_owed_is_never_more_in_parts(price_hour: int, first: int, second: int) -> None:
    whole = compute_owed(price_hour=price_hour, ran_ms=first + second)
    parts = [compute_owed(price_hour=price_hour, ran_ms=ran) for ran in (first, second)]
    assert 0 <= whole - sum(parts) <= 1  # one floor apart, in the tenant's favour
