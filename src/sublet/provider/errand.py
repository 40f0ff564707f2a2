"""A call of the owner's that a running agent sends: its journal is open in one process.

Only the owner reaches the agent's socket, and whoever does could read the key as well.
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from sublet.base.errors import Refused
from sublet.core.rail.sending import Sending
from sublet.core.rail.transaction import Call
from sublet.provider import control
from sublet.workload.courier import LOOK_S, check_taken, name_errand

if TYPE_CHECKING:  # whoever asks an agent needs nothing of what it works with
    from sublet.provider.cashier import Cashier

SEND = "send"  # the word, with an Errand behind it


class Errand(Struct, frozen=True):
    """What is to be sent; asked again, it says how far it is."""

    id: str
    call: Call


class AgentCourier:
    """Has a running agent send."""

    def __init__(self, home: Path) -> None:
        """Take where it runs."""
        self._home = home

    async def send(self, what: str, call: Call) -> Sending:
        """Send a call, and wait until the chain has taken it for good.

        Raises:
            Refused: ``not_taken``, or ``wrong_rail``.
            Unavailable: the agent has ended; another one goes on with it.
        """
        body = msgspec.json.encode(Errand(name_errand(what), call)).decode()
        while True:
            said = await asyncio.to_thread(control.ask, self._home, f"{SEND} {body}")
            if said == control.UNKNOWN_WORD:
                raise Refused(
                    "this agent sends nothing to a chain: its market's money is credits",
                    code="wrong_rail",
                )
            sending = msgspec.json.decode(said, type=Sending)
            if sending.is_ended:
                return check_taken(sending)
            await asyncio.sleep(LOOK_S)


async def take_errand(cashier: "Cashier", text: str) -> bytes:
    """Answer the owner's word in the agent."""
    try:
        errand = msgspec.json.decode(text, type=Errand)
    except msgspec.MsgspecError:
        return control.UNKNOWN_WORD
    return msgspec.json.encode(await cashier.send(errand.id, errand.call))
