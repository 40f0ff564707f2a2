"""``sublet node upgrade``: have a later version of the rules hold in a market.

It looks at every node that can be found first: one whose program does not read the new
version would stop serving.
"""

import secrets
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from sublet.base.errors import Refused, Unavailable
from sublet.wire.message import MarketInfo

SALT_BITS = 63


class Upgraded(Struct, frozen=True):
    """What became of it."""

    version: int  # that holds now
    index: int  # of the log's entry from which on it holds; -1 where nothing changed
    nodes: tuple[str, ...]  # that answered
    away: tuple[str, ...]  # that did not


async def upgrade(home: Path, urls: Sequence[str]) -> Upgraded:
    """Say the Upgrade to the newest version that all nodes read.

    Args:
        home: of the node; the operator's key is there.
        urls: of nodes, as ``parse_urls`` gives them; what they announce is looked at,
            too.

    Raises:
        Refused: ``node_outdated``: a node runs an older program than another; or the
            key is not the operator's.
        Unavailable: no node answers.
    """
    from sublet.adapter.clock_system import SystemClock
    from sublet.adapter.key_file import load_key
    from sublet.core.document import Upgrade
    from sublet.node.compose import KEY_FILE
    from sublet.sdk.connection import Connection

    found, away = await _look(urls)
    first = next(iter(found.values()))
    strangers = [url for url, info in found.items() if info.id != first.id]
    if strangers:
        raise Refused(
            f"{', '.join(strangers)} serves another market", code="market_changed"
        )
    newest = max(info.version_max for info in found.values())
    old = [url for url, info in found.items() if info.version_max < newest]
    if old:
        raise Refused(
            f"the node at {', '.join(old)} does not read version {newest} yet and "
            "would stop; start the new program there first",
            code="node_outdated",
        )
    nodes, index = tuple(found), -1
    if newest > first.version:
        clock = SystemClock()
        key = load_key(home / KEY_FILE)
        async with Connection(*nodes, key=key, clock=clock) as connection:
            (answer,) = await connection.submit(
                Upgrade(newest, clock.now_s(), secrets.randbits(SALT_BITS))
            )
        if answer.fault is not None:
            raise Refused(answer.fault.message, code=answer.fault.code)
        index = answer.index
    return Upgraded(newest, index, nodes, tuple(away))


async def _look(urls: Sequence[str]) -> tuple[dict[str, MarketInfo], list[str]]:
    """Ask every node, those that the others name included, and each for itself."""
    import aiohttp

    from sublet.sdk.exchange import ask_market, read_answer
    from sublet.sdk.log_fetch import fetch_log
    from sublet.sdk.nodes import Nodes

    call, nodes = ask_market(), Nodes(urls)
    found: dict[str, MarketInfo] = {}
    faults: dict[str, Unavailable] = {}
    timeout = aiohttp.ClientTimeout(total=10.0, sock_connect=5.0)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as http:
        while unasked := set(nodes.learn(())) - found.keys() - faults.keys():
            for url in sorted(unasked):
                try:
                    body = await fetch_log(http, url, call.path)
                except Unavailable as fault:
                    faults[url] = fault
                    continue
                found[url] = read_answer(call, status=200, body=body)
                nodes.learn(found[url].nodes)
    if not found:
        raise next(iter(faults.values()))
    return found, list(faults)
