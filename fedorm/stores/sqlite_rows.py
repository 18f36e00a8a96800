"""Whole rows of SQLite's tables by key."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy import Column, or_
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.dml import Insert

from fedorm.stores.sql_marks import SQLiteMarks
from fedorm.stores.sql_rows import SQLRowAccess


class SQLiteRowAccess(SQLiteMarks, SQLRowAccess):
    """Writes by ``ON CONFLICT``, one statement for all rows."""

    def upserting(self, values: dict[Column[Any], Any]) -> Insert:
        """Leave a row alone that is as it has to be."""
        made = sqlite.insert(self.table).inline().values(values)
        if not self.replaced:
            return made.on_conflict_do_nothing(index_elements=self.keys)
        return made.on_conflict_do_update(
            index_elements=self.keys,
            set_={column: made.excluded[column.key] for column in self.replaced},
            where=or_(*(column.is_distinct_from(made.excluded[column.key]) for column in self.replaced)),
        )

    def fault(self, error: BaseException) -> str | None:
        """Go by the library's classes: what it cannot bind is a value's fault, too."""
        text = str(error)
        if isinstance(error, sqlite3.IntegrityError | sqlite3.DataError):
            return text
        unknown = "Error binding parameter" in text or "not supported" in text
        if unknown or isinstance(error, OverflowError | UnicodeError):
            return f"{type(error).__name__}: a value that SQLite does not hold"
        return None
