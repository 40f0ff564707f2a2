"""The port ``Chain`` over JSON-RPC: any EVM node, own or rented.

The chain's id is pinned. What is cheap to check is checked: the kind and size of each
answer, that it is of the block, contract or transaction that was asked for, that a
transaction's hash is its bytes', that a receipt's block is in the chain.

Not here: moving the bytes (``json_rpc``). What no single RPC can be caught at, such as
an event that it leaves out, is found by asking another one: name several.
"""

from collections.abc import Sequence
from itertools import pairwise
from types import TracebackType
from typing import Annotated, Any, NoReturn, Self, TypeVar

import msgspec
from msgspec import Meta, Struct

from sublet.adapter.json_rpc import TIMEOUT_S, JsonRpc, Objection, Read
from sublet.base import limits
from sublet.base.errors import Refused, Unavailable
from sublet.base.ids import Address, Digest
from sublet.core.rail.transaction import Call, Fees
from sublet.service.chain_port import (
    Block,
    ChainLied,
    Log,
    NotTaken,
    Receipt,
    Reverted,
    Topics,
    WrongChain,
)
from sublet.wire.typed_data import keccak

T = TypeVar("T")

_Quantity = Annotated[str, Meta(pattern=r"\A0x[0-9a-fA-F]{1,64}\Z")]
_Hash = Annotated[str, Meta(pattern=r"\A0x[0-9a-fA-F]{64}\Z")]
_Account = Annotated[str, Meta(pattern=r"\A0x[0-9a-fA-F]{40}\Z")]
_Data = Annotated[str, Meta(pattern=r"\A0x([0-9a-fA-F]{2})*\Z")]

_LOOKS_MAX = 3  # at a receipt whose block is not there, before that is a lie
_TIP_WEI_MIN = 1_000_000  # 0.001 gwei, where an RPC suggests none

# How nodes say that a transaction is not wanted: geth, reth, erigon, nethermind, anvil.
_KNOWN = ("already known", "already imported", "alreadyknown", "known transaction")
_NOT_TAKEN = (
    ("nonce too low", "nonce_used"),
    ("nonce is too low", "nonce_used"),
    ("oldnonce", "nonce_used"),
    ("underpriced", "underpriced"),
    ("insufficient funds", "no_gas_money"),
    ("insufficientfunds", "no_gas_money"),
)
# How they say that they have no such block, or not any more.
_GONE = ("header not found", "unknown block", "not canonical", "resource not found")


class _Header(Struct, rename="camel"):
    number: _Quantity
    hash: _Hash
    parent_hash: _Hash
    timestamp: _Quantity
    base_fee_per_gas: _Quantity = "0x0"


class _Event(Struct, rename="camel"):
    address: _Account
    topics: Annotated[tuple[_Hash, ...], Meta(max_length=4)]
    data: _Data
    block_number: _Quantity
    block_hash: _Hash
    transaction_hash: _Hash
    log_index: _Quantity
    removed: bool = False


class _Receipt(Struct, rename="camel"):
    transaction_hash: _Hash
    block_number: _Quantity
    block_hash: _Hash
    status: _Quantity
    gas_used: _Quantity
    effective_gas_price: _Quantity = "0x0"
    contract_address: _Account | None = None


_Events = Annotated[list[_Event], Meta(max_length=limits.RPC_LOGS_MAX)]


class RpcChain:
    """One chain through its RPCs. Use it as an async context."""

    def __init__(
        self, urls: Sequence[str], *, chain_id: int, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Take addresses, best first, and the chain's id; nothing is opened yet.

        Raises:
            Refused: ``bad_rpc_url``.
        """
        self.chain_id = chain_id
        self._rpc = JsonRpc(urls, timeout_s=timeout_s)

    async def __aenter__(self) -> Self:
        await self._rpc.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._rpc.__aexit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"RpcChain(chain_id={self.chain_id}, {self._rpc!r})"

    # ---- the port ---------------------------------------------------------------

    async def block(self, number: int | None = None) -> Block | None:
        """As the port says."""
        tag = "latest" if number is None else hex(number)

        def read(result: Any) -> Block | None:
            if result is None:
                if number is None:
                    raise ChainLied("an RPC says that its chain has no blocks")
                return None
            block = _read_block(result)
            if number not in (None, block.number):
                raise ChainLied(f"an RPC gives block {block.number} for {number}")
            return block

        return await self._ask("eth_getBlockByNumber", (tag, False), read)

    async def call(
        self, call: Call, *, at: Block | None = None, sender: Address | None = None
    ) -> bytes:
        """As the port says."""
        # By hash: after a reorg there is no such block, rather than another one's state.
        where = {"blockHash": at.hash, "requireCanonical": True} if at else "latest"
        return await self._ask("eth_call", (_write(call, sender), where), _bytes)

    async def estimate(self, call: Call, *, sender: Address) -> int:
        """As the port says."""
        return await self._ask("eth_estimateGas", (_write(call, sender),), _int)

    async def logs(
        self, contract: Address, topics: Topics, *, first: int, last: int
    ) -> tuple[Log, ...]:
        """As the port says."""
        question = {
            "address": contract,
            "topics": [list(some) or None for some in topics],
            "fromBlock": hex(first),
            "toBlock": hex(last),
        }

        def read(result: Any) -> tuple[Log, ...]:
            logs = tuple(_read_log(event) for event in _convert(result, _Events))
            for log in logs:
                _check_asked(log, contract, topics, first, last)
            _check_order(logs)
            return logs

        return await self._ask("eth_getLogs", (question,), read)

    async def send(self, raw: bytes) -> Digest:
        """As the port says."""
        name = "0x" + keccak(raw).hex()
        try:
            answer = await self._ask(
                "eth_sendRawTransaction", ("0x" + raw.hex(),), _hash, is_send=True
            )
        except Objection as no:
            told = no.message.lower()
            if any(word in told for word in _KNOWN):
                return name
            code = next(
                (code for word, code in _NOT_TAKEN if word in told), "not_taken"
            )
            raise NotTaken(
                f"the chain does not take the transaction: {no.message}", code=code
            ) from None
        if answer != name:
            raise ChainLied("an RPC took a transaction under another's hash")
        return name

    async def receipt(self, transaction: Digest) -> Receipt | None:
        """As the port says."""

        def read(result: Any) -> Receipt | None:
            if result is None:
                return None
            receipt = _read_receipt(result)
            if receipt.transaction != transaction:
                raise ChainLied("an RPC gives the receipt of another transaction")
            return receipt

        for _ in range(_LOOKS_MAX):
            receipt = await self._ask("eth_getTransactionReceipt", (transaction,), read)
            if receipt is None:
                return None
            block = await self.block(receipt.block_number)
            if block is not None and block.hash == receipt.block_hash:
                return receipt
            self._rpc.move()  # the chain moved between the two questions, or it lies
        raise ChainLied("an RPC shows a transaction in a block that it does not have")

    async def nonce(self, address: Address, *, at: int | None = None) -> int:
        """As the port says."""
        tag = "latest" if at is None else hex(at)
        return await self._ask("eth_getTransactionCount", (address, tag), _int)

    async def balance(self, address: Address) -> int:
        """As the port says."""
        return await self._ask("eth_getBalance", (address, "latest"), _int)

    async def code(self, address: Address) -> bytes:
        """As the port says."""
        return await self._ask("eth_getCode", (address, "latest"), _bytes)

    async def fees(self) -> Fees:
        """As the port says: twice the base fee bears six full blocks in a row."""
        block = await self.block()
        assert block is not None, "the newest block is there"
        try:
            tip = await self._ask("eth_maxPriorityFeePerGas", (), _int)
        except Refused:  # not every RPC has it
            tip = 0
        tip = max(tip, _TIP_WEI_MIN)
        return Fees(max_wei=2 * block.base_fee_wei + tip, tip_wei=tip)

    # ---- asking -----------------------------------------------------------------

    async def _ask(
        self,
        method: str,
        params: Sequence[Any],
        read: Read[T],
        *,
        is_send: bool = False,
    ) -> T:
        try:
            return await self._rpc.ask(method, params, read, examine=self._examine)
        except Objection as no:
            if is_send:
                raise
            _refuse(no, method)

    def _examine(self, answer: Any) -> None:
        if (found := _int(answer)) != self.chain_id:
            raise WrongChain(
                f"this RPC is of chain {found}, and chain {self.chain_id} is wanted; "
                "give the address of an RPC of that chain",
                field="rpc",
                detail={"found": found, "wanted": self.chain_id},
            )


def _refuse(no: Objection, method: str) -> NoReturn:
    told = no.message.lower()
    if no.code == 3 or "revert" in told:
        raise Reverted(
            f"the contract refuses: {no.message}", detail={"data": _shown(no.data)}
        ) from None
    if any(words in told for words in _GONE):
        raise Unavailable(
            "the chain went another way just now; ask again", code="chain_moved"
        ) from None
    raise Refused(
        f"the RPC refuses {method}: {no.message}", code="rpc_refused"
    ) from None


def _shown(data: Any) -> str:
    return data[:1_024] if isinstance(data, str) else ""


def _write(call: Call, sender: Address | None) -> dict[str, str]:
    written = {"data": "0x" + call.data.hex(), "value": hex(call.value_wei)}
    if call.to is not None:
        written["to"] = call.to
    if sender is not None:
        written["from"] = sender
    return written


# ---- reading ----------------------------------------------------------------------


def _convert(result: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(result, kind)
    except (msgspec.ValidationError, RecursionError) as exc:
        raise ChainLied(f"an RPC's answer is not what was asked for: {exc}") from exc


def _int(result: Any) -> int:
    return int(_convert(result, _Quantity), 16)


def _bytes(result: Any) -> bytes:
    return bytes.fromhex(_convert(result, _Data)[2:])


def _hash(result: Any) -> Digest:
    text: str = _convert(result, _Hash)
    return text.lower()


def _read_block(result: Any) -> Block:
    header = _convert(result, _Header)
    return Block(
        number=int(header.number, 16),
        hash=header.hash.lower(),
        parent=header.parent_hash.lower(),
        time_s=int(header.timestamp, 16),
        base_fee_wei=int(header.base_fee_per_gas, 16),
    )


def _read_log(event: _Event) -> Log:
    if event.removed:
        raise ChainLied("an RPC gives an event that it says has not happened")
    return Log(
        contract=event.address.lower(),
        topics=tuple(topic.lower() for topic in event.topics),
        data=bytes.fromhex(event.data[2:]),
        block_number=int(event.block_number, 16),
        block_hash=event.block_hash.lower(),
        transaction=event.transaction_hash.lower(),
        index=int(event.log_index, 16),
    )


def _read_receipt(result: Any) -> Receipt:
    receipt = _convert(result, _Receipt)
    made = receipt.contract_address
    return Receipt(
        transaction=receipt.transaction_hash.lower(),
        block_number=int(receipt.block_number, 16),
        block_hash=receipt.block_hash.lower(),
        is_success=int(receipt.status, 16) == 1,
        gas_used=int(receipt.gas_used, 16),
        gas_price_wei=int(receipt.effective_gas_price, 16),
        contract=made.lower() if made else None,
    )


def _check_asked(
    log: Log, contract: Address, topics: Topics, first: int, last: int
) -> None:
    places = zip(topics, (*log.topics, *("",) * len(topics)), strict=False)
    if (
        log.contract != contract
        or not first <= log.block_number <= last
        or any(wanted and found not in wanted for wanted, found in places)
    ):
        raise ChainLied("an RPC gives an event that was not asked for")


def _check_order(logs: Sequence[Log]) -> None:
    hashes: dict[int, Digest] = {}
    for log in logs:
        if hashes.setdefault(log.block_number, log.block_hash) != log.block_hash:
            raise ChainLied("an RPC gives events of two blocks with one number")
    places = [(log.block_number, log.index) for log in logs]
    if any(a >= b for a, b in pairwise(places)):
        raise ChainLied("an RPC gives events twice or out of order")
