"""The tables of a shared log in PostgreSQL, and the two statements that change it.

``append`` and ``beat`` are functions of the database: one round trip, one transaction,
so that a node that stands still or dies in the middle holds nothing and nobody up.
Everything lies in a schema of its own, ``sublet``.

The row of ``head`` is the pen: whoever appends locks it until the commit is through
(with synchronous standbys: until they have it), so entries become visible in their
order, without gaps, and the next one counts from there.
"""

from sublet.adapter.postgres import Session
from sublet.base.errors import Refused

SCHEMA_VERSION = 1

# SQLSTATEs of our own, for what the two functions refuse.
OVERTAKEN = "SU001"
UNATTENDED = "SU002"
FORKED = "SU003"

CREATE_LOCK = 0x5375626C  # "Subl": held while the schema is made
_TABLES = """
CREATE SCHEMA sublet;
CREATE TABLE sublet.entry (
    number bigint PRIMARY KEY CHECK (number >= 0),
    id bytea NOT NULL UNIQUE CHECK (length(id) = 32),
    body bytea NOT NULL,
    leaf bytea NOT NULL CHECK (length(leaf) = 32)
);
CREATE FUNCTION sublet.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'the log is append-only'; END $$;
CREATE TRIGGER entry_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON sublet.entry
    FOR EACH STATEMENT EXECUTE FUNCTION sublet.refuse_change();
CREATE TABLE sublet.head (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    schema_version integer NOT NULL,
    at_s bigint NOT NULL DEFAULT 0
);
CREATE TABLE sublet.attended (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    at timestamptz NOT NULL DEFAULT '-infinity',
    resumed_at timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO sublet.attended DEFAULT VALUES;
CREATE TABLE sublet.presence (
    provider text PRIMARY KEY,
    heard_at timestamptz NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE sublet.checkpoint (
    size bigint PRIMARY KEY CHECK (size > 0),
    note bytea NOT NULL
);
CREATE TABLE sublet.snapshot (
    size bigint PRIMARY KEY CHECK (size > 0),
    book bytea NOT NULL,
    book_hash bytea NOT NULL,
    tree bytea NOT NULL
);
CREATE TABLE sublet.settled (
    lease_id text PRIMARY KEY,
    tenant text NOT NULL,
    provider text NOT NULL,
    settled_at_s bigint NOT NULL,
    lease bytea NOT NULL
);
CREATE INDEX settled_of_tenant ON sublet.settled (tenant, settled_at_s);
CREATE INDEX settled_of_provider ON sublet.settled (provider, settled_at_s);
"""

# ``known`` is what the log has of these ids already; they are distinct. A statement
# sees what was committed before it began, so the size is read behind the lock.
_APPEND = """
CREATE FUNCTION sublet.append(
    ids bytea[], bodies bytea[], leaves bytea[], folded bigint, tip bytea,
    stamped_at_s bigint, is_next boolean, is_resume boolean,
    silent text, silent_ms bigint, away_ms bigint,
    OUT size bigint, OUT numbers bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    log_at_s bigint;
    attended sublet.attended;
    known bigint;
    now_at timestamptz;
BEGIN
    SELECT at_s INTO STRICT log_at_s FROM sublet.head FOR UPDATE;
    SELECT coalesce(max(number) + 1, 0) INTO size FROM sublet.entry;
    IF folded > 0 AND NOT EXISTS (
        SELECT FROM sublet.entry WHERE number = folded - 1 AND leaf = tip
    ) THEN
        RAISE EXCEPTION 'forked' USING ERRCODE = '{forked}';
    END IF;
    SELECT count(e.number), array_agg(e.number ORDER BY u.place) INTO known, numbers
        FROM unnest(ids) WITH ORDINALITY AS u(id, place)
        LEFT JOIN sublet.entry e ON e.id = u.id;
    IF known > 0 AND known = cardinality(ids) THEN
        -- Whoever committed them may never have heard that the standbys have them:
        -- so this has to be written, and its commit waits for all before it.
        PERFORM pg_logical_emit_message(true, 'sublet', '');
        RETURN;
    END IF;
    now_at := clock_timestamp();
    SELECT * INTO STRICT attended FROM sublet.attended FOR UPDATE;
    IF attended.at < now_at - away_ms * interval '1 ms' AND NOT is_resume THEN
        RAISE EXCEPTION 'unattended' USING ERRCODE = '{unattended}';
    END IF;
    IF (is_next AND size <> folded) OR stamped_at_s < log_at_s OR (
        silent <> '' AND (
            attended.resumed_at > now_at - silent_ms * interval '1 ms' OR EXISTS (
                SELECT FROM sublet.presence p WHERE p.provider = silent
                    AND p.heard_at > now_at - silent_ms * interval '1 ms')))
    THEN
        RAISE EXCEPTION 'overtaken' USING ERRCODE = '{overtaken}';
    END IF;
    INSERT INTO sublet.entry
        SELECT size + row_number() OVER (ORDER BY u.place) - 1, u.id, u.body, u.leaf
        FROM unnest(ids, bodies, leaves) WITH ORDINALITY AS u(id, body, leaf, place)
        WHERE NOT EXISTS (SELECT FROM sublet.entry e WHERE e.id = u.id);
    SELECT coalesce(array_agg(e.number ORDER BY u.place), '{{}}') INTO numbers
        FROM unnest(ids) WITH ORDINALITY AS u(id, place)
        JOIN sublet.entry e ON e.id = u.id;
    IF cardinality(ids) > 0 AND stamped_at_s > log_at_s THEN
        UPDATE sublet.head SET at_s = stamped_at_s;
    END IF;
    UPDATE sublet.attended SET at = now_at,
        resumed_at = CASE WHEN is_resume THEN now_at ELSE resumed_at END;
    PERFORM pg_notify('sublet', (size + cardinality(ids) - known)::text);
END $$;
"""

_BEAT = """
CREATE FUNCTION sublet.beat(heard text[], away_ms bigint, OUT is_attended boolean)
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO sublet.presence
        SELECT provider, clock_timestamp() FROM unnest(heard) AS u(provider)
        ORDER BY provider
        ON CONFLICT (provider) DO UPDATE SET heard_at = excluded.heard_at;
    UPDATE sublet.attended SET at = clock_timestamp()
        WHERE at >= clock_timestamp() - away_ms * interval '1 ms';
    is_attended := FOUND;
END $$;
"""

_SCHEMA = (
    _TABLES
    + _APPEND.format(forked=FORKED, unattended=UNATTENDED, overtaken=OVERTAKEN)
    + _BEAT
)


def create_schema(session: Session) -> None:
    """Lay out an empty database; of several nodes that try, one does it."""
    if _is_there(session):
        return
    with session.transaction():
        session.execute("SELECT pg_advisory_xact_lock(%s)", (CREATE_LOCK,))
        if not _is_there(session):
            session.execute(_SCHEMA.encode())
            session.execute(
                "INSERT INTO sublet.head (schema_version) VALUES (%s)",
                (SCHEMA_VERSION,),
            )


def check_schema(session: Session) -> None:
    """Refuse a database without a log, or one that a newer Sublet laid out.

    Raises:
        Refused: ``no_log`` or ``log_newer``.
    """
    if not _is_there(session):
        raise Refused(
            "there is no log of Sublet in this database; name the one of a node",
            code="no_log",
            field="log.url",
        )
    row = session.execute("SELECT schema_version FROM sublet.head").fetchone()
    version = row[0] if row else 0
    if version > SCHEMA_VERSION:
        raise Refused(
            f"the database has schema {version}, and this Sublet reads up to "
            f"{SCHEMA_VERSION}; upgrade Sublet",
            code="log_newer",
            detail={"schema": version, "schema_max": SCHEMA_VERSION},
        )


def _is_there(session: Session) -> bool:
    # Asked of the tables themselves: to_regclass may remember how it was.
    row = session.execute(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n"
        " ON n.oid = c.relnamespace WHERE n.nspname = 'sublet' AND c.relname = 'head')"
    ).fetchone()
    return bool(row and row[0])
