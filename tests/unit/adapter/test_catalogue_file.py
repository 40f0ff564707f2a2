"""The catalogue that comes along, and others."""

import csv
from importlib import resources
from pathlib import Path

import pytest

from sublet.adapter.catalogue_file import BYTES_MAX, OWN, read_catalogue
from sublet.base.errors import Refused
from sublet.core.pricing.catalogue import CLOUDS, COLUMNS


def test_own_catalogue_names_source_and_date() -> None:
    found = read_catalogue(None)
    assert set(CLOUDS) <= {each.provider for each in found}
    assert all(each.source and each.as_of for each in found)
    assert {"a100", "v100", "t4"} <= {each.model for each in found}
    # Every GPU of it is known by its memory, or an order for memory passes it over.
    assert not [each.gpu for each in found if not each.gpu_memory_bytes]


def test_own_catalogue_holds_only_what_its_licence_covers() -> None:
    own = resources.files("sublet").joinpath(OWN)
    rows = list(csv.DictReader(own.read_text("utf-8").splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert {row["source"] for row in rows} == {"the-full-stack/website"}
    licence = resources.files("sublet").joinpath("data/LICENSE.gpu_price_catalogue.txt")
    assert "MIT License" in licence.read_text("utf-8")
    assert "the-full-stack/website" in licence.read_text("utf-8")


def test_reads_another_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    row = "Acme,big,H200,8,192,2048,DE,20.00,,2026-01-01,a price list,2.50"
    path.write_bytes(b"\xef\xbb\xbf" + f"{','.join(COLUMNS)}\n{row}\n".encode())
    (found,) = read_catalogue(path)
    assert (found.provider, found.model, found.on_demand_hour) == (
        "Acme",
        "h200",
        20_000_000,
    )


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"x" * (BYTES_MAX + 1)])
def test_unreadable_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "mine.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Refused) as caught:
        read_catalogue(path)
    assert (caught.value.code, caught.value.field) == ("bad_catalogue", "--catalogue")
    assert str(path) in caught.value.message
