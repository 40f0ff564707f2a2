"""The filter is built, and is a program that the kernel would take.

What it stops is tried in ``tests/integration/test_sandbox_isolation.py``.
"""

import struct

import pytest

from sublet.adapter.seccomp_filter import DENIED, compile_filter

INSTRUCTION_BYTES = 8  # struct sock_filter
INSTRUCTIONS_MAX = 4_096  # BPF_MAXINSNS
RETURN = 0x06  # BPF_RET | BPF_K
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x00000000

pytest.importorskip(
    "pyseccomp", reason="libseccomp is not installed", exc_type=Exception
)


def instructions() -> list[tuple[int, int, int, int]]:
    return list(struct.iter_unpack("HBBI", compile_filter()))


def test_is_a_program_of_lawful_size() -> None:
    assert len(compile_filter()) % INSTRUCTION_BYTES == 0
    assert 10 < len(instructions()) < INSTRUCTIONS_MAX


def test_returns_only_what_was_meant() -> None:
    returned = {value for code, _, _, value in instructions() if code == RETURN}
    assert {value & 0x7FFF0000 for value in returned} == {ALLOW, ERRNO, KILL}
    assert {value & 0xFFFF for value in returned if value & ERRNO} >= {1, 38, 97}


def test_names_no_call_twice() -> None:
    assert len(DENIED) == len(set(DENIED))


def test_is_built_once() -> None:
    assert compile_filter() is compile_filter()
