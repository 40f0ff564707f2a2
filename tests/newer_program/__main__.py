"""Sublet as its next version may be, simulated: one more kind of document.

A program of its own: ``python tests/newer_program node start …`` is the command line of
that version, and ``… greet URL KEYFILE`` signs and submits the new document. The old
program beside it in the tests is the real one, unchanged. It is a ``__main__``, so
that pytest, which looks for examples in every module, does not become version 2.
"""

import asyncio
import json
import secrets
import sys
from functools import partial
from pathlib import Path
from typing import Any

from sublet.core import document, version


class Greeting(document.Document, frozen=True, tag="Greeting"):
    """New in version 2: whoever says it is given a micro-dollar."""

    text: document.Text
    signed_at_s: document.Seconds
    salt: document.Salt


# Before anything else is imported: decoders are made of what stands here.
document.AnyDocument = document.AnyDocument | Greeting  # type: ignore[misc,assignment]
version.RULES_VERSION = 2
version.SINCE = {Greeting: 2}

from sublet.adapter.clock_system import SystemClock  # noqa: E402
from sublet.adapter.key_file import load_or_create_key  # noqa: E402
from sublet.cli.root import run_command  # noqa: E402
from sublet.core.book import by_operator, step  # noqa: E402
from sublet.sdk.connection import Connection  # noqa: E402


def _decide(book: Any, fact: Any, greeting: Greeting, now_s: int) -> Any:
    gift = document.Credit(fact.signer, 1, greeting.text, now_s, 1)
    return partial(by_operator._issue, book, fact, gift)


step.HANDLERS[Greeting] = _decide  # type: ignore[index]


async def _greet(url: str, key: str) -> None:
    clock = SystemClock()
    greeting = Greeting("hello", clock.now_s(), secrets.randbits(60))
    async with Connection(
        url, key=load_or_create_key(Path(key)), clock=clock
    ) as client:
        (answer,) = await client.submit(greeting)  # type: ignore[arg-type]
        balance = (await client.account()).balance
    code = answer.fault.code if answer.fault else ""
    print(json.dumps({"index": answer.index, "code": code, "balance": balance}))


if __name__ == "__main__":
    if sys.argv[1] == "greet":
        asyncio.run(_greet(*sys.argv[2:]))
    else:
        sys.exit(run_command(sys.argv[1:]))
