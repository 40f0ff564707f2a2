"""Senders that die on command, on either chain, and what they must leave behind."""

from collections.abc import Callable
from typing import Any

from sublet.core.rail.sending import Policy, Sending
from sublet.service.chain_port import Chain
from sublet.service.journal_port import Journal
from sublet.service.sender import Sender
from sublet.wire.signature import Key
from sublet.wire.transaction import sign_transaction

POLICY = Policy(fee_max_wei=10**12, confirmations=2, patience_blocks=3)


class Killed(BaseException):
    """As if the process had been: nothing below catches it."""


class Fatal:
    """Passes calls on; before or after the n-th effect the process dies."""

    EFFECTS = frozenset({"add", "put", "send"})

    def __init__(self, *, at: int) -> None:
        self.at = at
        self.effects: list[str] = []

    def _count(self, effect: str) -> None:
        self.effects.append(effect)
        if len(self.effects) == self.at:
            raise Killed(f"at {self.effects}")

    def wrap(self, inner: Any) -> Any:
        return _Wrapped(inner, self._count)


class _Wrapped:
    def __init__(self, inner: Any, count: Callable[[str], None]) -> None:
        self._inner = inner
        self._count = count

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in Fatal.EFFECTS:
            return method
        if name == "send":

            async def send(raw: bytes) -> str:
                self._count("before send")
                answer: str = await method(raw)
                self._count("after send")
                return answer

            return send

        def write(sending: Sending) -> Any:
            self._count(f"before {name} {sending.phase}")
            kept = method(sending)
            self._count(f"after {name} {sending.phase}")
            return kept

        return write


def make_sender(
    chain: Chain, journal: Journal, key: Key, policy: Policy = POLICY
) -> Sender:
    return Sender(
        chain,
        journal,
        address=key.address,
        sign=lambda transaction: sign_transaction(transaction, key),
        policy=policy,
    )
