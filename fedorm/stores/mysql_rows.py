"""Whole rows of MySQL's and MariaDB's tables by key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Column, Connection, and_, func, inspect, null, select, text
from sqlalchemy.dialects import mysql
from sqlalchemy.sql.dml import Insert

from fedorm.exc import UnsupportedOperationError
from fedorm.stores.rows import Key, Values
from fedorm.stores.sql_marks import MySQLMarks
from fedorm.stores.sql_rows import SQLRowAccess
from fedorm.stores.touched import NOTHING
from fedorm.stores.watching import TOUCHED

_NULL: Any = null()
_CLASH = 1242
"""The server's number for a subquery of more than one row, by which a statement is made to fail."""
_FAULTS = {
    1048, 1062, 1118, 1136, 1153, 1169, 1216, 1217, 1263, 1264, 1265, 1292, 1364, 1365, 1366, 1367, 1406, 1411, 1441,
    1451, 1452, 1526, 1557, 1586, 1644, 1690, 1748, 1761, 1762, 1859, 1906, 3140, 3141, 3155, 3156, 3819, 4025,
}  # fmt: skip
"""What is wrong with a row, a SIGNAL of a trigger included; PyMySQL calls a half of it an error of the server's."""


class MySQLRowAccess(MySQLMarks, SQLRowAccess):
    """Writes by ``ON DUPLICATE KEY UPDATE``, many rows in a statement.

    A row that has another unique value in common with a row of another key is refused: the database by itself would
    change that other row.
    """

    compares_rows = False
    narrow = r"FLOAT(?!\((2[5-9]|[345]\d)\))"

    def upsert_bound(self, connection: Connection, columns: Sequence[Sequence[Any]], number: int) -> None:
        """Have the server refuse what does not fit, and take a zero for an automatic key as it is."""
        self._refuse_doubles(connection)
        counted: Any = self.table.autoincrement_column
        zero = any(0 in values for column, values in zip(self.inserted, columns, strict=True) if column is counted)
        with self._exact(connection, *(["NO_AUTO_VALUE_ON_ZERO"] if zero else [])):
            super().upsert_bound(connection, columns, number)

    def _refuse_doubles(self, connection: Connection) -> None:
        """See that the server knows a row by its key: it would add another one of the same key each time."""
        names = {column.name for column in self.keys}
        if self._key_is_unique or names == {column.name for column in self.table.primary_key}:
            return
        asked, place = inspect(connection), (self.table.name, self.table.schema)
        unique: list[Any] = [asked.get_pk_constraint(*place)["constrained_columns"]]
        unique += [index["column_names"] for index in asked.get_indexes(*place) if index["unique"]]
        if not any(one and set(one) <= names for one in unique):
            raise self.store.error(
                UnsupportedOperationError,
                f"{self.shape.label}: no unique index keeps a key ({', '.join(sorted(names))}) from being there twice: "
                f"make one",
            )
        self._key_is_unique = True

    _key_is_unique = False

    def change(self, connection: Connection, changes: Sequence[tuple[Key, Values]]) -> None:
        """Have the server refuse what does not fit."""
        with self._exact(connection):
            super().change(connection, changes)

    @contextmanager
    def _exact(self, connection: Connection, *modes: str) -> Iterator[None]:
        """Set ``sql_mode`` for what is done within, where it is not so already."""
        if self._mode is None:
            self._mode = str(connection.scalar(text("SELECT @@SESSION.sql_mode")))
        there = [mode for mode in self._mode.split(",") if mode]
        strict = any(mode.startswith("STRICT_") for mode in there)
        missing = [mode for mode in (*modes, *([] if strict else ["STRICT_ALL_TABLES"])) if mode not in there]
        if not missing:
            yield
            return
        self._set_mode(connection, ",".join([*there, *missing]))
        try:
            yield
        finally:
            if not connection.invalidated:
                with suppress(Exception):  # A connection that is gone takes its mode with it.
                    self._set_mode(connection, self._mode)

    @staticmethod
    def _set_mode(connection: Connection, mode: str) -> None:
        connection.exec_driver_sql("SET SESSION sql_mode = %s", (mode,), execution_options={TOUCHED: NOTHING})

    _mode: str | None = None
    """That of the pool's connections; None until it was asked."""

    def upserting(self, values: dict[Column[Any], Any]) -> Insert:
        """Make the statement fail where the row that is there has another key."""
        made = mysql.insert(self.table).inline().values(values)
        same = and_(*(column == made.inserted[column.key] for column in self.keys))
        several = select(_NULL).union_all(select(_NULL)).scalar_subquery()
        first = self.keys[0]
        guard = {first.name: func.if_(same, first, several)}
        changed = {column.name: made.inserted[column.key] for column in self.replaced}
        return made.on_duplicate_key_update(list({**guard, **changed}.items()))

    def fault(self, error: BaseException) -> str | None:
        """Go by the server's numbers."""
        number = error.args[0] if error.args else None
        if number == _CLASH:
            return "a row has a unique value in common with a row of another key"
        if isinstance(number, int) and number in _FAULTS:
            return f"{number}: {error.args[-1]}"
        if isinstance(error, TypeError | ValueError) or "can not be used with MySQL" in str(error):
            return f"{type(error).__name__}: a value that MySQL does not hold"
        return None
