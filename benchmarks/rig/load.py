"""An open-loop load on a node, in a process of its own.

Requests leave at their scheduled times whether or not earlier ones were answered, and
latency counts from the scheduled time: a node that stalls is charged for everybody who
would have come meanwhile. Plain HTTP/1.1 on kept-alive connections, bytes prepared
beforehand, so that the generator costs the node's machine as little as it can.

    python -m benchmarks.rig.load HOST PORT FILE

FILE holds a JSON plan: ``[{"rate": requests a second, "bodies": [text, …]}, …]``. The
answer on stdout is JSON: for each stage its latencies in ms, the seconds that it took
from first to last answer, how many answers were not what was hoped for, and how often
each code of a refusal was among them.
"""

import asyncio
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

CONNECTIONS = 64
PAUSE_S = 1.0  # between two stages
CODE = re.compile(rb'"code":"(\w+)"')
HOPED_FOR = b'"phase":"matched"'


class Client:
    """Connections that are open, and those of them that are idle."""

    def __init__(self, host: str, port: int) -> None:
        """Remember the address; ``open`` connects."""
        self._host, self._port = host, port
        self._idle: asyncio.LifoQueue[
            tuple[asyncio.StreamReader, asyncio.StreamWriter]
        ] = asyncio.LifoQueue()

    async def open(self) -> None:
        """Connect all."""
        for _ in range(CONNECTIONS):
            self._idle.put_nowait(await asyncio.open_connection(self._host, self._port))

    def close(self) -> None:
        """Disconnect all; nothing may be under way."""
        while not self._idle.empty():
            _, writer = self._idle.get_nowait()
            writer.close()

    async def post(self, head_and_body: bytes) -> bytes:
        """Send a request on an idle connection; give the answer's body."""
        reader, writer = connection = await self._idle.get()
        writer.write(head_and_body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        body = await reader.readexactly(int(length))
        self._idle.put_nowait(connection)
        return body


def prepare(host: str, port: int, body: str) -> bytes:
    """Write a whole request."""
    raw = body.encode()
    return (
        f"POST /v1/documents HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
    ).encode() + raw


async def run_stage(client: Client, requests: list[bytes], *, rate: float) -> Any:
    """Send one stage; give its figures."""
    latencies: list[float] = []
    codes: Counter[str] = Counter()
    bad = 0
    start = time.perf_counter() + 0.05

    async def send(request: bytes, due: float) -> None:
        nonlocal bad
        answer = await client.post(request)
        latencies.append((time.perf_counter() - due) * 1_000)
        bad += HOPED_FOR not in answer
        code = CODE.search(answer)
        codes[code[1].decode() if code else "taken"] += 1

    tasks = []
    for number, request in enumerate(requests):
        due = start + number / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(send(request, due)))
    await asyncio.gather(*tasks)
    took = time.perf_counter() - start
    return {
        "rate": rate,
        "latencies_ms": latencies,
        "took_s": took,
        "bad": bad,
        "codes": codes,
    }


async def main(host: str, port: int, plan: list[Any]) -> None:
    """Run all stages of a plan, one after another."""
    figures = []
    for stage in plan:
        client = Client(host, port)  # anew: a node closes what idles for long
        await client.open()
        requests = [prepare(host, port, body) for body in stage["bodies"]]
        figures.append(await run_stage(client, requests, rate=stage["rate"]))
        client.close()
        await asyncio.sleep(PAUSE_S)
    json.dump(figures, sys.stdout)


if __name__ == "__main__":
    PLAN = json.loads(Path(sys.argv[3]).read_text())
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), PLAN))
