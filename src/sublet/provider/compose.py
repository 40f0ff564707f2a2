"""Ties adapters to the agent: the one place that knows which they are."""

import asyncio
import contextlib
import fcntl
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import asyncssh
import msgspec
from msgspec.structs import replace

from sublet.adapter.clock_system import SystemClock
from sublet.adapter.images_skopeo import SkopeoImages
from sublet.adapter.key_file import load_key
from sublet.adapter.seal import SealKey
from sublet.base.errors import Refused, Unavailable
from sublet.core.document import Market
from sublet.provider import control
from sublet.provider.agent import NODES_FILE, Agent
from sublet.provider.bid_record import BidsMade
from sublet.provider.bidder import Bidder, make_program
from sublet.provider.cashier import open_cashier
from sublet.provider.config import MARKET_FILE, Config, find_market, read_config
from sublet.provider.control import UNKNOWN_WORD
from sublet.provider.data_plane import DataPlane
from sublet.provider.declared import fill_in
from sublet.provider.errand import SEND, take_errand
from sublet.provider.host_key import load_host_key, public_line
from sublet.provider.image_program import make_opener
from sublet.provider.installer import Installer
from sublet.provider.journal import Journal
from sublet.provider.link import MarketLink
from sublet.provider.nodes import NodeLinks
from sublet.provider.offering import Offering
from sublet.provider.outbox import Outbox
from sublet.provider.record import LeaseFolder, write_atomic
from sublet.provider.roster import FIRST_UID, Roster
from sublet.provider.runner import LeaseRunner
from sublet.provider.sandboxes import Sandboxes, try_out
from sublet.provider.scratches import Scratches
from sublet.provider.ssh_server import server_options
from sublet.provider.status import read_status
from sublet.provider.surroundings import Install, Program, Say, Surroundings
from sublet.provider.till import Till
from sublet.sdk.connection import Connection
from sublet.sdk.nodes import parse_urls
from sublet.service.erasure_ports import Scratch, Vram
from sublet.service.ports import Clock, Devices, Sandbox
from sublet.wire.message import Appended, Manifest, Signed

SEAL_KEY_FILE = "seal_key"
INSTALL_UID = FIRST_UID - 1
SCRIPT_BYTES_MAX = 1 << 20
FIND_S = 5.0  # for a lease to arrive whose tenant has dialled already
RETRY_S = 2.0

Ready = Callable[[Agent, int], None]


async def serve(
    home: Path,
    *,
    sandboxes: Sequence[Sandbox],
    scratches: Sequence[Scratch] = (),
    vram: Vram | None = None,
    devices: Devices | None = None,
    journal: Journal,
    listen: tuple[str, int] | None = None,
    endpoint: str = "",
    clock: Clock | None = None,
    ready: Ready = lambda agent, port: None,
) -> None:
    """Run a provider's agent until it has drained or was stopped.

    Args:
        home: the provider's folder, made by ``setup``.
        scratches: what can encrypt their data; without any, no erasure is promised.
        vram: what scrubs GPUs, asked where the machine offers some.
        devices: asked what the owner does not declare; None for nothing of it.
        sandboxes: where strangers' programs run, best first; one at least must hold.
        journal: told what happens.
        listen: (host, port) where tenants reach this machine directly; None for not.
        endpoint: how others reach ``listen``; as in the configuration if it is "".
        clock: this machine's, where none is given.
        ready: told the agent once it takes leases, and the port (0 for none).

    Raises:
        Refused: no provider in this home, another agent runs there, or no sandbox
            protects this machine.
        Faults: the configuration is wrong.
    """
    config = read_config(home)
    if endpoint:
        config = replace(config, endpoint=endpoint)
    if devices is not None:
        machine = await asyncio.to_thread(devices.find_machine, folder=home)
        declared = fill_in(config.declared, machine, gpu_uuids=config.gpu_uuids)
        config = replace(config, declared=declared)
    with _lock(home):
        has_gpus = bool(config.gpu_uuids)
        gpu_uuids = config.gpu_uuids
        tried = await asyncio.to_thread(try_out, sandboxes, gpu_uuids=gpu_uuids)
        tried.check()
        rooms = await asyncio.to_thread(
            Scratches, scratches, vram=vram if has_gpus else None
        )
        if why := rooms.explain(has_gpus=has_gpus):
            journal.info("no_erasure", why=why)
        async with open_agent(
            home,
            config,
            sandboxes=tried,
            scratches=rooms,
            journal=journal,
            clock=clock or SystemClock(),
        ) as (
            agent,
            data_plane,
        ):
            port = await data_plane.listen(*listen) if listen else 0
            async with control.listen(home, lambda word: _answer(agent, word)):
                ready(agent, port)
                await agent.run()


@contextlib.asynccontextmanager
async def open_agent(
    home: Path,
    config: Config,
    *,
    sandboxes: Sandboxes,
    scratches: Scratches,
    journal: Journal,
    clock: Clock,
) -> AsyncIterator[tuple[Agent, DataPlane]]:
    """Build an agent from its folder; it is not running yet.

    Raises:
        Refused: the home lacks its keys.
    """
    key, host_key = load_key(home / "key"), load_host_key(home)
    known = find_market(home)
    roster = Roster(home / "leases")
    installer = Installer(
        sandboxes.find(""),
        folder=home / "packages",
        uid=INSTALL_UID,
        in_use=roster.environments,
    )
    await installer.open()
    images = await _open_images(home, config, sandboxes, roster)
    urls = tuple(dict.fromkeys((*parse_urls(config.market), *_find_nodes(home))))
    async with (
        Connection(*urls, key=key, clock=clock, market=known) as node,
        contextlib.AsyncExitStack() as stack,
    ):
        market = await _learn_market(node, home, journal)
        domain = await node.domain()
        agent: Agent | None = None

        async def submit(documents: tuple[Signed, ...]) -> tuple[Appended, ...]:
            return await node.submit_signed(*documents)

        def heard(signed: Signed, answer: Appended) -> None:
            if agent is not None:
                agent.heard(signed, answer)

        outbox = Outbox(home / "outbox", submit=submit, heard=heard, journal=journal)
        till = Till(
            home / "channels" / domain.market,
            market=market,
            domain=domain,
            provider=key.address,
        )
        cashier = await stack.enter_async_context(
            open_cashier(
                home,
                config.chain,
                key=key,
                market=market,
                domain=domain,
                till=till,
                outbox=outbox,
                journal=journal,
            )
        )
        around = Surroundings(
            home=home,
            key=key,
            domain=domain,
            config=config,
            report_s=market.report_s,
            sandboxes=sandboxes,
            scratches=scratches,
            clock=clock,
            journal=journal,
            outbox=outbox,
            till=till,
            cashier=cashier,
            seal_key=SealKey.load_or_create(home / SEAL_KEY_FILE),
            install=_adapt(installer, make_opener(images, config.images)),
            images=images.probe(),
            records=roster.records,
            paid=roster.paid,
        )
        agent, data_plane = _make_agent(
            around, node=node, urls=urls, roster=roster, host_key=host_key
        )
        yield agent, data_plane


def _make_agent(
    around: Surroundings,
    *,
    node: Connection,
    urls: tuple[str, ...],
    roster: Roster,
    host_key: asyncssh.SSHKey,
) -> tuple[Agent, DataPlane]:
    home = around.home
    offering = Offering(
        home / "offers.json", around, ssh_host_key=public_line(host_key)
    )
    bidder = _make_bidder(around, offering)
    roster.attach(around, find_offer=offering.find, find_bid=bidder.find)
    data_plane = DataPlane(
        _make_options(roster, host_key, around.journal), journal=around.journal
    )
    make_link = partial(
        MarketLink,
        key=around.key,
        domain=around.domain,
        clock=around.clock,
        instance=secrets.token_hex(16),
    )
    agent = Agent(
        around,
        connection=node,
        links=NodeLinks(urls, make=make_link, journal=around.journal),
        roster=roster,
        offering=offering,
        bidder=bidder,
        data_plane=data_plane,
    )
    return agent, data_plane


def _make_bidder(around: Surroundings, offering: Offering) -> Bidder:
    return Bidder(
        around,
        offering=offering,
        made=BidsMade(around.home / "bids.json", journal=around.journal),
        program=make_program(around.config.bids),
    )


def _make_options(
    roster: Roster, host_key: asyncssh.SSHKey, journal: Journal
) -> dict[str, object]:
    async def find(lease_id: str) -> LeaseRunner | None:
        return await roster.wait_lease(lease_id, timeout_s=FIND_S)

    return server_options(find, host_key=host_key, journal=journal)


async def _open_images(
    home: Path, config: Config, sandboxes: Sandboxes, roster: Roster
) -> SkopeoImages:
    images = SkopeoImages(
        sandboxes.find(""),
        folder=home / "images",
        uid=INSTALL_UID,
        rules=config.images,
        in_use=roster.environments,
    )
    await images.open()
    return images


def _adapt(installer: Installer, open_image: Install) -> Install:
    async def install(
        manifest: Manifest, folder: LeaseFolder, uid: int, say: Say
    ) -> Program:
        if manifest.image:
            return await open_image(manifest, folder, uid, say)
        script = _read_script(folder.work / manifest.argv[0])
        environment = await installer.install(script, say=say)
        return Program(
            argv=(environment.python, *manifest.argv),
            env={},
            binds=(environment.bind,),
            environment=str(environment.folder),
        )

    return install


def _read_script(path: Path) -> str:
    """Read a script that was laid out just now; no job has run in its folder yet."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        content = file.read(SCRIPT_BYTES_MAX + 1)
    if len(content) > SCRIPT_BYTES_MAX:
        raise Refused(
            f"the script has more than {SCRIPT_BYTES_MAX} bytes; put data into files",
            code="script_too_large",
        )
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Refused("the script is not UTF-8", code="bad_script") from None


async def _learn_market(node: Connection, home: Path, journal: Journal) -> Market:
    while True:
        try:
            market = await node.learn_market()
        except Unavailable as fault:
            journal.warn("market_away", why=fault.message)
            await asyncio.sleep(RETRY_S)
        else:
            write_atomic(home / MARKET_FILE, msgspec.json.encode(market))
            return market


def _find_nodes(home: Path) -> tuple[str, ...]:
    try:
        raw = (home / NODES_FILE).read_bytes()
        return parse_urls(",".join(msgspec.json.decode(raw, type=tuple[str, ...])))
    except (FileNotFoundError, msgspec.MsgspecError, Refused):
        return ()


async def _answer(agent: Agent, line: str) -> bytes:
    word, _, rest = line.partition(" ")
    if word == "status":
        return msgspec.json.encode(read_status(agent))
    if word == "drain":
        agent.drain()
        return msgspec.json.encode(read_status(agent))
    cashier = agent.around.cashier
    if word == "claim" and cashier is not None:
        cashier.claim_all()
        return msgspec.json.encode(read_status(agent))
    if word == SEND and cashier is not None:
        return await take_errand(cashier, rest)
    return UNKNOWN_WORD


@contextlib.contextmanager
def _lock(home: Path) -> Iterator[None]:
    """Hold the home, so that no second agent sells the same machine.

    Raises:
        Refused: another agent holds it.
    """
    with (home / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(
                f"an agent runs in {home} already; look at it with: sublet provider "
                "status",
                code="agent_runs",
            ) from None
        yield
