"""What stands against reading PostgreSQL's log: settings, privileges and tables, each with what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, text

from fedorm.stores.findings import Finding
from fedorm.stores.postgresql_slot import (
    PublicationState,
    TableState,
    publication_state,
    slot_state,
    table_states,
)
from fedorm.stores.rows import RowShape

_SERVER = text(
    "SELECT current_setting('wal_level') AS wal_level, pg_is_in_recovery() AS is_standby,"
    " current_setting('max_replication_slots')::int AS slots,"
    " (SELECT count(*) FROM pg_replication_slots WHERE slot_name <> :slot) AS slots_used,"
    " current_setting('max_wal_senders')::int AS senders,"
    " (SELECT count(*) FROM pg_stat_replication WHERE pid IS DISTINCT FROM"
    " (SELECT active_pid FROM pg_replication_slots WHERE slot_name = :slot)) AS senders_used,"
    " current_user::text AS me, current_database()::text AS database,"
    " has_database_privilege(current_database(), 'CREATE') AS may_publish,"
    " (SELECT r.rolsuper OR r.rolreplication FROM pg_roles r WHERE r.rolname = current_user)"
    " OR EXISTS (SELECT FROM pg_roles r WHERE r.rolname = 'rds_replication' AND pg_has_role(r.oid, 'USAGE'))"
    " AS may_replicate"
)


def obstacles(connection: Connection, shapes: Sequence[RowShape], slot: str, publication: str) -> list[Finding]:
    """Return what is missing, each with the statement to run."""
    return [*_of_server(connection, slot), *_of_tables(connection, shapes, publication)]


def whole_row_obstacles(connection: Connection, shapes: Sequence[RowShape]) -> list[Finding]:
    """Return what keeps the log from telling a changed row as it was before, whole."""
    return [
        Finding(
            f"{state.shape.label}: the log tells of a row before its change no more than its key",
            f"run  ALTER TABLE {state.written} REPLICA IDENTITY FULL",
        )
        for state in table_states(connection, shapes)
        if state.name is not None and state.identity != "f"
    ]


def _of_server(connection: Connection, slot: str) -> Iterator[Finding]:
    server = connection.execute(_SERVER, {"slot": slot}).one()
    quote = connection.dialect.identifier_preparer.quote
    if server.is_standby:
        yield Finding("the server is a standby", "give the service the URL of the primary")
        return
    if server.wal_level != "logical":
        yield Finding(
            f"wal_level is {server.wal_level!r}, so that the log does not tell of rows",
            "run  ALTER SYSTEM SET wal_level = 'logical'  and restart the server",
        )
    for setting, most, used in (
        ("max_replication_slots", server.slots, server.slots_used),
        ("max_wal_senders", server.senders, server.senders_used),
    ):
        if used >= most:
            yield Finding(
                f"{setting} is {most}, and all are in use",
                f"run  ALTER SYSTEM SET {setting} = {most + 10}  and restart the server",
            )
    if not server.may_replicate:
        yield Finding(
            f"the user {server.me} may not read the log", f"run  ALTER ROLE {quote(server.me)} REPLICATION", "privilege"
        )
    state = slot_state(connection, slot)
    if state is not None and state.database != server.database:
        yield Finding(
            f"the replication slot {slot} is another database's, {state.database}",
            f"give this feed another name, or run  SELECT pg_drop_replication_slot('{slot}')",
        )


def _of_tables(connection: Connection, shapes: Sequence[RowShape], publication: str) -> Iterator[Finding]:
    tables, published = table_states(connection, shapes), publication_state(connection, publication)
    me, database, may_publish = connection.execute(
        text(
            "SELECT current_user::text, current_database()::text, has_database_privilege(current_database(), 'CREATE')"
        )
    ).one()
    quote = connection.dialect.identifier_preparer.quote
    for state in tables:
        yield from _of_table(state)
    wanted = frozenset(state.name for state in tables if state.name is not None)
    if published is not None and published.suffices(wanted):
        return
    if published is None and not may_publish:
        yield Finding(
            f"the user {me} may not make a publication",
            f"run  GRANT CREATE ON DATABASE {quote(database)} TO {quote(me)}",
            "privilege",
        )
    if published is not None and not published.owned:
        yield Finding(
            f"the publication {publication} lacks tables, and is another user's",
            f"run  ALTER PUBLICATION {quote(publication)} OWNER TO {quote(me)}",
            "privilege",
        )
    for state in tables:
        if state.name is not None and not state.owned and not _is_in(state, published):
            yield Finding(
                f"{state.shape.label}: the table {state.written} belongs to {state.owner}, and only its owner can "
                f"publish it",
                f"run  GRANT {quote(state.owner)} TO {quote(me)}",
                "privilege",
            )


def _is_in(state: TableState, published: PublicationState | None) -> bool:
    return published is not None and state.name in published.tables


def _of_table(state: TableState) -> Iterator[Finding]:
    label, written = state.shape.label, state.written
    if state.name is None:
        yield Finding(
            f"{label}: there is no table {written}", "create it, for example by  await fed.create_all()", "table"
        )
    elif state.kind not in ("r", "p"):
        yield Finding(
            f"{label}: {written} is no table, and the log does not tell of it",
            "name the tables that it reads",
            "table",
        )
    elif state.persistence != "p":
        yield Finding(f"{label}: the log does not tell of {written}", f"run  ALTER TABLE {written} SET LOGGED", "table")
    elif state.identity == "d" and not state.identity_columns:
        yield Finding(
            f"{label}: {written} has no primary key, and could not be changed any more if it were published",
            f"run  ALTER TABLE {written} ADD PRIMARY KEY (...)  or  ALTER TABLE {written} REPLICA IDENTITY FULL",
            "table",
        )
    elif state.identity == "n":
        yield Finding(
            f"{label}: {written} has no replica identity, and could not be changed any more if it were published",
            f"run  ALTER TABLE {written} REPLICA IDENTITY DEFAULT",
            "table",
        )
    elif state.identity != "f" and not state.key_columns <= state.identity_columns:
        missing = ", ".join(sorted(state.key_columns - state.identity_columns))
        yield Finding(
            f"{label}: the log does not tell {missing} of a deleted row of {written}",
            f"run  ALTER TABLE {written} REPLICA IDENTITY FULL",
            "table",
        )
