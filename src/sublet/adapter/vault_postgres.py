"""Detached jobs in the database of a shared log: any node of the market goes on.

Beside the log's tables, in the same schema. What a job needs to go on is durable when
a method returns; streams are written soon after. Each write asks in one statement
whether the claim still stands, and holds the job's row until it is through: a claim
that is taken at the same time waits for it, or comes first and refuses it.
"""

from collections.abc import Iterator
from typing import Any

from blake3 import blake3

from sublet.adapter.postgres import Postgres
from sublet.adapter.postgres_schema import CREATE_LOCK, create_schema
from sublet.adapter.vault_folder import name_job
from sublet.base import limits
from sublet.base.errors import Broken, Refused, Unavailable
from sublet.base.ids import Address, Digest
from sublet.service.vault_port import ClaimLost, Standing

PIECES_MAX = 256  # of a stream, in one answer

_TABLES = """
CREATE TABLE IF NOT EXISTS sublet.job (
    tenant text NOT NULL,
    id text NOT NULL,
    plan bytea NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    holder text NOT NULL DEFAULT '',
    held_until timestamptz NOT NULL DEFAULT '-infinity',
    kept_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    stopped_at timestamptz,
    ended_at timestamptz,
    PRIMARY KEY (tenant, id)
);
CREATE TABLE IF NOT EXISTS sublet.job_record (
    tenant text NOT NULL,
    id text NOT NULL,
    name text NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (tenant, id, name),
    FOREIGN KEY (tenant, id) REFERENCES sublet.job ON DELETE CASCADE
);
CREATE TABLE IF NOT EXISTS sublet.job_chunk (
    tenant text NOT NULL,
    id text NOT NULL,
    key bytea NOT NULL CHECK (length(key) = 32),
    content bytea NOT NULL,
    PRIMARY KEY (tenant, id, key),
    FOREIGN KEY (tenant, id) REFERENCES sublet.job ON DELETE CASCADE
);
ALTER TABLE sublet.job_chunk ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS sublet.job_stream (
    tenant text NOT NULL,
    id text NOT NULL,
    lease text NOT NULL,
    stream text NOT NULL,
    first bigint NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (tenant, id, lease, stream, first),
    FOREIGN KEY (tenant, id) REFERENCES sublet.job ON DELETE CASCADE
);
"""
_IS_THERE = """
SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'sublet' AND c.relname = 'job_stream')
"""
_STANDING = """
SELECT tenant, id, extract(epoch FROM kept_at)::bigint,
    coalesce(extract(epoch FROM started_at), 0)::bigint,
    coalesce(extract(epoch FROM stopped_at), 0)::bigint,
    coalesce(extract(epoch FROM ended_at), 0)::bigint,
    held_until > clock_timestamp()
FROM sublet.job
"""
# The job's row as long as this claim stands; a later one has to wait for the commit.
_WRITE = """
WITH held AS (SELECT tenant, id FROM sublet.job
    WHERE tenant = %s AND id = %s AND epoch = %s FOR SHARE)
INSERT INTO sublet.job_record SELECT tenant, id, %s, %b FROM held
    ON CONFLICT (tenant, id, name) DO UPDATE SET content = excluded.content RETURNING 1
"""
_APPEND = """
WITH held AS (SELECT tenant, id FROM sublet.job
    WHERE tenant = %s AND id = %s AND epoch = %s FOR SHARE)
INSERT INTO sublet.job_stream SELECT tenant, id, %s, %s, %s, %b FROM held
    ON CONFLICT (tenant, id, lease, stream, first)
    DO UPDATE SET content = excluded.content RETURNING 1
"""
_READ = """
SELECT first, content FROM sublet.job_stream
    WHERE tenant = %s AND id = %s AND lease = %s AND stream = %s
    AND first >= coalesce((SELECT max(first) FROM sublet.job_stream
        WHERE tenant = %s AND id = %s AND lease = %s AND stream = %s
        AND first <= %s), 0) ORDER BY first LIMIT %s
"""


class PostgresVault:
    """All detached jobs of one market, for each of its nodes (port ``Vault``)."""

    def __init__(self, url: str) -> None:
        """Take the address of the log's database; make the tables where they lack.

        Raises:
            Refused: the server denies the access.
            Unavailable: it does not answer.
        """
        self._durable = Postgres(url)
        self._soon = Postgres(url, is_durable=False)
        with self._durable.session() as session:
            create_schema(session)
            row = session.execute(_IS_THERE.encode()).fetchone()
            if not (row and row[0]):
                with session.transaction():
                    session.execute("SELECT pg_advisory_xact_lock(%s)", (CREATE_LOCK,))
                    session.execute(_TABLES.encode())

    def find(self, tenant: Address, job: str) -> "PostgresJob":
        """As the port says."""
        name_job(tenant, job)
        return PostgresJob(tenant, job, self)

    def survey(self, tenant: Address | None = None) -> list[Standing]:
        """As the port says."""
        which = (" WHERE tenant = %s", tenant) if tenant else (" ORDER BY tenant, id",)
        return [Standing(*row) for row in self.ask(_STANDING + which[0], *which[1:])]

    def renew(self, holder: str, *, span_ms: int) -> frozenset[tuple[Address, str]]:
        """As the port says."""
        rows = self.ask(
            "UPDATE sublet.job SET held_until"
            " = clock_timestamp() + %s * interval '1 ms'"
            " WHERE holder = %s RETURNING tenant, id",
            span_ms,
            holder,
        )
        return frozenset((row[0], row[1]) for row in rows)

    def measure(self) -> int:
        """As the port says."""
        # The sizes stand in the rows; the contents beside them are not read.
        ((size,),) = self.ask(
            "SELECT coalesce((SELECT sum(octet_length(content)) FROM sublet.job_chunk),"
            " 0)::bigint + coalesce((SELECT sum(octet_length(plan)) FROM sublet.job), 0)"
            "::bigint"
        )
        return int(size)

    def close(self) -> None:
        """As the port says."""
        self._durable.close()
        self._soon.close()

    def ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement whose loss in a crash costs nothing; give its rows."""
        return _run(self._soon, statement, values)

    def tell(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement; what it did is durable when this returns."""
        return _run(self._durable, statement, values)


class PostgresJob:
    """The rows of one detached job (port ``JobVault``)."""

    def __init__(self, tenant: Address, job: str, vault: PostgresVault) -> None:
        """Take its name; there may be none."""
        self.tenant = tenant
        self.id = job
        self.blobs = PostgresBlobs(tenant, job, vault)
        self._name = (tenant, job)
        self._vault = vault

    def stand(self) -> Standing | None:
        """As the port says."""
        rows = self._vault.ask(
            _STANDING + " WHERE tenant = %s AND id = %s", *self._name
        )
        return Standing(*rows[0]) if rows else None

    def begin(self, plan: bytes) -> bytes:
        """As the port says."""
        # An update that changes nothing gives the row that stands, whoever made it.
        ((known,),) = self._vault.tell(
            "INSERT INTO sublet.job (tenant, id, plan) VALUES (%s, %s, %b)"
            " ON CONFLICT (tenant, id) DO UPDATE SET plan = sublet.job.plan"
            " RETURNING plan",
            *self._name,
            plan,
        )
        return bytes(known)

    def read_plan(self) -> bytes | None:
        """As the port says."""
        query = "SELECT plan FROM sublet.job WHERE tenant = %s AND id = %s"
        rows = self._vault.ask(query, *self._name)
        return bytes(rows[0][0]) if rows else None

    def start(self) -> None:
        """As the port says."""
        self._vault.tell(
            "UPDATE sublet.job SET started_at = coalesce(started_at, clock_timestamp())"
            " WHERE tenant = %s AND id = %s RETURNING 1",
            *self._name,
        )

    def stop(self) -> None:
        """As the port says."""
        self._vault.tell(
            "UPDATE sublet.job SET stopped_at = coalesce(stopped_at, clock_timestamp())"
            " WHERE tenant = %s AND id = %s RETURNING 1",
            *self._name,
        )

    def end(self, *, epoch: int) -> None:
        """As the port says."""
        rows = self._vault.tell(
            "UPDATE sublet.job SET ended_at = coalesce(ended_at, clock_timestamp())"
            " WHERE tenant = %s AND id = %s AND epoch = %s RETURNING 1",
            *self._name,
            epoch,
        )
        _check(rows)

    def claim(self, holder: str, *, span_ms: int) -> int | None:
        """As the port says."""
        rows = self._vault.tell(
            "UPDATE sublet.job SET epoch = epoch + 1, holder = %s,"
            " held_until = clock_timestamp() + %s * interval '1 ms'"
            " WHERE tenant = %s AND id = %s AND ended_at IS NULL"
            " AND held_until <= clock_timestamp() RETURNING epoch",
            holder,
            span_ms,
            *self._name,
        )
        return int(rows[0][0]) if rows else None

    def release(self, *, epoch: int) -> None:
        """As the port says."""
        self._vault.ask(
            "UPDATE sublet.job SET holder = '', held_until = '-infinity'"
            " WHERE tenant = %s AND id = %s AND epoch = %s RETURNING 1",
            *self._name,
            epoch,
        )

    def read(self, name: str) -> bytes | None:
        """As the port says."""
        rows = self._vault.ask(
            "SELECT content FROM sublet.job_record"
            " WHERE tenant = %s AND id = %s AND name = %s",
            *self._name,
            name,
        )
        return bytes(rows[0][0]) if rows else None

    def write(self, name: str, content: bytes, *, epoch: int) -> None:
        """As the port says."""
        rows = self._vault.tell(
            _WRITE,
            *self._name,
            epoch,
            name,
            content,
        )
        _check(rows)

    def read_stream(
        self, lease: Digest, stream: str, *, offset: int, limit: int
    ) -> bytes:
        """As the port says."""
        place = (*self._name, lease, stream)
        rows = self._vault.ask(
            _READ,
            *place,
            *place,
            offset,
            PIECES_MAX,
        )
        found = bytearray()
        for first, content in rows:
            at = offset + len(found) - first
            if not 0 <= at <= len(content) or len(found) >= limit:
                break
            found += content[at:]
        return bytes(found[:limit])

    def append_stream(
        self, lease: Digest, stream: str, content: bytes, *, offset: int, epoch: int
    ) -> None:
        """As the port says."""
        rows = self._vault.ask(
            _APPEND,
            *self._name,
            epoch,
            lease,
            stream,
            offset,
            content,
        )
        _check(rows)

    def drop(self) -> None:
        """As the port says."""
        self._vault.tell(
            "DELETE FROM sublet.job WHERE tenant = %s AND id = %s RETURNING 1",
            *self._name,
        )


class PostgresBlobs:
    """The sealed chunks of one job (port ``JobBlobs``)."""

    def __init__(self, tenant: Address, job: str, vault: PostgresVault) -> None:
        """Take whose they are."""
        self._name = (tenant, job)
        self._vault = vault

    def has(self, key: Digest) -> bool:
        """Say whether the store holds this content."""
        query = "SELECT 1 FROM sublet.job_chunk WHERE tenant = %s AND id = %s"
        return bool(self._vault.ask(query + " AND key = %b", *self._name, _raw(key)))

    def put(self, content: bytes) -> Digest:
        """Keep one chunk; durable when it returns; raises as the port says."""
        if len(content) > limits.CHUNK_BYTES:
            raise Refused(
                f"a chunk holds at most {limits.CHUNK_BYTES} bytes, not {len(content)}",
                code="chunk_too_large",
            )
        key = blake3(content).digest()
        rows = self._vault.tell(
            "WITH held AS (SELECT tenant, id FROM sublet.job"
            " WHERE tenant = %s AND id = %s FOR KEY SHARE)"
            " INSERT INTO sublet.job_chunk SELECT tenant, id, %b, %b FROM held"
            " ON CONFLICT (tenant, id, key) DO UPDATE SET key = excluded.key RETURNING 1",
            *self._name,
            key,
            content,
        )
        _check(rows)
        return "0x" + key.hex()

    def get(self, key: Digest) -> bytes:
        """Give the content, checked against its key; raises as the port says."""
        query = "SELECT content FROM sublet.job_chunk WHERE tenant = %s AND id = %s"
        rows = self._vault.ask(query + " AND key = %b", *self._name, _raw(key))
        if not rows:
            raise Refused(
                f"chunk {key} is not here", code="no_chunk", detail={"chunk": key}
            )
        content = bytes(rows[0][0])
        if blake3(content).hexdigest() != key[2:]:
            raise Broken(
                f"chunk {key} in the database is damaged", code="chunk_damaged"
            )
        return content

    def drop(self, key: Digest) -> None:
        """Forget a chunk; one that is not here is forgotten already."""
        query = "DELETE FROM sublet.job_chunk WHERE tenant = %s AND id = %s"
        self._vault.ask(query + " AND key = %b RETURNING 1", *self._name, _raw(key))

    def keys(self) -> Iterator[Digest]:
        """Give the keys of all chunks, in no order."""
        query = "SELECT key FROM sublet.job_chunk WHERE tenant = %s AND id = %s"
        for (key,) in self._vault.ask(query, *self._name):
            yield "0x" + key.hex()


def _run(
    place: Postgres, statement: str, values: tuple[object, ...]
) -> list[tuple[Any, ...]]:
    """Run a statement; a session that broke while it lay idle is worth a second try."""
    try:
        return _run_once(place, statement, values)
    except Unavailable as fault:
        if fault.code != "database_unavailable":
            raise
    return _run_once(place, statement, values)


def _run_once(
    place: Postgres, statement: str, values: tuple[object, ...]
) -> list[tuple[Any, ...]]:
    with place.session() as session:
        return session.execute(statement.encode(), values, binary=True).fetchall()


def _check(rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        raise ClaimLost


def _raw(key: Digest) -> bytes:
    """Give the bytes of a chunk's key.

    Raises:
        Refused: it is none.
    """
    try:
        raw = bytes.fromhex(key[2:]) if key.startswith("0x") else b""
    except ValueError:
        raw = b""
    if len(raw) != blake3.digest_size or key != "0x" + raw.hex():
        raise Refused(f"{key[:80]!r} is not a chunk's key", code="bad_key")
    return raw
