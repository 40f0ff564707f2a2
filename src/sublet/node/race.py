"""Several coroutines, of which the first to end ends them all."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def race(*contenders: Coroutine[Any, Any, None]) -> None:
    """Run all until the first ends; stop the others and wait for them.

    Raises:
        Exception: what the first to end raised, if it did.
    """
    tasks = [asyncio.ensure_future(contender) for contender in contenders]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
