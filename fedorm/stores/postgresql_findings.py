"""What a PostgreSQL server is asked for: what the user may do, if it takes writes, and what of its log it keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, Row, Table, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from fedorm.stores.findings import Finding, Needs, listed

_MUCH = 2**30
"""From so many bytes on that are kept of the log it is told."""

_PRIVILEGES = ["SELECT", "INSERT", "UPDATE", "DELETE"]

_SERVER = text(
    "SELECT current_user::text AS me, current_schema()::text AS schema, pg_is_in_recovery() AS is_standby,"
    " current_setting('default_transaction_read_only')::bool AS reads_only,"
    " coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,"
    " coalesce((SELECT string_agg(quote_ident(nspname), ', ') FROM pg_namespace"
    " WHERE nspname::text IN ('public', current_user::text)), 'public') AS usual"
)
_TABLES = text(
    "SELECT w.place, w.written, c.oid IS NOT NULL AS is_there,"
    " ARRAY(SELECT p FROM jsonb_array_elements_text(w.privileges) p WHERE NOT ("
    "  has_table_privilege(c.oid, p) OR p IN ('SELECT', 'INSERT', 'UPDATE')"
    "  AND coalesce((SELECT bool_and(has_column_privilege(c.oid, a.attnum, p)) FROM pg_attribute a"
    "  WHERE a.attrelid = c.oid AND a.attnum > 0 AND w.columns ? a.attname::text), false)))"
    " AS lacking,"
    " ARRAY(SELECT s.oid::regclass::text FROM pg_depend d JOIN pg_class s ON s.oid = d.objid"
    "  WHERE d.refobjid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'a'"
    "  AND has_any_column_privilege(c.oid, 'INSERT')"
    "  AND CASE WHEN s.relkind = 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE') ELSE false END) AS sequences"
    " FROM jsonb_to_recordset(:wanted) AS w(place int, written text, schema text, name text, columns jsonb,"
    "  privileges jsonb)"
    " LEFT JOIN pg_class c ON c.oid = (SELECT t.oid FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace"
    "  WHERE t.relname = w.name AND t.relkind IN ('r', 'p', 'v', 'm', 'f')"
    "  AND CASE WHEN w.schema IS NULL THEN pg_table_is_visible(t.oid) ELSE n.nspname = w.schema END)"
    " ORDER BY w.place"
).bindparams(bindparam("wanted", type_=JSONB))
_SLOTS = text(
    "SELECT slot_name::text AS name, to_jsonb(s) AS state,"
    " pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,"
    " restart_lsn)::bigint AS retained"
    " FROM pg_replication_slots s WHERE database = current_database() AND starts_with(slot_name::text, 'fedorm_')"
    " ORDER BY 1"
).columns(state=JSONB)


def examine_rights(connection: Connection, needs: Needs) -> Iterator[Finding]:
    """Ask for privileges, and for what keeps the server from being written to."""
    server = connection.execute(_SERVER).one()
    me = connection.dialect.identifier_preparer.quote(server.me)
    if server.is_standby:
        yield Finding(
            "the server is a standby, and takes no writes",
            "give the service the URL of the primary, unless it is only read",
            is_error=bool(needs.written),
        )
    elif server.reads_only:
        yield Finding(
            "its transactions can only read, as default_transaction_read_only is on",
            f"run  ALTER ROLE {me} SET default_transaction_read_only = off,  unless it is only read",
            is_error=bool(needs.written),
        )
    if server.schema is None:
        yield Finding(
            f"the user {server.me} may not use a schema of its search_path",
            f"run  GRANT USAGE ON SCHEMA {server.usual} TO {me}",
            "privilege",
        )
        return
    own = {table.name for table in needs.own}
    wanted = [*needs.tables, *needs.own]
    rows = connection.execute(_TABLES, {"wanted": [_asked(connection, *one, needs) for one in enumerate(wanted)]}).all()
    absent = [wanted[row.place].name for row in rows if not row.is_there and wanted[row.place].name in own]
    if absent and not server.may_create and not server.is_standby:
        schema = connection.dialect.identifier_preparer.quote(server.schema)
        yield Finding(
            f"the user {server.me} may not make tables in the schema {server.schema}, and fedorm needs to make "
            f"{listed(absent)}",
            f"run  GRANT CREATE ON SCHEMA {schema} TO {me}",
            "privilege",
        )
    yield from _lacking([row for row in rows if row.is_there], wanted, needs.written | own, server.me, me)


def _asked(connection: Connection, place: int, table: Table, needs: Needs) -> dict[str, object]:
    written = connection.dialect.identifier_preparer.format_table(table)
    columns = [column.name for column in table.columns]
    privileges = [*_PRIVILEGES, "TRIGGER"] if table.name in needs.woken else _PRIVILEGES
    place_of = {"place": place, "written": written, "schema": table.schema, "name": table.name}
    return {**place_of, "columns": columns, "privileges": privileges}


def _lacking(
    rows: Sequence[Row[tuple[object, ...]]], tables: Sequence[Table], written: frozenset[str], name: str, me: str
) -> Iterator[Finding]:
    """Say of tables that lack the same privileges so together.

    Without SELECT nothing works; whether a model is written to is the application's to know.
    """
    together: dict[tuple[tuple[str, ...], bool], list[str]] = {}
    for row in rows:
        if row.lacking:
            is_error = "SELECT" in row.lacking or (
                tables[row.place].name in written and any(one in _PRIVILEGES for one in row.lacking)
            )
            together.setdefault((tuple(row.lacking), is_error), []).append(row.written)
    for (privileges, is_error), names in together.items():
        yield Finding(
            f"the user {name} has no {listed(privileges)} on {listed(names)}",
            f"run  GRANT {', '.join(privileges)} ON {', '.join(names)} TO {me}",
            "privilege",
            is_error,
        )
    sequences = [one for row in rows for one in row.sequences]
    if sequences:
        yield Finding(
            f"the user {name} may not use the sequences that number new rows, {listed(sequences)}",
            f"run  GRANT USAGE ON SEQUENCE {', '.join(sequences)} TO {me}",
            "privilege",
        )


def examine_log(connection: Connection) -> Iterator[Finding]:
    """Look at the replication slots of fedorm's in this database."""
    for slot in connection.execute(_SLOTS):
        status = slot.state.get("wal_status")
        read = "which is read" if slot.state["active"] else "which nobody reads"
        mend = (
            f"let  fedorm sync run  read it, or give it up: by  fedorm sync reset RULE,  or, where no rule has it any "
            f"more, run  SELECT pg_drop_replication_slot('{slot.name}')"
        )
        if status == "lost" or slot.state.get("invalidation_reason"):
            yield Finding(
                f"the server has given up the replication slot {slot.name}, whose log is gone",
                "make up for it by  fedorm sync backfill RULE",
                "lag",
            )
        elif status == "unreserved":
            yield Finding(f"the server is about to give up the replication slot {slot.name}, {read}", mend, "lag")
        elif (slot.retained or 0) >= _MUCH:
            size = f"{slot.retained / 2**30:.1f} GiB"
            yield Finding(
                f"the server keeps {size} of its log for the replication slot {slot.name}, {read}", mend, "lag"
            )
