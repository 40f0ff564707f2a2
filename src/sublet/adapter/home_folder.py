"""The tenant's home: key, markets, jobs and channels, in a private folder.

    config.toml     market = "http://127.0.0.1:8470", avoid = ["0x…"]
    key             the tenant's identity (``key_file``)
    markets/        one file per market that was seen: its own document
    channels/       what was authorised on each payment channel; never forgotten
    jobs/ID/        record.json, ssh_key, stdout, stderr
    jobs/ID/blobs/       chunks, while the job goes on
    jobs/ID/outputs/     outputs that could not be written where they were asked for
    jobs/ID/checkpoint/  the last checkpoint of a job that did not end well, as files

Beyond ``JOBS_KEPT_MAX`` jobs, those are forgotten that were silent for the longest.
Everything is written beside its place and renamed, so a crash leaves the old or the
new. What money hangs on is synced to the disk before anybody hears of it.
"""

import contextlib
import fcntl
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import msgspec

from sublet.adapter import private_file
from sublet.base.errors import Broken, Refused, Unavailable
from sublet.base.ids import Address, Digest
from sublet.core.document import Market
from sublet.core.job.bill import ChannelRecord
from sublet.core.job.record import JobRecord

DEFAULT_MARKET = "http://127.0.0.1:8470"
CONFIG_BYTES_MAX = 65_536
JOBS_KEPT_MAX = 500  # records of jobs that are over; the oldest go first

T = TypeVar("T")

_ID = re.compile(r"\A[0-9a-f]{12}\Z")
_CONFIG_KEYS = frozenset({"market", "avoid"})


class Config(msgspec.Struct, frozen=True):
    """What a tenant sets once."""

    market: str = DEFAULT_MARKET
    avoid: tuple[Address, ...] = ()  # providers with whom no job of this home deals


class Home:
    """One tenant's folder. Methods block, briefly; two processes may share it."""

    def __init__(self, path: Path) -> None:
        """Take the folder; it is made, private, when something is first kept."""
        self.path = path

    @property
    def key_path(self) -> Path:
        """Where the tenant's key is kept."""
        return self.path / "key"

    # ---- settings ---------------------------------------------------------------

    def read_config(self) -> Config:
        """Read config.toml; a missing one says nothing.

        Raises:
            Refused: not TOML, or a key that means nothing here.
        """
        place = self.path / "config.toml"
        try:
            with place.open("rb") as file:
                raw = file.read(CONFIG_BYTES_MAX)
        except FileNotFoundError:
            return Config()
        try:
            values = tomllib.loads(raw.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            raise Refused(f"{place} is not TOML: {exc}", code="bad_config") from exc
        if unknown := sorted(set(values) - _CONFIG_KEYS):
            raise Refused(
                f"{place}: {unknown[0]!r} is not a setting; there is: "
                + ", ".join(sorted(_CONFIG_KEYS)),
                code="unknown_setting",
                field=unknown[0],
            )
        try:
            return msgspec.convert(values, Config)
        except msgspec.ValidationError as exc:
            raise Refused(f"{place}: {exc}", code="bad_config") from exc

    # ---- markets ----------------------------------------------------------------

    def find_market(self, url: str) -> Market | None:
        """Give the market document that was pinned for this address, or None."""
        raw = self._read(self._market_place(url))
        return None if raw is None else self._parse(raw, Market)

    def pin_market(self, url: str, market: Market) -> None:
        """Remember which market stands at this address."""
        self._write(self._market_place(url), msgspec.json.encode(market))

    def find_nodes(self, market: Digest) -> tuple[str, ...]:
        """Give the addresses that this market announced last."""
        raw = self._read(self._nodes_place(market))
        return () if raw is None else self._parse(raw, tuple[str, ...])

    def keep_nodes(self, market: Digest, urls: tuple[str, ...]) -> None:
        """Remember where the nodes of this market are."""
        self._write(self._nodes_place(market), msgspec.json.encode(urls))

    def _nodes_place(self, market: Digest) -> Path:
        return self.path / "markets" / f"{market[2:18]}.nodes.json"

    def _market_place(self, url: str) -> Path:
        name = sha256(url.encode()).hexdigest()[:16]
        return self.path / "markets" / f"{name}.json"

    # ---- channels ---------------------------------------------------------------

    def update_channel(
        self,
        channel_id: Digest,
        change: Callable[[ChannelRecord], tuple[ChannelRecord, T]],
    ) -> T:
        """Read a channel's record, change it, sync it to the disk; one at a time.

        Raises:
            Unavailable: the disk did not take it; the record is as it was.
            Broken: the record is damaged. No voucher can be signed safely.
        """
        place = self.path / "channels" / f"{channel_id[2:]}.json"
        with self._lock(place.with_suffix(".lock")):
            raw = self._read(place)
            record = ChannelRecord() if raw is None else self._parse(raw, ChannelRecord)
            changed, answer = change(record)
            if changed != record:
                self._write(place, msgspec.json.encode(changed), is_synced=True)
            return answer

    # ---- jobs -------------------------------------------------------------------

    def job_folder(self, job_id: str) -> Path:
        """Give the folder of a job; made where it is missing."""
        folder = self.path / "jobs" / job_id
        with _translate(folder):
            private_file.make_folder(folder)
        return folder

    def write_job(self, record: JobRecord) -> None:
        """Keep the record of a job."""
        place = self.job_folder(record.id) / "record.json"
        self._write(place, msgspec.json.encode(record))

    def read_jobs(self) -> list[JobRecord]:
        """Give all jobs that are remembered, newest first."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for folder in (self.path / "jobs").iterdir():
                raw = self._read(folder / "record.json")
                if raw is not None and _ID.match(folder.name):
                    found.append(self._parse(raw, JobRecord))
        return sorted(found, key=lambda record: record.created_at_ms, reverse=True)

    def get_job(self, name: str) -> JobRecord:
        """Find a job by its id, the beginning of it, its name, or a lease of it.

        The newest job of a name is meant.

        Raises:
            Refused: there is none, or the beginning fits several.
        """
        jobs = self.read_jobs()
        for job in jobs:
            leases = [attempt.lease_id for attempt in job.job.attempts]
            if name and name in (job.id, job.name, *leases):
                return job
        fitting = [job for job in jobs if name and job.id.startswith(name)]
        if len(fitting) == 1:
            return fitting[0]
        what = "fits several jobs" if fitting else "is not a job of this home"
        raise Refused(
            f"{name[:80]!r} {what}; list them with: sublet ps -a",
            code="ambiguous_job" if fitting else "unknown_job",
        )

    def ask_stop(self, job_id: str) -> None:
        """Leave word for the process that looks after a job that waits for supply."""
        self._write(self.job_folder(job_id) / "stop", b"")

    def is_stop_asked(self, job_id: str) -> bool:
        """Say whether somebody left word to stop."""
        return (self.path / "jobs" / job_id / "stop").exists()

    def drop_job_blobs(self, job_id: str) -> None:
        """Let go of a job's chunks; its outputs lie where they were asked for."""
        shutil.rmtree(self.path / "jobs" / job_id / "blobs", ignore_errors=True)

    def drop_job(self, job_id: str) -> None:
        """Forget a job and all that is kept of it."""
        shutil.rmtree(self.path / "jobs" / job_id, ignore_errors=True)

    def drop_old_jobs(
        self, is_over: Callable[[JobRecord], bool], *, jobs_max: int = JOBS_KEPT_MAX
    ) -> None:
        """Forget jobs that are over, the oldest first, so that ``jobs_max`` are left.

        Age is that of the last word on a job; one that goes on is not forgotten.

        Raises:
            Unavailable: the disk did not answer.
        """
        place = self.path / "jobs"
        aged = []
        with _translate(place), contextlib.suppress(FileNotFoundError):
            for folder in place.iterdir():
                # Another process may be forgetting the same jobs.
                with contextlib.suppress(FileNotFoundError):
                    aged.append((folder.stat().st_mtime_ns, folder))
        for _, folder in sorted(aged)[: max(len(aged) - jobs_max, 0)]:
            raw = self._read(folder / "record.json")
            if raw is None or is_over(self._parse(raw, JobRecord)):
                self.drop_job(folder.name)

    def write_private(self, place: Path, content: bytes) -> None:
        """Write a file that only this user may read."""
        self._write(place, content)

    # ---- files ------------------------------------------------------------------

    def _read(self, place: Path) -> bytes | None:
        try:
            return place.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise _unavailable(place, exc) from exc

    def _parse(self, raw: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(raw, type=kind)
        except msgspec.MsgspecError as exc:
            raise Broken(
                f"a {kind.__name__} in {self.path} is damaged: {exc}; restore it from "
                "a backup, or move it away",
                code="home_damaged",
            ) from exc

    def _write(self, place: Path, content: bytes, *, is_synced: bool = False) -> None:
        with _translate(place):
            private_file.write(place, content, is_synced=is_synced)

    @contextlib.contextmanager
    def _lock(self, place: Path) -> Iterator[None]:
        with _translate(place):
            private_file.make_folder(place.parent)
            handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


@contextlib.contextmanager
def _translate(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _unavailable(place, exc) from exc


def _unavailable(place: Path, exc: OSError) -> Unavailable:
    return Unavailable(
        f"cannot use {place}: {exc.strerror}; check the disk, or choose another home "
        "with SUBLET_HOME",
        code="disk_failed",
    )
