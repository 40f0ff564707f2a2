"""Reads an SDL file: grammar, then what must fit together; all faults at once."""

from sublet.workload.deploy.fault import Findings
from sublet.workload.deploy.reader import Reader
from sublet.workload.deploy.sdl_check import check_stack
from sublet.workload.deploy.sdl_type import HABITS, Stack
from sublet.workload.deploy.tree import Mapping, read_tree


def parse_sdl(raw: bytes, *, file: str) -> Stack:
    """Read an SDL 2.0 or 2.1 file.

    Args:
        raw: the file.
        file: its name, for people.

    Raises:
        Faults: each with line, key and cure.
    """
    found = Findings(file)
    tree = read_tree(raw, found)
    if tree is None:
        found.check()
        raise AssertionError("what cannot be read has a fault")
    return read_stack(tree, found)


def read_stack(tree: Mapping, found: Findings) -> Stack:
    """Read the tree of an SDL file; raises as ``parse_sdl``."""
    stack = Reader(found, habits=HABITS).read(tree, Stack)
    check_stack(stack, found)
    found.check()
    return stack
