"""The tables whose changes are wanted from a binary log, by the names that they have there."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import Connection, bindparam, text

from fedorm.stores.mysql_images import Declared, RowReader
from fedorm.stores.mysql_statements import mentions, truncated_table
from fedorm.stores.rows import RowShape

Place = tuple[str, str]
"""A table's schema and its name."""


class UnknownZoneError(Exception):
    """The zone in which a server shows a TIMESTAMP is not known here."""


class LoggedTables:
    """Finds shapes by schema and table; with ``any_case`` the server's names have no case of their own."""

    def __init__(
        self,
        shapes: Mapping[Place, Sequence[RowShape]],
        declared: Mapping[Place, Declared],
        dialect: Any,
        *,
        any_case: bool,
    ) -> None:
        self._any_case, self._dialect = any_case, dialect
        self._shapes = {self._place(*place): several for place, several in shapes.items()}
        self._declared = declared
        given = [*shapes, *self._shapes]
        self.schemas = sorted({schema for schema, _ in given})
        self.names = sorted({name for _, name in given})

    def _place(self, schema: str, name: str) -> Place:
        return (schema.lower(), name.lower()) if self._any_case else (schema, name)

    def readers(self, table: Any) -> list[RowReader]:
        """Return what reads the rows of a table that the log has described, for each shape."""
        place = self._place(table.schema, table.table)
        shapes = self._shapes.get(place, ())
        return [RowReader(table.columns, shape, self._dialect, self._declared[place]) for shape in shapes]

    def truncated(self, query: str, schema: str) -> Sequence[RowShape]:
        """Return the shapes of the table that a TRUNCATE has emptied."""
        found = truncated_table(query, schema)
        return self._shapes.get(self._place(*found), ()) if found else ()

    def may_be_written(self, query: str, schema: str) -> bool:
        """Say whether a statement that was run in a schema may have changed one of the tables."""
        here, _ = self._place(schema, "")
        return any(mentions(query, name) for near, name in self._shapes if near == here or mentions(query, near))


def logged_tables(connection: Connection, shapes: Mapping[Place, Sequence[RowShape]]) -> LoggedTables:
    """Ask for what the log does not tell; raise ``UnknownZoneError`` where a table has a TIMESTAMP in such a zone."""
    any_case = bool(connection.scalar(text("SELECT @@lower_case_table_names")))
    rows = connection.execute(
        text(
            "SELECT table_schema, table_name, column_name, data_type, numeric_scale FROM information_schema.columns"
            " WHERE table_schema IN :schemas AND table_name IN :tables"
            " AND data_type IN ('uuid', 'inet4', 'inet6', 'float', 'double', 'timestamp')"
        ).bindparams(
            bindparam("schemas", [schema for schema, _ in shapes], expanding=True),
            bindparam("tables", [table for _, table in shapes], expanding=True),
        )
    ).all()
    zone = _zone(connection) if any(row[3] == "timestamp" for row in rows) else None
    declared: dict[Place, Declared] = {}
    for schema, table in shapes:
        place = (schema.lower(), table.lower()) if any_case else (schema, table)
        own = [row[2:] for row in rows if ((row[0].lower(), row[1].lower()) if any_case else (row[0], row[1])) == place]
        kinds = {name: kind for name, kind, _ in own if kind in ("uuid", "inet4", "inet6")}
        scales = {name: scale for name, kind, scale in own if kind in ("float", "double") and scale is not None}
        declared[place] = Declared(zone, kinds, scales)
    return LoggedTables(shapes, declared, connection.dialect, any_case=any_case)


def _zone(connection: Connection) -> datetime.tzinfo | None:
    """Return the zone in which sessions see a TIMESTAMP; None for UTC."""
    name, system = connection.execute(text("SELECT @@SESSION.time_zone, @@system_time_zone")).one()
    name = system if name == "SYSTEM" else name
    if name in ("UTC", "GMT", "+00:00", "-00:00"):
        return None
    if name[:1] in "+-":
        hours, _, minutes = name[1:].partition(":")
        offset = datetime.timedelta(hours=int(hours), minutes=int(minutes))
        return datetime.timezone(-offset if name[0] == "-" else offset)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise UnknownZoneError(
            f"the server's time zone {name!r} is not known here, and a table has a TIMESTAMP: run  "
            f"SET GLOBAL time_zone = '+00:00'  or give it a name such as 'Europe/Berlin'"
        ) from None
