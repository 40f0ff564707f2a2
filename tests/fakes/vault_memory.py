"""Detached jobs in dictionaries (port ``Vault``); one object is what all nodes share."""

import time
from collections.abc import Iterator

from sublet.adapter.vault_folder import name_job
from sublet.base.ids import Address, Digest
from sublet.service.vault_port import ClaimLost, Standing
from tests.fakes.blobs_memory import MemoryBlobs


class MemoryJobBlobs(MemoryBlobs):
    """As its parent, for chunks that come and go."""

    def drop(self, key: Digest) -> None:
        self.chunks.pop(key, None)

    def keys(self) -> Iterator[Digest]:
        yield from self.chunks


class MemoryJob:
    """The place of one detached job."""

    def __init__(self, tenant: Address, job: str) -> None:
        self.tenant = tenant
        self.id = job
        self.drop()

    def drop(self) -> None:
        self.blobs = MemoryJobBlobs()
        self.plan: bytes | None = None
        self.marks: dict[str, int] = {}
        self.records: dict[str, bytes] = {}
        self.streams: dict[tuple[Digest, str], bytes] = {}
        self.epoch = 0
        self.holder = ""
        self.held_until = 0.0

    def stand(self) -> Standing | None:
        if self.plan is None:
            return None
        return Standing(
            self.tenant,
            self.id,
            self.marks["kept"],
            self.marks.get("started", 0),
            self.marks.get("stopped", 0),
            self.marks.get("ended", 0),
            self.held_until > time.monotonic(),
        )

    def begin(self, plan: bytes) -> bytes:
        if self.plan is None:
            self.plan = plan
            self._mark("kept")
        return self.plan

    def read_plan(self) -> bytes | None:
        return self.plan

    def start(self) -> None:
        self._mark("started")

    def stop(self) -> None:
        self._mark("stopped")

    def end(self, *, epoch: int) -> None:
        self._check(epoch)
        self._mark("ended")

    def claim(self, holder: str, *, span_ms: int) -> int | None:
        stands = self.stand()
        if stands is None or stands.ended_at_s or stands.is_held:
            return None
        self.epoch += 1
        self.holder = holder
        self.held_until = time.monotonic() + span_ms / 1_000
        return self.epoch

    def release(self, *, epoch: int) -> None:
        if self.epoch == epoch:
            self.holder, self.held_until = "", 0.0

    def read(self, name: str) -> bytes | None:
        return self.records.get(name)

    def write(self, name: str, content: bytes, *, epoch: int) -> None:
        self._check(epoch)
        self.records[name] = content

    def read_stream(
        self, lease: Digest, stream: str, *, offset: int, limit: int
    ) -> bytes:
        return self.streams.get((lease, stream), b"")[offset : offset + limit]

    def append_stream(
        self, lease: Digest, stream: str, content: bytes, *, offset: int, epoch: int
    ) -> None:
        self._check(epoch)
        before = self.streams.get((lease, stream), b"")[:offset]
        self.streams[lease, stream] = before + content

    def _mark(self, mark: str) -> None:
        if self.plan is not None:
            self.marks.setdefault(mark, int(time.time()))

    def _check(self, epoch: int) -> None:
        if self.epoch != epoch:
            raise ClaimLost


class MemoryVault:
    """All detached jobs of one market."""

    def __init__(self) -> None:
        self.jobs: dict[str, MemoryJob] = {}

    def find(self, tenant: Address, job: str) -> MemoryJob:
        return self.jobs.setdefault(name_job(tenant, job), MemoryJob(tenant, job))

    def survey(self, tenant: Address | None = None) -> list[Standing]:
        found = (job.stand() for job in self.jobs.values())
        return [one for one in found if one and tenant in (None, one.tenant)]

    def renew(self, holder: str, *, span_ms: int) -> frozenset[tuple[Address, str]]:
        own = [job for job in self.jobs.values() if job.holder == holder]
        for job in own:
            job.held_until = time.monotonic() + span_ms / 1_000
        return frozenset((job.tenant, job.id) for job in own)

    def measure(self) -> int:
        return sum(
            len(job.plan or b"") + sum(map(len, job.blobs.chunks.values()))
            for job in self.jobs.values()
        )

    def close(self) -> None:
        """Nothing is held open."""
