"""A replication slot and its publication, at the server: made, looked at and removed.

Everything here is synchronous and wants a connection that commits each statement by itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from fedorm.stores.pgoutput import TableName
from fedorm.stores.rows import RowShape

PLUGIN = "pgoutput"
IN_USE, NOT_THERE, NOT_ALLOWED = "55006", "42704", "42501"
"""SQLSTATEs: an object is used by somebody else, is not there, or is not the user's to do this with."""
_LONGEST = 63
"""In bytes: PostgreSQL cuts longer names."""


def slot_name(database: str, name: str) -> str:
    """Return the slot's name; a slot is one of the whole server's, and its name has few letters to choose from."""
    wanted = f"fedorm_{database}_{name}"
    return _cut(re.sub(r"[^a-z0-9_]", "_", wanted.lower()), wanted)


def publication_name(name: str) -> str:
    """Return the publication's name."""
    return _cut(f"fedorm_{name}", f"fedorm_{name}")


def _cut(written: str, wanted: str) -> str:
    encoded = written.encode()
    if written == wanted and len(encoded) <= _LONGEST:
        return written
    mark = hashlib.sha256(wanted.encode()).hexdigest()[:8]
    return f"{encoded[: _LONGEST - 9].decode(errors='ignore')}_{mark}"


# -- the slot


@dataclass(frozen=True, slots=True)
class SlotState:
    """What the server says of a slot."""

    confirmed: str | None
    """Changes committed before this position are not sent any more."""
    retained: int
    """Bytes of the log that are kept for it."""
    wal_status: str | None
    """"reserved", "extended", "unreserved" or "lost"; None before PostgreSQL 13."""
    safe: int | None
    """How many more bytes may be written to the log before the slot is in danger; None where there is no limit."""
    active_pid: int | None
    database: str | None
    plugin: str | None
    reason: str | None
    """Why it was given up."""
    end: str
    """Where the log ends."""

    @property
    def lost(self) -> str | None:
        """Why the server has given the slot up; None as long as it has not."""
        if self.wal_status == "lost" or self.reason:
            return self.reason or "more of its log was to be kept than max_slot_wal_keep_size allows"
        return None


_SLOT = text(
    "SELECT to_jsonb(s) AS state, pg_current_wal_lsn()::text AS log_end,"
    " coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn), 0)::bigint AS retained"
    " FROM pg_replication_slots s WHERE s.slot_name = :slot"
).columns(state=JSONB)


def slot_state(connection: Connection, slot: str) -> SlotState | None:
    """Ask for a slot; None if it is not there."""
    found = connection.execute(_SLOT, {"slot": slot}).one_or_none()
    if found is None:
        return None
    state = found.state
    return SlotState(
        confirmed=state["confirmed_flush_lsn"],
        retained=found.retained,
        wal_status=state.get("wal_status"),
        safe=state.get("safe_wal_size"),
        active_pid=state["active_pid"],
        database=state["database"],
        plugin=state["plugin"],
        reason=state.get("invalidation_reason"),
        end=found.log_end,
    )


def make_slot(connection: Connection, slot: str) -> str:
    """Make the slot; waits, as the server does, for the transactions that are writing. Return where it begins."""
    made = text("SELECT lsn::text FROM pg_create_logical_replication_slot(:slot, :plugin)")
    return str(connection.scalar(made, {"slot": slot, "plugin": PLUGIN}))


def writing(connection: Connection) -> list[int]:
    """Return the numbers of the transactions that have written and are not seen to have ended."""
    return list(connection.scalars(text("SELECT txid_snapshot_xip(txid_current_snapshot())")))


def drop_slot(connection: Connection, slot: str) -> None:
    """Drop the slot if it is there."""
    dropped = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = :slot"
    connection.execute(text(dropped), {"slot": slot})


_LARGER = (
    " FROM pg_replication_slots s WHERE s.slot_name = :slot"
    " AND pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn) > :most"
)
_MOST = bindparam("most", type_=BigInteger)
_END_READER = text("SELECT pg_terminate_backend(s.active_pid)" + _LARGER + " AND s.active_pid IS NOT NULL").bindparams(
    _MOST
)
_DROP_LARGER = text(
    "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::bigint AS retained,"
    " pg_drop_replication_slot(s.slot_name)" + _LARGER
).bindparams(_MOST)


def drop_larger_slot(connection: Connection, slot: str, most: int) -> int | None:
    """Drop the slot if more than ``most`` bytes are kept for it, whoever reads it; return how many these were."""
    asked = {"slot": slot, "most": most}
    connection.execute(_END_READER, asked)
    found = connection.execute(_DROP_LARGER, asked).one_or_none()
    return None if found is None else int(found.retained)


# -- the publication


@dataclass(frozen=True, slots=True)
class PublicationState:
    """What the server says of a publication."""

    owned: bool
    """Whether the user may change it."""
    for_all_tables: bool
    complete: bool
    """Whether it publishes each kind of change, and those of a partition as its table's."""
    tables: frozenset[TableName]

    def suffices(self, wanted: frozenset[TableName]) -> bool:
        """Say whether all changes of these tables are published."""
        return self.complete and wanted <= self.tables


def publication_state(connection: Connection, publication: str) -> PublicationState | None:
    """Ask for a publication; None if it is not there."""
    asked = text(
        "SELECT to_jsonb(p) AS state, pg_has_role(p.pubowner, 'USAGE') AS owned FROM pg_publication p"
        " WHERE p.pubname = :name"
    ).columns(state=JSONB)
    found = connection.execute(asked, {"name": publication}).one_or_none()
    if found is None:
        return None
    tables = connection.execute(
        text("SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = :name"), {"name": publication}
    )
    state = found.state
    kinds = ("pubinsert", "pubupdate", "pubdelete", "pubtruncate", "pubviaroot")
    return PublicationState(
        owned=found.owned,
        for_all_tables=state["puballtables"],
        complete=all(state.get(kind, True) for kind in kinds),
        tables=frozenset((schema, name) for schema, name in tables),
    )


def publish(connection: Connection, publication: str, tables: Sequence[TableName]) -> None:
    """Make the publication, or set its tables; one that the user may not change is left if it suffices."""
    state, wanted = publication_state(connection, publication), frozenset(tables)
    quote = connection.dialect.identifier_preparer.quote_identifier
    name = quote(publication)
    listed = ", ".join(f"{quote(schema)}.{quote(table)}" for schema, table in sorted(wanted))
    options = {"publish": "'insert, update, delete, truncate'"}
    version = connection.dialect.server_version_info or (0,)
    if version >= (13,):
        options["publish_via_partition_root"] = "true"
    if version >= (18,):
        options["publish_generated_columns"] = "stored"
    given = ", ".join(f"{option} = {value}" for option, value in options.items())
    if state is None:
        connection.exec_driver_sql(f"CREATE PUBLICATION {name} FOR TABLE {listed} WITH ({given})")
        return
    if state.suffices(wanted) and (state.tables == wanted or state.for_all_tables or not state.owned):
        return
    if not state.for_all_tables:
        connection.exec_driver_sql(f"ALTER PUBLICATION {name} SET TABLE {listed}")
    connection.exec_driver_sql(f"ALTER PUBLICATION {name} SET ({given})")


def drop_publication(connection: Connection, publication: str) -> None:
    """Drop the publication if it is there."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    connection.exec_driver_sql(f"DROP PUBLICATION IF EXISTS {quote(publication)}")


# -- the tables


@dataclass(frozen=True, slots=True)
class TableState:
    """What the server says of a shape's table."""

    shape: RowShape
    written: str
    """The table's name as SQL has it."""
    name: TableName | None = None
    """None if it is not there; else all the others are known, too."""
    kind: str = ""
    persistence: str = ""
    owner: str = ""
    owned: bool = False
    identity: str = ""
    identity_columns: frozenset[str] = frozenset()
    """What the log tells of a deleted row; nothing if there is no key."""

    @property
    def key_columns(self) -> frozenset[str]:
        """The columns of the shape's key."""
        return frozenset(self.shape.columns[name].name for name in self.shape.key)


_TABLE = text(
    "SELECT n.nspname, c.relname, c.relkind::text, c.relpersistence::text, c.relreplident::text,"
    " pg_get_userbyid(c.relowner)::text AS owner, pg_has_role(c.relowner, 'USAGE') AS owned,"
    " ARRAY(SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid"
    " AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) WHERE i.indrelid = c.oid"
    " AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END) AS identity"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(CAST(:name AS text))"
)


def table_states(connection: Connection, shapes: Sequence[RowShape]) -> list[TableState]:
    """Ask for the table of each shape."""
    states = []
    for shape in shapes:
        assert shape.table is not None
        written = connection.dialect.identifier_preparer.format_table(shape.table)
        found = connection.execute(_TABLE, {"name": written}).one_or_none()
        if found is None:
            states.append(TableState(shape, written))
            continue
        schema, table, kind, persistence, identity, owner, owned, columns = found
        states.append(
            TableState(
                shape, written, (schema, table), kind, persistence, owner, owned, identity, frozenset(columns)
            )
        )  # fmt: skip
    return states


def domains(connection: Connection) -> dict[int, int]:
    """Return the number of the type that each domain is made of, by the domain's own."""
    found = connection.execute(text("SELECT oid::bigint, typbasetype::bigint FROM pg_type WHERE typtype = 'd'"))
    return dict(found.tuples().all())
