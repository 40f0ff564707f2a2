"""An auditor vouches, an order that asks for it matches, and no more when it is undone."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.fakes.provider import FakeProvider, Temper
from tests.fakes.world import World
from tests.integration.node_house import running_node
from tests.integration.shell_house import Shell


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    world = World()
    async with (
        running_node(tmp_path / "node", world, faucet="10.00") as guest,
        AsyncExitStack() as stack,
    ):
        made = Shell(guest.url, tmp_path)
        for number in range(2):
            provider = FakeProvider(
                guest.url,
                key=world.providers[number],
                domain=world.domain,
                folder=tmp_path / f"provider{number}",
                temper=Temper(first_price=360_000 + number),
            )
            await stack.enter_async_context(provider)
        yield made


async def ask(shell: Shell, *words: str) -> str:
    code, out, err = await shell.type(*words)
    assert code == 0, err
    return out


async def test_attested_provider_is_found_by_its_auditor(shell: Shell) -> None:
    dear = World().providers[1].address
    said = json.loads(
        await ask(shell, "attest", dear, "--attribute", "soc2=type-2", "--json")
    )
    assert said["attestation"]["attributes"] == ["soc2=type-2"]
    [row] = json.loads(await ask(shell, "attestations", "--json"))
    assert row["provider"] == dear
    auditor = row["auditor"]
    wish = ("--attribute", "soc2=type-2", "--auditor", auditor)
    out = await ask(shell, "quote", *wish)
    assert dear in out and "SCORE" in out and "FINISHES" in out
    assert auditor in await ask(shell, "attestations")

    await ask(shell, "attest", dear, "--withdraw")
    assert json.loads(await ask(shell, "attestations", "--json")) == []
    code, _, err = await shell.type("quote", *wish)
    assert code == 3
    assert "audited soc2=type-2 (2)" in err  # both offers lack it
    assert "and 2 offers would do" in err  # the cheapest single relaxation


async def test_wrong_words_are_refused_by_name(shell: Shell) -> None:
    for words, told in [
        (("bob", "--attribute", "a=b"), "PROVIDER"),
        (("0x" + "1" * 40,), "--attribute"),
        (("0x" + "1" * 40, "--withdraw"), "nothing to revoke"),
        (("0x" + "1" * 40, "--attribute", "soc2"), "key=value"),
    ]:
        code, _, err = await shell.type("attest", *words)
        assert code == 2 and told in err
