"""What other verbs do with jobs that a node looks after: leave them, show them."""

import asyncio
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from sublet.cli.output import Notices
    from sublet.core.job.record import JobRecord
    from sublet.workload.client import AsyncClient
    from sublet.workload.option import Options
    from sublet.workload.run.event import AnyEvent

EXPIRES_S_MAX = 30 * 86_400


async def detach(
    client: "AsyncClient",
    target: list[str],
    options: "Options",
    expires: str | None,
    notices: "Notices",
    *,
    as_json: bool,
) -> None:
    """Leave a job with the market, and say how to see it again."""
    from sublet.workload.detached.client import detach as leave
    from sublet.workload.detached.hand_over import EXPIRES_S
    from sublet.workload.run.need import parse_span

    expires_s = EXPIRES_S
    if expires is not None:
        expires_s = parse_span(expires, "--expires", 60, EXPIRES_S_MAX)
    async with client:
        record = await leave(client, *target, expires_s=expires_s, **options)
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode({"job_id": record.id}).decode())
        return
    typer.echo(record.id)
    notices.say(
        f"the market goes on with job {record.id}; see it with: sublet attach {record.id}"
    )
    notices.say(
        f"only this home can open what it leaves: its key is in {client.home.path}"
    )
    notices.flush()


async def show_stream(
    client: "AsyncClient", record: "JobRecord", stream: str, is_followed: bool
) -> None:
    """Show what a detached job wrote since somebody here looked last."""
    from sublet.cli.output import Screen
    from sublet.workload.detached.attach import LOOK_S, open_attachment
    from sublet.workload.run.event import Wrote

    screen = Screen(1)

    async def show(said: "AnyEvent") -> None:
        if isinstance(said, Wrote) and said.stream == stream:
            await screen.write(said.data)

    async with client:
        await client.pin()
        attachment = open_attachment(client.as_tenant(), record.id, show=show)
        while not await attachment.look() and is_followed:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
