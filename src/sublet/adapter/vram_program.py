"""The program that scrubs one GPU, or looks at all: a process of its own, run by the
adapter (``vram_cuda``), which can end it where a driver hangs.

    python -m sublet.adapter.vram_program look | devices | scrub UUID

It prints one line of JSON: what was found, or the fault. Exit code 0 either way.
"""

import contextlib
import os
import random
import sys
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from sublet.adapter.cuda_driver import CudaDriver, CudaGpu
from sublet.adapter.nvidia import GpuUse, read_gpu_uses
from sublet.base.errors import SubletError, Unavailable

BLOCK_BYTES = 1 << 30  # tried first; half of it where that cannot be had, and so on
BLOCK_BYTES_MIN = 1 << 20
PIECES = 1_024  # read back at places drawn anew each time, beside each block's ends
PIECE_BYTES = 4_096


class Scrubbed(Struct, frozen=True):
    """What was done to one GPU."""

    bytes_total: int  # by CUDA's word
    bytes_overwritten: int  # with words, then with zeros
    bytes_sampled: int  # read back and compared, after the words
    wrong: str  # what did not read back as written; "" for nothing


class Said(Struct, frozen=True):
    """The line of JSON; one of its members is there."""

    fault: str = ""
    uses: tuple[GpuUse, ...] | None = None
    devices: tuple[str, ...] | None = None
    scrubbed: Scrubbed | None = None


class _Block(Struct, frozen=True):
    address: int
    size: int
    word: int  # its own, so that two blocks on the same bytes are found out


def scrub(gpu: CudaGpu, draw: random.Random) -> Scrubbed:
    """Overwrite all memory that can be had with words, look, then with zeros, look.

    Raises:
        Unavailable: the driver refuses a call.
    """
    _, total = gpu.measure()
    blocks = _take(gpu, draw, total=total)
    try:
        places = _choose(blocks, draw)
        sampled, wrong = _write(gpu, blocks, places)
        if not wrong:
            zeros = [msgspec.structs.replace(block, word=0) for block in blocks]
            _, wrong = _write(gpu, zeros, places)
    finally:
        for block in blocks:
            with contextlib.suppress(Unavailable):  # closing the GPU frees it, too
                gpu.free(block.address)
    overwritten = 0 if wrong else sum(block.size for block in blocks)
    return Scrubbed(total, overwritten, sampled, wrong)


def _take(gpu: CudaGpu, draw: random.Random, *, total: int) -> list[_Block]:
    """Allocate until nothing is left, large blocks first."""
    blocks: list[_Block] = []
    size, taken = BLOCK_BYTES, 0
    while size >= BLOCK_BYTES_MIN and taken < total:
        address = gpu.allocate(size)
        if address is None:
            size //= 2
        else:
            blocks.append(_Block(address, size, draw.randrange(1, 1 << 32)))
            taken += size
    return blocks


def _choose(blocks: Sequence[_Block], draw: random.Random) -> list[tuple[int, int]]:
    """Give places to look at, as (block, offset): its ends, and some drawn by lot."""
    if not blocks:
        return []
    ends = [
        (number, offset)
        for number, block in enumerate(blocks)
        for offset in (0, block.size - PIECE_BYTES)
    ]
    drawn = draw.choices(
        range(len(blocks)), weights=[block.size for block in blocks], k=PIECES
    )
    return ends + [
        (number, draw.randrange(0, blocks[number].size - PIECE_BYTES + 1, 4))
        for number in drawn
    ]


def _write(
    gpu: CudaGpu, blocks: Sequence[_Block], places: Sequence[tuple[int, int]]
) -> tuple[int, str]:
    """Fill every block with its word; give the bytes read back, and what is wrong."""
    for block in blocks:
        gpu.fill(block.address, word=block.word, size=block.size)
    gpu.wait_done()
    for count, (number, offset) in enumerate(places):
        block = blocks[number]
        expected = block.word.to_bytes(4, "little") * (PIECE_BYTES // 4)
        if gpu.read(block.address + offset, PIECE_BYTES) != expected:
            where = f"{offset} of a block of {block.size} bytes"
            return count * PIECE_BYTES, f"what was written is not there, at {where}"
    return len(places) * PIECE_BYTES, ""


def _scrub(uuid: str) -> Said:
    # Before the driver starts: the GPUs of others are none of this process's business.
    os.environ["CUDA_VISIBLE_DEVICES"] = uuid
    with CudaDriver().open(uuid) as gpu:
        return Said(scrubbed=scrub(gpu, random.SystemRandom()))


def _list_devices() -> Said:
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    return Said(devices=CudaDriver().list_uuids())


def main(arguments: Sequence[str]) -> None:
    """Do what was asked, and print what came of it."""
    verbs: dict[str, Callable[..., Said]] = {
        "look": lambda: Said(uses=read_gpu_uses()),
        "devices": _list_devices,
        "scrub": _scrub,
    }
    try:
        said = verbs[arguments[0]](*arguments[1:])
    except SubletError as fault:
        said = Said(fault=fault.message)
    sys.stdout.buffer.write(msgspec.json.encode(said))


if __name__ == "__main__":
    main(sys.argv[1:])
