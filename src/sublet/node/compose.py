"""Ties adapters to services: from a configuration to a node that can serve.

Not here: sockets and signals (``serve``).
"""

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from sublet.adapter.chain_place import open_chain
from sublet.adapter.key_file import load_key, load_note_key
from sublet.adapter.presence_memory import MemoryPresence
from sublet.adapter.vault_folder import FolderVault
from sublet.base.errors import Broken, Refused
from sublet.core.book.book import Book
from sublet.core.book.step import check
from sublet.core.document import AnyDocument, Entry, Fact, Market
from sublet.core.merkle import leaf_hash
from sublet.core.mirror import ESCROW
from sublet.node.auth import Door
from sublet.node.config import NodeConfig
from sublet.node.controller.controllers import Controllers
from sublet.node.controller.keys import ControllerKeys
from sublet.node.converting import Maker, open_maker
from sublet.node.cosigning import Cosigning
from sublet.node.fanout import Fanout
from sublet.node.journal import Journal
from sublet.node.link import Links
from sublet.node.lookout import Lookout
from sublet.node.metered_log import MeteredLog, NodeLog
from sublet.node.metrics import NodeMetrics
from sublet.node.mirroring import Mirroring
from sublet.node.openapi import compute_openapi
from sublet.node.rate import RateLimit
from sublet.node.relay import Relay
from sublet.node.route import ROUTES
from sublet.node.socket import Sockets
from sublet.node.state import Node
from sublet.node.watch import Watch
from sublet.service.market import MarketService
from sublet.service.ports import Clock, Ground, Log, Overtaken, Presence
from sublet.service.submission import Candidate
from sublet.service.vault_port import Vault
from sublet.wire.codec import DocumentCodec, sign, verify
from sublet.wire.note import NoteKey, read_checkpoint
from sublet.wire.signature import Key
from sublet.wire.typed_data import Domain, market_id

KEY_FILE = "key"
NOTE_KEY_FILE = "note_key"
LOG_FILE = "log.db"
VAULT_FOLDER = "jobs"  # detached ones, where no database keeps them
FLIGHTS_FOLDER = "flights"  # of their pilots; nobody misses it
SALT_BITS = 63
AWAY_MS_MAX = 5_000  # without a node for longer, deadlines wait for a Resume


class ClosablePresence(Presence, Protocol):
    """A presence that its owner ends."""

    def close(self) -> None:
        """Release what it holds; calling it twice is harmless."""
        ...


@asynccontextmanager
async def open_node(config: NodeConfig, *, clock: Clock) -> AsyncIterator[Node]:
    """Open the log, found the market the first time, replay; at the end seal, close.

    Raises:
        Refused: no keys, another process holds the log, or its operator is another.
        Broken: the log contradicts itself.
    """
    key = load_key(config.home / KEY_FILE)
    note_key = load_note_key(config.home / NOTE_KEY_FILE)
    metrics = NodeMetrics()
    log, presence, vault = await asyncio.to_thread(_open_stores, config, metrics)
    try:
        founding = find_founding(log)
        if founding is None:
            document = make_market(config, key=key, note_key=note_key, clock=clock)
            founding = found(log, document, key=key)
        check_founding(founding, config, key=key, note_key=note_key)
        document = market_of(founding)
        market = make_service(log, document, key=key, note_key=note_key, clock=clock)
        try:
            is_attended = await asyncio.to_thread(presence.beat, ())
            await market.open(is_attended=is_attended, kept=log.kept.read())
            controllers = Controllers(
                vault,
                ControllerKeys(key, market_id(document)),
                scratch=config.home / FLIGHTS_FOLDER,
                bytes_max=config.limits.detached_gib_max << 30,
                market=document,
                clock=clock,
                journal=Journal(),
            )
            async with _open_rail(config, market, document, clock) as rail:
                yield _make_node(
                    config,
                    market,
                    log,
                    presence,
                    metrics,
                    clock,
                    document,
                    controllers,
                    *rail,
                )
        finally:
            await market.close()
    finally:
        vault.close()
        presence.close()
        log.close()


@asynccontextmanager
async def _open_rail(
    config: NodeConfig, market: MarketService, document: Market, clock: Clock
) -> AsyncIterator[tuple[Mirroring | None, Maker | None]]:
    """Open the chain where money lies on one; nothing on the credits rail."""
    if document.rail != ESCROW:
        yield None, None
        return
    domain = Domain.of(document, market_id(document))
    async with (
        open_chain(config.chain, chain_id=document.chain_id) as chain,
        open_maker(config, chain, market=document, domain=domain, clock=clock) as maker,
    ):
        mirroring = Mirroring(
            market,
            chain,
            rules=document,
            confirmations=config.chain.confirmations,
            public_rpc=config.chain.public_rpc,
            stake=config.chain.stake,
            clock=clock,
            journal=Journal(),
        )
        yield mirroring, maker


def _open_stores(
    config: NodeConfig, metrics: NodeMetrics
) -> tuple[NodeLog, ClosablePresence, Vault]:
    if not config.log_url:
        own = MeteredLog(config.home / LOG_FILE, metrics=metrics)
        return own, MemoryPresence(), FolderVault(config.home / VAULT_FOLDER)
    try:
        from sublet.adapter.presence_postgres import PostgresPresence
        from sublet.adapter.vault_postgres import PostgresVault
        from sublet.node.metered_shared_log import MeteredSharedLog
    except ImportError:
        raise Refused(
            "a log in PostgreSQL needs its driver: pip install 'sublet[postgres]'",
            code="no_driver",
            field="log.url",
        ) from None
    # Two beats of another node may be late before its providers count as silent.
    away_ms = min(AWAY_MS_MAX, config.limits.lost_after_s * 500)
    log = MeteredSharedLog(
        config.log_url, home=config.home, away_ms=away_ms, metrics=metrics
    )
    presence = PostgresPresence(config.log_url, away_ms=away_ms)
    try:
        return log, presence, PostgresVault(config.log_url)
    except BaseException:
        log.close()
        raise


def find_founding(log: Log) -> Fact | None:
    """Read entry 0, or give None where the log is empty."""
    rows = log.read(first=0, limit=1)
    return DocumentCodec().read_entry(rows[0].body).fact if rows else None


def market_of(founding: Fact) -> Market:
    """Give the document that founded the market.

    Raises:
        Broken: entry 0 is not a Market.
    """
    if not isinstance(founding.document, Market):
        raise Broken("entry 0 is not a Market; this is not a market's log")
    return founding.document


def make_market(
    config: NodeConfig, *, key: Key, note_key: NoteKey, clock: Clock
) -> Market:
    """Make the document that founds a market."""
    rules = config.market
    return Market(
        name=rules.name,
        chain_id=rules.chain_id,
        contract=rules.contract,
        token=rules.token or key.address,
        note_key=note_key.verifier_key,
        accept_s=rules.accept_s,
        deliver_s=rules.deliver_s,
        prepare_s=rules.prepare_s,
        report_s=rules.report_s,
        close_s=rules.close_s,
        settle_s=rules.settle_s,
        withdraw_delay_s=rules.withdraw_delay_s,
        rail=rules.rail,
        signed_at_s=clock.now_s(),
        salt=secrets.randbits(SALT_BITS),
    )


def found(log: NodeLog, document: Market, *, key: Key) -> Fact:
    """Make the Market entry 0, unless another node is first; give what stands there.

    Raises:
        Refused: the document is no market, or this home belongs to an older log.
    """
    if log.kept.read() is not None:
        raise Refused(
            "the log is empty, and this home keeps a checkpoint of one that was not; "
            "restore that log, or begin a market of its own in another --home",
            code="log_lost",
            field="--home",
        )
    signed = sign(document, key=key, domain=None)
    id_, signer = verify(signed, domain=None)
    fact = Fact(document.signed_at_s, id_, signer, document)
    check(Book(), fact)
    body = DocumentCodec().write_entry(Entry(fact, bytes.fromhex(signed.signature[2:])))
    ground = Ground(at_s=fact.at_s, is_next=True, is_resume=True)
    with suppress(Overtaken):
        log.append([(id_, body, leaf_hash(body))], ground=ground)
    founding = find_founding(log)
    if founding is None:
        raise Broken("entry 0 was appended and is not there")
    return founding


def check_founding(
    founding: Fact, config: NodeConfig, *, key: Key, note_key: NoteKey
) -> None:
    """Refuse to go on with a market that was founded with other keys or rules.

    Before anything is signed: a checkpoint by the wrong key would spoil the log.

    Raises:
        Refused: says what differs.
    """
    document = market_of(founding)
    if founding.signer != key.address:
        raise Refused(
            f"this log belongs to operator {founding.signer}, and the key here is "
            f"{key.address}; put the right key back",
            code="wrong_operator",
            field="--home",
        )
    if document.note_key != note_key.verifier_key:
        raise Refused(
            f"the checkpoints of this log are signed by {document.note_key}, and the "
            f"note key here is {note_key.verifier_key}; put the right one back",
            code="wrong_note_key",
            field="--home",
        )
    given = ((name, getattr(config.market, name)) for name in config.market_given)
    changed = [
        f"market.{name} is {value!r} and was {getattr(document, name)!r}"
        for name, value in sorted(given)
        if value is not None and value != getattr(document, name)
    ]
    if changed:
        raise Refused(
            f"the rules of a market do not change once its log has begun: "
            f"{'; '.join(changed)}. Put them back, or found a new market in another "
            "--home",
            code="market_fixed",
            field="config.toml",
        )


def make_service(
    log: Log, document: Market, *, key: Key, note_key: NoteKey, clock: Clock
) -> MarketService:
    """Tie the market's service to wire and log."""
    domain = Domain.of(document, market_id(document))

    def sign_own(said: AnyDocument) -> Candidate:
        signed = sign(said, key=key, domain=domain)
        id_, signer = verify(signed, domain=domain)
        signature = bytes.fromhex(signed.signature[2:])
        return Candidate(id=id_, signer=signer, document=said, signature=signature)

    return MarketService(
        log,
        DocumentCodec(domain, note_key),
        clock,
        sign=sign_own,
        read_note=read_checkpoint,
    )


def make_tls(config: NodeConfig) -> ssl.SSLContext | None:
    """Load the certificate, where there is one.

    Raises:
        Refused: the files are not a certificate and its key.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise Refused(
            f"TLS cannot be set up with {config.tls_cert} and {config.tls_key}: "
            f"{error.strerror or error}; both are PEM files that belong together",
            code="bad_tls",
            field="--tls-cert",
        ) from None
    return context


def _make_node(
    config: NodeConfig,
    market: MarketService,
    log: NodeLog,
    presence: Presence,
    metrics: NodeMetrics,
    clock: Clock,
    document: Market,
    controllers: Controllers,
    mirroring: Mirroring | None,
    maker: Maker | None,
) -> Node:
    limits, journal = config.limits, Journal()
    domain, proofs = Domain.of(document, market_id(document)), asyncio.Lock()
    return Node(
        config=config,
        market=market,
        log=log,
        domain=domain,
        clock=clock,
        door=Door(domain),
        rate=RateLimit(per_s=limits.requests_per_s, burst=limits.requests_burst),
        sockets=Sockets(most=limits.websockets_max),
        fanout=Fanout(),
        calls=Fanout(),
        links=Links(),
        relay=Relay(per_lease_max=limits.relays_per_lease_max),
        watch=Watch(
            market,
            clock=clock,
            presence=presence,
            lost_after_s=limits.lost_after_s,
            gone_after_s=limits.gone_after_s,
            journal=journal,
        ),
        metrics=metrics,
        journal=journal,
        cosigning=Cosigning(
            market,
            witnesses=config.witnesses,
            folder=config.home,
            journal=journal,
            proofs=proofs,
        ),
        controllers=controllers,
        openapi=compute_openapi(ROUTES),
        proofs=proofs,
        lookout=Lookout(market, clock=clock),
        mirroring=mirroring,
        maker=maker,
    )
