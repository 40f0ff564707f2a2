"""Jobs on a real agent and a real node, by the real client; the sandbox is a fake."""

from pathlib import Path

from tests.integration.provider_house import running_house, tenant_of


async def test_runs_a_command(tmp_path: Path) -> None:
    async with running_house(tmp_path) as house:
        async with tenant_of(tmp_path, house.guest) as client:
            said: list[object] = []
            result = await client.run(
                "sh", "-c", "echo hello; echo oops >&2; exit 3",
                is_command=True, max_total="5", timeout="1m", on_event=said.append,
            )
            print(said)
            print(result)
            assert result.exit_code == 3
