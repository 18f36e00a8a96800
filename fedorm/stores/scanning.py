"""How an analytical engine reads a service's tables by itself, over connections of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, Table, event
from sqlalchemy.pool import QueuePool
from sqlalchemy.sql import Select

WRITTEN = "fedorm_written"
"""In ``Connection.info``: the transaction has sent something that is not a query."""


@dataclass(frozen=True, slots=True)
class Scanner:
    """What DuckDB needs to attach a service's database: the extension's name, and the connection's settings.

    ``secret`` holds the settings that no message may repeat.
    """

    extension: str
    kind: str
    """The name of the kind of database in DuckDB's ATTACH."""
    secret: Mapping[str, str] = field(repr=False)
    options: Mapping[str, str]
    schema: str
    """Where tables are that name no schema."""
    filters: bool = False
    """Whether the server checks conditions, in PostgreSQL's meaning, while it is read."""
    holds_utc: bool = False
    """Whether a column with a zone is held as a datetime without one, in UTC."""

    def path(self, table: Table) -> tuple[str, str]:
        """Return the schema and the name of a table."""
        return table.schema or self.schema, str(table.name)


def note_writes(engine: Engine) -> None:
    """Mark connections whose transaction has sent anything but a query, until it ends."""

    @event.listens_for(engine, "after_cursor_execute")
    def mark(
        connection: Connection, cursor: object, statement: str, parameters: object, context: object, many: bool
    ) -> None:
        invoked = getattr(context, "invoked_statement", None)
        if not isinstance(invoked, Select) and not statement.lstrip("( \n\t").upper().startswith(("SELECT", "SHOW")):
            connection.info[WRITTEN] = True

    def clear(connection: Connection) -> None:
        if not connection.closed and not connection.invalidated:  # Else its info went with it.
            connection.info.pop(WRITTEN, None)

    event.listen(engine, "commit", clear)
    event.listen(engine, "rollback", clear)


def spare_connections(engine: Engine) -> int:
    """Return how many connections an engine's pool has left of those that it keeps."""
    pool = engine.pool
    return max(0, pool.size() - pool.checkedout()) if isinstance(pool, QueuePool) else 0
