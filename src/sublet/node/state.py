"""What the endpoints of one node share: ports, services, counters."""

import asyncio
from dataclasses import dataclass, field

from sublet.core.book.open_order import OpenOrder
from sublet.core.lease.phase import Lease
from sublet.node.auth import Door
from sublet.node.config import NodeConfig
from sublet.node.controller.controllers import Controllers
from sublet.node.converting import Maker
from sublet.node.cosigning import Cosigning
from sublet.node.fanout import Fanout
from sublet.node.journal import Journal
from sublet.node.link import Links
from sublet.node.lookout import Lookout
from sublet.node.metered_log import NodeLog
from sublet.node.metrics import NodeMetrics
from sublet.node.mirroring import Mirroring
from sublet.node.rate import RateLimit
from sublet.node.relay import Relay
from sublet.node.socket import Sockets
from sublet.node.watch import Watch
from sublet.service.market import MarketService
from sublet.service.ports import Clock
from sublet.wire.typed_data import Domain


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One running node; handed to every endpoint."""

    config: NodeConfig
    market: MarketService
    log: NodeLog
    domain: Domain
    clock: Clock
    door: Door
    rate: RateLimit
    sockets: Sockets
    fanout: Fanout[Lease]
    calls: Fanout[OpenOrder]  # for bids; its topics are providers
    links: Links
    relay: Relay
    watch: Watch
    metrics: NodeMetrics
    journal: Journal
    cosigning: Cosigning
    controllers: Controllers
    openapi: bytes  # the API's description, as JSON
    proofs: asyncio.Lock  # one at a time
    lookout: Lookout
    mirroring: Mirroring | None  # on the escrow rail
    maker: Maker | None = None  # there, where the operator gives dollars for tokens
    faucet: asyncio.Lock = field(default_factory=asyncio.Lock)
