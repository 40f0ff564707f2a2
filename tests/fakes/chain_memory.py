"""A chain in memory that keeps the port's promises, and does harm when it is told to.

It reads real signed transactions, with a decoder of its own. Contracts are Python
objects that take calldata. Every block keeps the world as it left it, so blocks can
be taken back. ``cut`` lets nobody through; ``fail`` makes single questions fail.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from sublet.base.errors import Unavailable
from sublet.core.rail.transaction import Call, Fees
from sublet.service.chain_port import Block, Log, NotTaken, Receipt, Reverted, Topics
from sublet.wire.signature import recover
from sublet.wire.transaction import compute_contract, encode_rlp
from sublet.wire.typed_data import keccak

CHAIN_ID = 31_337
GENESIS_S = 1_700_000_000
BASE_FEE_WEI = 1_000_000_000
BLOCK_S = 2
_BUMP_PERCENT = 10  # by which a replacement must offer more


class Message(NamedTuple):
    """What a contract learns of a call."""

    data: bytes
    sender: str
    value_wei: int
    now_s: int
    world: "World"


class Contract(Protocol):
    """Answers with its output and its events, or raises ``Reverted``."""

    address: str

    def handle(
        self, message: Message
    ) -> tuple[bytes, list[tuple[list[str], bytes]]]: ...


@dataclass
class World:
    nonces: dict[str, int] = field(default_factory=dict)
    balances: dict[str, int] = field(default_factory=dict)
    contracts: dict[str, Contract] = field(default_factory=dict)


class Pending(NamedTuple):
    hash: str
    sender: str
    nonce: int
    fees: Fees
    gas: int
    call: Call


@dataclass
class Made:
    """A block, what it did, and the world after it."""

    block: Block
    world: World
    receipts: dict[str, Receipt] = field(default_factory=dict)
    logs: list[Log] = field(default_factory=list)


class MemoryChain:
    """Passes ``tests/ports/test_chain.py``, as a real one does."""

    def __init__(self, *, chain_id: int = CHAIN_ID) -> None:
        self.chain_id = chain_id
        self.is_automine = True
        self.is_cut = False
        self.base_fee_wei = BASE_FEE_WEI
        self.fail: Callable[[str], None] = lambda question: None
        self.asked: list[str] = []  # names of questions
        self.makers: dict[bytes, Callable[[str, bytes], Contract]] = {}
        self._now_s = GENESIS_S
        self._salt = 0
        self._pool: list[Pending] = []
        first = Block(0, _name(b"genesis"), "0x" + "0" * 64, GENESIS_S, BASE_FEE_WEI)
        self._made = [Made(first, World())]

    # ---- the hand of God --------------------------------------------------------

    @property
    def world(self) -> World:
        return self._made[-1].world

    def fund(self, address: str, wei: int = 10**21) -> None:
        self.world.balances[address] = wei

    def place(self, contract: Contract) -> None:
        """Have a contract stand there without a transaction."""
        self.world.contracts[contract.address] = contract

    def mine(self, count: int = 1) -> None:
        for _ in range(count):
            self._now_s += BLOCK_S
            self._make_block()

    def pass_time(self, seconds: int) -> None:
        self._now_s += seconds
        self.mine()

    def reorg(self, depth: int) -> None:
        """Put other, empty blocks in the place of the newest ones."""
        del self._made[-depth:]
        self._salt += 1
        pool, self._pool = self._pool, []
        for _ in range(depth):
            self._make_block()
        self._pool = pool

    def set_automine(self, *, on: bool) -> None:
        self.is_automine = on

    def forget_pending(self) -> None:
        self._pool.clear()

    # ---- the port ---------------------------------------------------------------

    async def block(self, number: int | None = None) -> Block | None:
        self._meet("block")
        if number is None:
            return self._made[-1].block
        return self._made[number].block if number < len(self._made) else None

    async def call(
        self, call: Call, *, at: Block | None = None, sender: str | None = None
    ) -> bytes:
        self._meet("call")
        made = self._made[-1]
        if at is not None:
            found = [one for one in self._made if one.block.hash == at.hash]
            if not found:
                raise Unavailable("no such block any more", code="chain_moved")
            made = found[0]
        output, _ = self._run(call, sender or "0x" + "0" * 40, deepcopy(made.world))
        return output

    async def estimate(self, call: Call, *, sender: str) -> int:
        self._meet("estimate")
        self._run(call, sender, deepcopy(self.world))
        return _gas_of(call)

    async def logs(
        self, contract: str, topics: Topics, *, first: int, last: int
    ) -> tuple[Log, ...]:
        self._meet("logs")
        return tuple(
            log
            for made in self._made[first : last + 1]
            for log in made.logs
            if log.contract == contract and _fits(log, topics)
        )

    async def send(self, raw: bytes) -> str:
        self._meet("send")
        pending = decode_transaction(raw)
        known = any(pending.hash in made.receipts for made in self._made)
        if pending.nonce < self.world.nonces.get(pending.sender, 0):
            if known:
                return pending.hash
            raise NotTaken("the nonce is used", code="nonce_used")
        cost = pending.gas * pending.fees.max_wei + pending.call.value_wei
        if cost > self.world.balances.get(pending.sender, 0):
            raise NotTaken("no money for gas", code="no_gas_money")
        self._queue(pending)
        if self.is_automine:
            self.mine()
        return pending.hash

    async def receipt(self, transaction: str) -> Receipt | None:
        self._meet("receipt")
        for made in self._made:
            if transaction in made.receipts:
                return made.receipts[transaction]
        return None

    async def nonce(self, address: str, *, at: int | None = None) -> int:
        self._meet("nonce")
        made = self._made[-1 if at is None else at]
        return made.world.nonces.get(address, 0)

    async def balance(self, address: str) -> int:
        self._meet("balance")
        return self.world.balances.get(address, 0)

    async def code(self, address: str) -> bytes:
        self._meet("code")
        return b"\x01" if address in self.world.contracts else b""

    async def fees(self) -> Fees:
        self._meet("fees")
        tip = 1_000_000_000
        return Fees(max_wei=2 * self.base_fee_wei + tip, tip_wei=tip)

    # ---- within -----------------------------------------------------------------

    def _meet(self, question: str) -> None:
        self.asked.append(question)
        if self.is_cut:
            raise Unavailable("nobody answers", code="rpc_unavailable")
        self.fail(question)

    def _queue(self, pending: Pending) -> None:
        place = (pending.sender, pending.nonce)
        for old in self._pool:
            if old.hash == pending.hash:
                return
            if (old.sender, old.nonce) == place:
                if (
                    100 * pending.fees.max_wei
                    < (100 + _BUMP_PERCENT) * old.fees.max_wei
                ):
                    raise NotTaken("offer more", code="underpriced")
                self._pool.remove(old)
                break
        self._pool.append(pending)

    def _make_block(self) -> None:
        parent = self._made[-1].block
        number = parent.number + 1
        made = Made(
            Block(
                number,
                _name(f"{parent.hash} {number} {self._salt}".encode()),
                parent.hash,
                max(self._now_s, parent.time_s),
                self.base_fee_wei,
            ),
            deepcopy(self.world),
        )
        self._made.append(made)
        is_moving = True
        while is_moving:  # a transaction may wait for one that stands behind it
            is_moving = False
            for pending in tuple(self._pool):
                if (
                    pending.nonce == made.world.nonces.get(pending.sender, 0)
                    and pending.fees.max_wei >= self.base_fee_wei
                ):
                    self._pool.remove(pending)
                    self._include(pending, made)
                    is_moving = True

    def _include(self, pending: Pending, made: Made) -> None:
        world, sender = made.world, pending.sender
        gas = min(_gas_of(pending.call), pending.gas)
        price = min(
            pending.fees.max_wei, made.block.base_fee_wei + pending.fees.tip_wei
        )
        world.nonces[sender] = pending.nonce + 1
        before = deepcopy(world)
        is_success, logs = True, list[Log]()
        try:
            _, events = self._run(pending.call, sender, world, nonce=pending.nonce)
        except Reverted:
            is_success, events, made.world = False, [], before
        made.world.balances[sender] -= gas * price
        for contract, topics, data in events:
            logs.append(
                Log(
                    contract,
                    tuple(topics),
                    data,
                    made.block.number,
                    made.block.hash,
                    pending.hash,
                    len(made.logs) + len(logs),
                )
            )
        made.logs += logs
        target = pending.call.to
        made.receipts[pending.hash] = Receipt(
            transaction=pending.hash,
            block_number=made.block.number,
            block_hash=made.block.hash,
            is_success=is_success,
            gas_used=gas,
            gas_price_wei=price,
            contract=None if target else compute_contract(sender, pending.nonce),
        )

    def _run(
        self, call: Call, sender: str, world: World, *, nonce: int = 0
    ) -> tuple[bytes, list[tuple[str, list[str], bytes]]]:
        if call.to is None:
            make = self.makers[call.data[:64]]
            made = make(compute_contract(sender, nonce), call.data)
            world.contracts[made.address] = made
            return b"", []
        if call.value_wei:
            world.balances[sender] = world.balances.get(sender, 0) - call.value_wei
            held = world.balances.get(call.to, 0)
            world.balances[call.to] = held + call.value_wei
        contract = world.contracts.get(call.to)
        if contract is None:
            return b"", []
        message = Message(call.data, sender, call.value_wei, self._now_s, world)
        output, events = contract.handle(message)
        return output, [(call.to, topics, data) for topics, data in events]


def _gas_of(call: Call) -> int:
    return 21_000 + 16 * len(call.data)


def _name(content: bytes) -> str:
    return "0x" + keccak(content).hex()


def _fits(log: Log, topics: Topics) -> bool:
    found = (*log.topics, *("",) * len(topics))
    return all(
        not wanted or place in wanted
        for wanted, place in zip(topics, found, strict=False)
    )


# ---- reading transactions ---------------------------------------------------------


def decode_rlp(content: bytes) -> tuple[Any, bytes]:
    """Give the first item, and what comes after it."""
    first = content[0]
    if first < 0x80:
        return content[:1], content[1:]
    is_list = first >= 0xC0
    short = first - (0xC0 if is_list else 0x80)
    start = 1
    length = short
    if short > 55:
        start = 1 + short - 55
        length = int.from_bytes(content[1:start], "big")
    body, rest = content[start : start + length], content[start + length :]
    assert len(body) == length
    if not is_list:
        return body, rest
    items: list[Any] = []
    while body:
        item, body = decode_rlp(body)
        items.append(item)
    return items, rest


def decode_transaction(raw: bytes) -> Pending:
    """Read a signed transaction of type 2."""
    assert raw[:1] == b"\x02"
    items, rest = decode_rlp(raw[1:])
    assert not rest
    _chain, nonce, tip, fee, gas, to, value, data, _access, parity, r, s = items
    numbers: Sequence[int] = [int.from_bytes(part, "big") for part in (nonce, tip, fee)]
    digest = "0x" + keccak(b"\x02" + encode_rlp(items[:9])).hex()
    odd = int.from_bytes(parity, "big")
    signature = r.rjust(32, b"\0") + s.rjust(32, b"\0") + bytes((27 + odd,))
    return Pending(
        hash="0x" + keccak(raw).hex(),
        sender=recover(digest, signature),
        nonce=numbers[0],
        fees=Fees(max_wei=numbers[2], tip_wei=numbers[1]),
        gas=int.from_bytes(gas, "big"),
        call=Call("0x" + to.hex() if to else None, data, int.from_bytes(value, "big")),
    )
