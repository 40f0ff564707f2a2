"""The log for everybody: entries, checkpoints, leaves, proofs, the snapshot.

Reads go to a thread: they touch the disk or hash the whole tree.
"""

import asyncio

import msgspec
from aiohttp import web

from sublet.base.errors import Refused
from sublet.core.merkle import consistency_proof, inclusion_proof
from sublet.node.answer import answer_bytes, answer_json
from sublet.node.intake import read_count, read_page
from sublet.node.refusal import NotFound
from sublet.node.state import Node
from sublet.wire.message import LogSnapshot


async def get_entries(node: Node, request: web.Request) -> web.StreamResponse:
    """Give canonical entries from ``first`` on, one a line."""
    first, limit = read_page(request)
    rows = await asyncio.to_thread(node.log.read, first=first, limit=limit)
    lines = b"".join(row.body + b"\n" for row in rows)
    return answer_bytes(lines, kind="application/x-ndjson")


async def get_leaves(node: Node, request: web.Request) -> web.StreamResponse:
    """Give leaf hashes from ``first`` on, 32 bytes each."""
    first, limit = read_page(request)
    leaves = node.market.leaves[first : first + limit]
    return answer_bytes(b"".join(leaves), kind="application/octet-stream")


async def get_checkpoint(node: Node, request: web.Request) -> web.StreamResponse:
    """Give the newest signed note, or the newest of at most ``size`` entries."""
    if "size" in request.query:
        note = await asyncio.to_thread(
            node.log.find_checkpoint, size_max=read_count(request, "size")
        )
    else:
        newest = node.market.checkpoint
        note = None if newest is None else newest[1]
    if note is None:
        raise NotFound("no checkpoint has been signed yet", code="no_checkpoint")
    return answer_bytes(note, kind="text/plain")


async def get_cosigned(node: Node, request: web.Request) -> web.StreamResponse:
    """Give the newest note that witnesses have cosigned."""
    if node.cosigning.note is None:
        raise NotFound("no witness has cosigned this log yet", code="no_cosignature")
    return answer_bytes(node.cosigning.note, kind="text/plain")


async def get_checkpoints(node: Node, request: web.Request) -> web.StreamResponse:
    """Give [[size, note], …] of sizes from ``first`` on."""
    first, limit = read_page(request)
    pairs = await asyncio.to_thread(node.log.read_checkpoints, first=first, limit=limit)
    content = msgspec.json.encode([(size, note.decode()) for size, note in pairs])
    return answer_bytes(content, kind="application/json")


async def get_inclusion(node: Node, request: web.Request) -> web.StreamResponse:
    """Prove that entry ``index`` is in the tree of ``size`` entries."""
    index = read_count(request, "index")
    size = read_count(request, "size", default=node.market.size)
    _check_size(node, size)
    async with node.proofs:
        proof = await asyncio.to_thread(
            lambda: inclusion_proof(node.market.leaves[:size], index=index)
        )
    return _answer_proof(proof)


async def get_consistency(node: Node, request: web.Request) -> web.StreamResponse:
    """Prove that the tree of ``old`` entries is the beginning of that of ``new``."""
    old = read_count(request, "old")
    new = read_count(request, "new", default=node.market.size)
    _check_size(node, new)
    async with node.proofs:
        proof = await asyncio.to_thread(
            lambda: consistency_proof(node.market.leaves[:new], old=old)
        )
    return _answer_proof(proof)


async def get_snapshot(node: Node, request: web.Request) -> web.StreamResponse:
    """Give the newest snapshot of the book."""
    snapshot = await asyncio.to_thread(node.log.find_snapshot)
    if snapshot is None:
        raise NotFound("no snapshot has been kept yet", code="no_snapshot")
    return answer_json(
        LogSnapshot(
            size=snapshot.size,
            book=snapshot.book,
            book_hash="0x" + snapshot.book_hash.hex(),
            tree=snapshot.tree,
        )
    )


def _check_size(node: Node, size: int) -> None:
    if size > node.market.size:
        raise Refused(
            f"the log has {node.market.size} entries, not {size}",
            code="beyond_log",
            field="size",
        )


def _answer_proof(proof: list[bytes]) -> web.Response:
    content = msgspec.json.encode(["0x" + node.hex() for node in proof])
    return answer_bytes(content, kind="application/json")
