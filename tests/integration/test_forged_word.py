"""Words in the operator's name that are not the operator's, and words put in transit.

A real node, a real agent; whoever forges has a key of its own, or the wire.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sublet.base.errors import SubletError
from sublet.base.ids import NO_DIGEST
from sublet.core.document import (
    AnyDocument,
    Credit,
    ProviderLost,
    ProviderSeen,
    Resume,
    Seal,
    Tick,
    Upgrade,
)
from sublet.core.version import RULES_VERSION
from sublet.provider.lease_state import Stage
from sublet.sdk.job_channel import ClientKey
from sublet.wire.message import Deliver, Trouble
from sublet.wire.signature import Key
from tests.fakes.world import World
from tests.integration.crooked import Tamper, crooked_door
from tests.integration.node_house import (
    STRANGER,
    Guest,
    fault_code,
    running_node,
    stock,
    submission,
)
from tests.integration.provider_house import (
    RawTenant,
    hear,
    make_manifest,
    running_agent,
    tenant_of,
    wait_offered,
    wait_true,
)

OPERATORS: dict[str, Callable[[World, int], AnyDocument]] = {
    "credit": lambda world, _: Credit(
        party=world.tenant.address, amount=1, memo="", **world.stamp()
    ),
    "provider seen": lambda world, _: ProviderSeen(
        provider=STRANGER.address, **world.stamp()
    ),
    "provider lost": lambda world, _: ProviderLost(
        provider=world.providers[0].address, **world.stamp()
    ),
    "tick": lambda world, _: Tick(**world.stamp()),
    "resume": lambda world, _: Resume(**world.stamp()),
    "seal": lambda world, size: Seal(size=size, book=NO_DIGEST, **world.stamp()),
    "upgrade": lambda world, _: Upgrade(version=RULES_VERSION + 1, **world.stamp()),
}


@pytest.mark.parametrize("kind", OPERATORS)
async def test_only_the_operator_speaks_as_such(tmp_path: Path, kind: str) -> None:
    """Another node's key, the provider itself, a tenant: all are refused by name."""
    world = World()
    async with running_node(tmp_path / "node", world) as guest:
        links = await stock(guest)
        before = await guest.learn()
        for key in (STRANGER, world.providers[0], world.tenant):
            document = OPERATORS[kind](world, before.size)
            assert await refuse_code(guest, document, key) == "wrong_signer"
        after = await guest.learn()
        assert (after.size, after.providers_up) == (before.size, before.providers_up)
        for link in links:
            await link.socket.close()


async def refuse_code(guest: Guest, document: AnyDocument, key: Key) -> str:
    """Submit a document under somebody's key; give the code of the refusal."""
    raw = submission(guest.world.say(document, key))
    status, body = await guest.post("/v1/documents", raw)
    assert status == 400, body
    return fault_code(body)


# ---- what a provider is told down its link --------------------------------------------


def tell_other_key(line: str, *, phases: tuple[str, ...]) -> Tamper:
    """Tell the provider, in these phases, that another key may log in."""

    async def tamper(path: str, to_node: bool, frame: str | bytes) -> list[str | bytes]:
        if to_node or path != "/v1/link" or not isinstance(frame, str):
            return [frame]
        said: dict[str, Any] = msgspec.json.decode(frame)
        if said["type"] == "lease" and said["lease"]["phase"] in phases:
            said["lease"]["ssh_key"] = line
        return [msgspec.json.encode(said).decode()]

    return tamper


@pytest.mark.parametrize("when", ["from the beginning", "later on"])
async def test_who_logs_in_is_the_tenants_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    """The node lets itself into a lease. It gets there, at most, and learns nothing."""
    caplog.set_level("INFO", logger="sublet.provider")
    spy, manifest = ClientKey.generate(), make_manifest("true")
    phases = {"from the beginning": ("matched",), "later on": ("accepted",)}[when]
    async with (
        running_node(tmp_path / "node", World()) as guest,
        crooked_door(guest.url) as door,
        running_agent(tmp_path / "provider", door.url) as (agent, _),
        tenant_of(tmp_path, guest) as client,
    ):
        await wait_offered(guest)
        door.tamper = tell_other_key(spy.public_line(), phases=phases)
        tenant = RawTenant(client)
        lease = await tenant.rent(manifest)
        await wait_true(lambda: bool(agent.roster.records()))
        if when == "later on":
            await wait_true(
                lambda: "node_lies" in [each.message for each in caplog.records]
            )
            with pytest.raises(SubletError):
                async with tenant.dial(lease, key=spy):
                    pass
        else:
            async with tenant.dial(lease, key=spy) as channel:
                await channel.open_job()
                await channel.say(Deliver(manifest=manifest, order=tenant.order))
                trouble = await hear(channel, Trouble)
            assert trouble.code == "lease_forged"
        (record,) = agent.roster.records()
        assert record.stage is Stage.ACCEPTED, "and nothing ran"
