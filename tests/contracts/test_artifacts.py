"""What is shipped is what the sources compile to."""

import hashlib
import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from contracts.write_artifacts import SOURCES, compile_contract
from sublet.adapter.contract import Name, load_contract

SHIPPED = Path(__file__).parents[2] / "src/sublet/adapter/contract"


def test_ships_every_contract() -> None:
    assert set(SOURCES) == set(get_args(Name))


@pytest.mark.parametrize("name", SOURCES)
def test_source_compiles_to_what_is_shipped(name: Any) -> None:
    artifact = load_contract(name)
    compiled = compile_contract(SOURCES[name])
    # `make contracts` writes them anew.
    assert json.loads(msgspec.json.encode(artifact)) == compiled
    source = Path(__file__).parents[2] / artifact.source
    assert artifact.source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert len(artifact.bytecode) // 2 < 24_576, "EIP-170: no chain takes more"
