"""One program in place of another: same lease, folder, logs and price.

The new one is made ready while the old one still runs; what goes wrong so far leaves
that as it was. Then the old one is told to end, and the new one starts in a sandbox of
its own over the same work folder. What passes in between is not billed.

Not here: what may change (``replacement``), the first start (``effect``).
"""

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from sublet.adapter.image_place import find_spec_underlays
from sublet.adapter.remains import remove_folder
from sublet.adapter.tree_writing import write_tree
from sublet.base.errors import Broken, PeerFault, Refused, SubletError, Unavailable
from sublet.core.document import Delivery
from sublet.provider.desk import Desk
from sublet.provider.lease_state import Stage
from sublet.provider.preparation import find_wanted, make_spec
from sublet.provider.reception import Reception
from sublet.provider.record import LeaseFolder
from sublet.provider.surroundings import Program, draw_salt
from sublet.service.ports import SandboxSpec
from sublet.wire.manifest import commitment
from sublet.wire.message import Manifest, Replace, Replaced

GRACE_S = 10  # from SIGTERM to SIGKILL, for the program that goes


async def ready(
    desk: Desk, manifest: Manifest, *, folder: LeaseFolder, say: Callable[[str], None]
) -> tuple[SandboxSpec, str]:
    """Make a program ready to be started; give also the environment that it needs.

    Args:
        desk: of the lease.
        manifest: says which program.
        folder: in which its image lies, or is unpacked, where it came as a file.
        say: takes lines for the tenant.

    Raises:
        Refused: the image or the dependencies cannot be used, or a volume not mounted.
        Unavailable: a registry or the disk did not answer.
    """
    record = desk.record
    program = Program(argv=manifest.argv, env={})
    if manifest.kind == "script" or manifest.image:
        program = await desk.around.install(manifest, folder, record.uid, say)
    spec = make_spec(manifest, program, record=record, folder=desk.folder)
    # Here, before another program is ended for it.
    await asyncio.to_thread(find_spec_underlays, spec)
    if record.scratch == "tmpfs":  # which is memory of this lease
        spec = replace(spec, memory_bytes=spec.memory_bytes - record.lease.disk_bytes)
    if manifest.egress:
        spec = replace(spec, network=await desk.way_out.open(manifest.egress))
    return spec, program.environment


def use_program(desk: Desk, number: int) -> None:
    """Let this program of the lease be the one that counts."""
    desk.folder.use_program(number)
    desk.update(program=number)


class Replacer:
    """Puts one program of a lease in the place of another."""

    def __init__(self, desk: Desk, reception: Reception) -> None:
        """Take the lease and its tenant's door."""
        self._desk = desk
        self._reception = reception

    async def run(self) -> None:
        """Replace the program that runs by what the tenant has delivered; say how."""
        said = self._reception.next
        if said is None:
            raise Broken("a program is replaced, and nobody said by which")
        try:
            answer = await self._replace(said)
        except (Refused, Unavailable, PeerFault) as fault:
            self._desk.warn("not_replaced", code=fault.code)
            answer = Replaced(
                manifest=commitment(said.manifest),
                code=fault.code,
                message=fault.message,
            )
        finally:
            self._reception.next, self._reception.next_begun = None, False
        self._desk.conversation.push(answer)

    async def _replace(self, said: Replace) -> Replaced:
        desk, manifest = self._desk, said.manifest
        number = desk.record.program + 1
        draft = desk.folder.draft(number)
        try:
            await asyncio.to_thread(
                write_tree, manifest.inputs, draft.work, blobs=desk.plain
            )
            for chunk in find_wanted(manifest):
                desk.blobs.drop(chunk)
            spec, environment = await ready(
                desk, manifest, folder=draft, say=lambda text: desk.say("running", text)
            )
            await self._switch(spec, number)
        except BaseException:
            await self._forget(number)
            raise
        delivery = Delivery(
            lease_id=desk.record.lease.id,
            manifest=commitment(manifest),
            signed_at_s=desk.around.clock.now_s(),
            salt=draw_salt(),
        )
        # The tenant's word first: the book takes no other answer to it.
        desk.around.outbox.put(said.replacement)
        signed = desk.around.put(delivery)
        desk.update(environment=environment, delivery=signed)
        desk.note("program_replaced", program=number)
        await self._forget(number - 1)
        return Replaced(manifest=delivery.manifest, delivery=signed)

    async def _switch(self, spec: SandboxSpec, number: int) -> None:
        """End one program and start the other; whichever is there is watched again."""
        desk, watch = self._desk, self._reception.watch
        if watch is None:
            raise Broken("a program is replaced that nobody watches")
        try:
            await watch.pause()
            await desk.sandbox.stop(desk.folder.job, grace_s=GRACE_S)
            before, state = desk.record, desk.read_state()
            left_s = desk.record.lease.duration_s - state.ran_ms // 1_000
            spec = replace(spec, timeout_s=max(1, min(spec.timeout_s, left_s)))
            desk.update(program_ran_ms=state.ran_ms, program_cpu_ms=state.cpu_ms)
            use_program(desk, number)
            try:
                await desk.sandbox.start(spec, folder=desk.folder.job)
            except BaseException:
                desk.update(
                    program_ran_ms=before.program_ran_ms,
                    program_cpu_ms=before.program_cpu_ms,
                    stop_reason=desk.record.stop_reason or "failed",
                )
                use_program(desk, number - 1)
                raise
        finally:
            if desk.record.stage in (Stage.RUNNING, Stage.STOPPING):
                watch.begin()

    async def _forget(self, number: int) -> None:
        """Remove what came with a program that does not run, or not any more."""
        place = self._desk.folder.data / (f"program-{number}" if number else "image")
        try:
            await remove_folder(place)
        except SubletError as fault:
            self._desk.warn("not_removed", why=fault.message)
