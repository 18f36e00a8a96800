"""What a MySQL or MariaDB server is asked for: what the user may do, and whether its tables have transactions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Table, bindparam, text

from fedorm.stores.findings import Finding, Needs, listed
from fedorm.stores.mysql_grants import Grants

_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE")
_TABLES = text(
    "SELECT t.table_schema, t.table_name, t.table_type, t.engine, coalesce(e.transactions, 'YES')"
    " FROM information_schema.tables t LEFT JOIN information_schema.engines e ON e.engine = t.engine"
    " WHERE t.table_schema IN :schemas AND t.table_name IN :tables"
).bindparams(bindparam("schemas", expanding=True), bindparam("tables", expanding=True))


def examine(connection: Connection, needs: Needs, database: str) -> Iterator[Finding]:
    """Ask for the server's settings, the user's grants, and the tables."""
    grants = Grants.of(connection)
    if connection.scalar(text("SELECT @@GLOBAL.read_only")) and not any(map(grants.has, ("SUPER", "READ_ONLY ADMIN"))):
        yield Finding(
            "the server takes no writes, as read_only is on",
            "run  SET GLOBAL read_only = OFF,  or give the service the URL of the primary, unless it is only read",
            is_error=bool(needs.written),
        )
    dialect: Any = connection.dialect
    hides_doubts = not dialect.is_mariadb and dialect.server_version_info >= (8,)
    if needs.two_phase and hides_doubts and not grants.has("XA_RECOVER_ADMIN"):
        yield Finding(
            "the user may not see what is in doubt",
            f"run  GRANT XA_RECOVER_ADMIN ON *.* TO {grants.account}",
            "privilege",
        )
    own = {table.name for table in needs.own}
    wanted = {(table.schema or database, table.name): table for table in [*needs.tables, *needs.own]}
    if not wanted:
        return
    # A table of which the user has no privilege is not listed: whether it is there is not known then.
    rows = connection.execute(
        _TABLES,
        {"schemas": sorted({schema for schema, _ in wanted}), "tables": sorted({name for _, name in wanted})},
    ).all()
    there = {(row[0], row[1]): row for row in rows}
    quote = dialect.identifier_preparer.quote_identifier
    absent = [name for schema, name in wanted if name in own and (schema, name) not in there]
    absent = [name for name in absent if not grants.has("CREATE", database, name)]
    if absent:
        yield Finding(
            f"the user may not make tables, and fedorm needs to make {listed(absent)}",
            f"run  GRANT CREATE, INDEX, SELECT, INSERT, UPDATE, DELETE ON {quote(database)}.* TO {grants.account}",
            "privilege",
        )
    for (schema, name), table in wanted.items():
        if name in own and (schema, name) not in there:
            continue
        yield from _of_table(grants, table, schema, f"{quote(schema)}.{quote(name)}", needs.written | own)
        row = there.get((schema, name))
        if row is not None and row[4] != "YES":
            yield Finding(
                f"{schema}.{name} has the engine {row[3]}, which has no transactions: nothing of it is undone",
                f"run  ALTER TABLE {quote(schema)}.{quote(name)} ENGINE = InnoDB",
                "table",
                is_error=False,
            )


def _of_table(
    grants: Grants, table: Table, schema: str, written: str, needed: frozenset[str] | set[str]
) -> Iterator[Finding]:
    columns = [column.name for column in table.columns]
    lacking = [
        one
        for one in _PRIVILEGES
        if not (
            grants.has(one, schema, table.name)
            or (one != "DELETE" and grants.has_for(one, schema, table.name, columns))
        )
    ]
    if lacking:
        yield Finding(
            f"the user has no {listed(lacking)} on {schema}.{table.name}",
            f"run  GRANT {', '.join(lacking)} ON {written} TO {grants.account}",
            "privilege",
            # Without SELECT nothing works; whether a model is written to is the application's to know.
            is_error=lacking[0] == "SELECT" or table.name in needed,
        )
