"""A witness's HTTP door: add-checkpoint as C2SP has it, and what it knows.

POST /add-checkpoint           tlog-witness
GET  /checkpoint/MARKET        the newest note with this witness's cosignature
GET  /evidence · /evidence/F   what lying logs have signed
GET  /key · /metrics · /healthz · /
"""

import asyncio
import json
from http import HTTPStatus

from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Gauge,
    generate_latest,
)

from sublet.adapter.checkpoint_folder import CheckpointFolder
from sublet.base.errors import Unavailable
from sublet.wire.cosignature import REQUEST_BYTES_MAX, WitnessKey
from sublet.wire.note import read_text, split_note
from sublet.witness.config import Pin
from sublet.witness.cosigner import Cosigner, Declined


class WitnessDoor:
    """The handlers of one witness."""

    def __init__(
        self,
        cosigner: Cosigner,
        folder: CheckpointFolder,
        *,
        key: WitnessKey,
        pins: list[Pin],
    ) -> None:
        """Take what is served."""
        self._cosigner = cosigner
        self._folder = folder
        self._key = key
        self._pins = {pin.market: pin for pin in pins}

    def make_app(self) -> web.Application:
        """Make the application; it starts nothing."""
        app = web.Application(client_max_size=REQUEST_BYTES_MAX)
        app.router.add_post("/add-checkpoint", self._add)
        app.router.add_get("/checkpoint/{market}", self._show)
        app.router.add_get("/evidence", self._list_evidence)
        app.router.add_get("/evidence/{name}", self._show_evidence)
        app.router.add_get("/key", self._show_key)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/", self._page)
        return app

    async def _add(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            line = await asyncio.to_thread(self._cosigner.add, body)
        except Declined as declined:
            return web.Response(
                status=declined.status,
                text=declined.message,
                content_type=declined.media,
            )
        except Unavailable as fault:
            return web.Response(
                status=HTTPStatus.SERVICE_UNAVAILABLE, text=fault.message
            )
        return web.Response(text=line)

    async def _show(self, request: web.Request) -> web.Response:
        market = request.match_info["market"]
        note = None
        if market in self._pins:
            note = await asyncio.to_thread(self._cosigner.find, market)
        if note is None:
            return web.Response(
                status=HTTPStatus.NOT_FOUND, text="nothing was cosigned of that log\n"
            )
        return web.Response(body=note, content_type="text/plain")

    async def _list_evidence(self, _: web.Request) -> web.Response:
        names = sorted(await asyncio.to_thread(self._folder.read_evidence))
        return web.json_response(names)

    async def _show_evidence(self, request: web.Request) -> web.Response:
        found = await asyncio.to_thread(self._folder.read_evidence)
        content = found.get(request.match_info["name"])
        if content is None:
            return web.Response(status=HTTPStatus.NOT_FOUND, text="no such evidence\n")
        return web.Response(body=content, content_type="application/json")

    async def _show_key(self, _: web.Request) -> web.Response:
        return web.Response(text=self._key.verifier_key + "\n")

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        registry = CollectorRegistry()
        sizes = Gauge(
            "sublet_witness_entries",
            "Entries that were cosigned",
            ["market"],
            registry=registry,
        )
        lies = Gauge(
            "sublet_witness_lies",
            "Files of evidence against markets",
            registry=registry,
        )
        for market in self._pins:
            sizes.labels(market).set(await self._size_of(market))
        lies.set(len(await asyncio.to_thread(self._folder.read_evidence)))
        return web.Response(
            body=generate_latest(registry),
            headers={"Content-Type": CONTENT_TYPE_LATEST},
        )

    async def _page(self, _: web.Request) -> web.Response:
        """Tell people, in plain text: names come from strangers."""
        lines = [f"witness {self._key.verifier_key}", ""]
        for market, pin in self._pins.items():
            state = "LIES: see /evidence" if market in self._cosigner.split else "ok"
            size = await self._size_of(market)
            lines.append(f"{market} {json.dumps(pin.name)} {size} entries {state}")
        for name in sorted(await asyncio.to_thread(self._folder.read_evidence)):
            lines.append(f"evidence {name}")
        return web.Response(text="\n".join(lines) + "\n")

    async def _size_of(self, market: str) -> int:
        note = await asyncio.to_thread(self._cosigner.find, market)
        return 0 if note is None else read_text(split_note(note)[0]).size
