"""One suite for every adapter of the port Blobs, the fake included."""

from pathlib import Path

import pytest
from blake3 import blake3

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.adapter.vault_postgres import PostgresVault
from sublet.base import limits
from sublet.base.errors import Refused
from sublet.service.ports import Blobs
from tests.fakes.blobs_memory import MemoryBlobs


@pytest.fixture(params=["memory", "folder", "folder_not_durable", "postgres"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "memory":
        return MemoryBlobs()
    if request.param == "postgres":
        vault = PostgresVault(request.getfixturevalue("postgres_url"))
        request.addfinalizer(vault.close)
        job = vault.find("0x" + "a" * 40, "0123456789ab")
        job.begin(b"plan")
        return job.blobs
    return FolderBlobs(tmp_path / "blobs", is_durable=request.param == "folder")


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\0" * limits.CHUNK_BYTES], ids=["empty", "byte", "full"]
)
def test_gives_back_what_was_put(blobs: Blobs, content: bytes) -> None:
    key = blobs.put(content)
    assert key == "0x" + blake3(content).hexdigest()
    assert blobs.has(key)
    assert blobs.get(key) == content


def test_puts_the_same_twice(blobs: Blobs) -> None:
    assert blobs.put(b"twice") == blobs.put(b"twice")


def test_refuses_an_unknown_chunk(blobs: Blobs) -> None:
    key = "0x" + "0" * 64
    assert not blobs.has(key)
    with pytest.raises(Refused) as error:
        blobs.get(key)
    assert error.value.code == "no_chunk"


def test_refuses_more_than_one_chunk(blobs: Blobs) -> None:
    with pytest.raises(Refused) as error:
        blobs.put(b"\0" * (limits.CHUNK_BYTES + 1))
    assert error.value.code == "chunk_too_large"
