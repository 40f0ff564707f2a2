"""``sublet ssh`` in a real terminal: a person types, and the window changes."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from select import select

import pytest
import pytest_asyncio

from tests.integration.test_ordinary_tools import need_tools
from tests.integration.tools_house import Tools, running_tools, sublet
from tests.rig.terminal import WAIT_S, Person

pytestmark = [pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tools(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tools]:
    need_tools()
    async with running_tools(tmp_path_factory.mktemp("terminal")) as found:
        yield found


def _work_in_terminal(person: Person) -> None:
    # The marks are computed, so that an echo of what was typed is not taken for them.
    person.ask(b"echo up-$((40+2))", b"up-42")
    assert person.is_raw()
    person.ask(b"stty size", b"33 91")
    person.ask(b"test -t 0 && echo $TERM-$((1+1))", b"xterm-256color-2")
    person.resize(columns=120, rows=44)
    for _ in range(50):  # the news travels by itself
        person.type(b"echo size $(stty size).\n")
        person.see(b"size ")
        person.see(b".")
        if b"44 120" in person.seen or _says(person, b"44 120"):
            break
    else:
        raise AssertionError("the window's size never arrived")
    # Before it has begun there would be nothing to interrupt.
    line = b"echo sleeps-$((4*4)); sleep 600; echo after-$((3*3))"
    person.ask(line, b"sleeps-16")
    person.type(b"echo typed-$((5*5))\n")  # waits in the terminal's queue
    time.sleep(0.5)
    person.type(b"\x03")  # ends the sleep, and neither the shell nor ssh
    person.ask(b"echo again-$((6*6))", b"again-36")
    # Typed before the command has the terminal, a Ctrl-D would be a letter to it.
    person.ask(b"echo reads-$((3*3)); cat > typed", b"reads-9")
    person.type("gr\u00fc\u00dfe\n".encode() + b"\x04")
    person.ask(b"cat typed; echo done-$((7*7))", b"done-49")
    person.type(b"exit 23\n")


def _says(person: Person, text: bytes) -> bool:
    person.type(b"stty size; echo end-$((8*8))\n")
    until = time.monotonic() + WAIT_S
    before = b""
    while b"end-64" not in before:
        assert time.monotonic() < until, before
        if select([person.terminal], [], [], 1)[0]:
            before += os.read(person.terminal, 65_536)
    return text in before


async def test_terminal_is_one_s_own(tools: Tools) -> None:
    argv = sublet(("ssh", "lab"))
    person = Person(argv, {**tools.env, "TERM": "xterm-256color"})
    await asyncio.to_thread(_work_in_terminal, person)
    assert await asyncio.to_thread(person.leave) == 23
    assert not person.is_raw()  # as it was before
    assert (tools.work / "typed").read_text() == "gr\u00fc\u00dfe\n"
    os.close(person.terminal)


async def test_control_d_leaves(tools: Tools) -> None:
    person = Person(sublet(("ssh", "lab")), {**tools.env, "TERM": "xterm"})

    def leave() -> int:
        person.ask(b"PS1='ready-$((3*3))> '", b"ready-9> ")  # not before it reads
        person.type(b"\x04")
        return person.leave()

    assert await asyncio.to_thread(leave) == 0
    os.close(person.terminal)


async def test_hang_up_ends_what_ran(tools: Tools) -> None:
    person = Person(sublet(("ssh", "lab")), {**tools.env, "TERM": "xterm"})
    await asyncio.to_thread(person.ask, b"sleep 601 & echo up-$((40+2))", b"up-42")
    shells = tools.work.parents[1] / "shells"
    assert len(list(shells.iterdir())) == 1
    os.close(person.terminal)  # the window is closed
    await asyncio.to_thread(os.waitpid, person.pid, 0)
    async with asyncio.timeout(WAIT_S):
        while list(shells.iterdir()):  # noqa: ASYNC110 (another process ends)
            await asyncio.sleep(0.05)
