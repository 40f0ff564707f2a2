"""Chunks in a dictionary (port ``Blobs``), with a disk that can be filled up."""

from blake3 import blake3

from sublet.base import limits
from sublet.base.errors import Refused, Unavailable
from sublet.base.ids import Digest


class MemoryBlobs:
    """A content-addressed store that forgets everything with its process."""

    def __init__(self, *, bytes_max: int = 1 << 40) -> None:
        self.chunks: dict[Digest, bytes] = {}
        self.bytes_max = bytes_max

    def has(self, key: Digest) -> bool:
        return key in self.chunks

    def put(self, content: bytes) -> Digest:
        if len(content) > limits.CHUNK_BYTES:
            raise Refused("more than one chunk", code="chunk_too_large")
        key: Digest = "0x" + blake3(content).hexdigest()
        if sum(map(len, self.chunks.values())) + len(content) > self.bytes_max:
            raise Unavailable("the disk is full", code="disk_failed")
        self.chunks[key] = content
        return key

    def get(self, key: Digest) -> bytes:
        if key not in self.chunks:
            raise Refused("not here", code="no_chunk")
        return self.chunks[key]
