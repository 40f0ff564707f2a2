"""The gateway from start to end: the chain, the door, the service behind, the claims.

Not here: what the door asks of whom (``adapter.x402_door``), flags (``cli.sell``).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiohttp import web
from msgspec import Struct

from sublet.adapter import private_file
from sublet.adapter.chain_place import ChainPlace, find_ether_usd, open_chain
from sublet.adapter.chain_rpc import RpcChain
from sublet.adapter.chain_sender import JOURNAL_FILE, make_claimer, open_sender
from sublet.adapter.escrow_chain import ChainEscrow, find_token_domain
from sublet.adapter.key_file import load_or_create_key
from sublet.adapter.tabs_folder import FolderTabs
from sublet.adapter.x402_door import Door, SenderDepositor
from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.base.ids import Address
from sublet.gateway.forward import BODY_BYTES_MAX, Forwarder
from sublet.service.sender import Sender
from sublet.wire.signature import Key
from sublet.wire.x402 import Terms

LOOK_S = 5.0
LOOK_S_MAX = 60.0  # while the chain does not answer
SHUTDOWN_S = 10.0  # for answers that are under way


class Sale(Struct, frozen=True, kw_only=True):
    """What is sold, where, and for how much. Money in units of the token."""

    upstream: str  # the service's address
    host: str
    port: int
    price: int  # of each request
    free: tuple[str, ...]  # paths that cost nothing
    chain_id: int
    place: ChainPlace
    escrow: Address
    collector: Address
    token: Address
    deposit_min: int
    withdraw_delay_s: int


class Selling(Struct, frozen=True):
    """A gateway that serves."""

    url: str
    receiver: Address


async def serve(home: Path, sale: Sale, *, ready: Callable[[Selling], None]) -> None:
    """Sell until cancelled.

    Args:
        home: of key, journal and tabs; made where there is none.
        sale: what.
        ready: told once it answers.

    Raises:
        Refused: the chain has no such contract or token, or the address is taken.
        Unavailable: the chain does not answer at the start.
    """
    key = await asyncio.to_thread(_open_home, home)
    async with AsyncExitStack() as stack:
        chain = await stack.enter_async_context(
            open_chain(sale.place, chain_id=sale.chain_id)
        )
        sender = stack.enter_context(
            open_sender(chain, sale.place, key=key, journal=home / JOURNAL_FILE)
        )
        tabs, escrow = FolderTabs(home / "tabs"), ChainEscrow(chain, sale.escrow)
        door = Door(
            await _make_terms(chain, sale, receiver=key.address),
            price=lambda request: 0 if request.path in sale.free else sale.price,
            chain=chain,
            escrow=escrow,
            confirmations=sale.place.confirmations,
            tabs=tabs,
            depositor=SenderDepositor(
                sender, escrow=sale.escrow, collector=sale.collector
            ),
        )
        forwarder = await stack.enter_async_context(Forwarder(sale.upstream))
        url = await stack.enter_async_context(_listen(sale, door, forwarder))
        ready(Selling(url=url, receiver=key.address))
        async with asyncio.TaskGroup() as group:
            group.create_task(sender.run())
            group.create_task(_claim(chain, escrow, sender, tabs, sale))


def _open_home(home: Path) -> Key:
    private_file.make_folder(home)
    return load_or_create_key(home / "key")


async def _make_terms(chain: RpcChain, sale: Sale, *, receiver: Address) -> Terms:
    for name, address in (("escrow", sale.escrow), ("collector", sale.collector)):
        if not await chain.code(address):
            raise Refused(
                f"there is no {name} at {address} on chain {sale.chain_id}; clients of "
                "x402 pay where they know one",
                code="no_contract",
                field=f"--{name}",
            )
    domain = await find_token_domain(chain, sale.token)
    return Terms(
        chain_id=sale.chain_id,
        escrow=sale.escrow,
        receiver=receiver,
        receiver_authorizer=receiver,
        token=sale.token,
        token_name=domain.name,
        token_version=domain.version,
        withdraw_delay_s=sale.withdraw_delay_s,
        deposit_min=sale.deposit_min,
    )


@asynccontextmanager
async def _listen(sale: Sale, door: Door, forwarder: Forwarder) -> AsyncIterator[str]:
    app = web.Application(middlewares=[door.middleware], client_max_size=BODY_BYTES_MAX)
    app.router.add_route("*", "/{path:.*}", forwarder.forward)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, sale.host, sale.port).start()
        except OSError as exc:
            raise Refused(
                f"cannot listen on {sale.host}:{sale.port}: {exc.strerror}; choose "
                "another with --listen",
                code="cannot_listen",
                field="--listen",
            ) from None
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def _claim(
    chain: RpcChain, escrow: ChainEscrow, sender: Sender, tabs: FolderTabs, sale: Sale
) -> None:
    """Claim when it is worth it, and at once where a payer withdraws."""
    claimer = make_claimer(
        chain,
        escrow,
        sender,
        confirmations=sale.place.confirmations,
        ether_usd=lambda: find_ether_usd(sale.place),
    )
    pause_s = LOOK_S
    while True:
        try:
            await claimer.step(await asyncio.to_thread(tabs.list_tabs))
            pause_s = LOOK_S
        except (Unavailable, PeerFault):
            pause_s = min(2 * pause_s, LOOK_S_MAX)
        await asyncio.sleep(pause_s)
