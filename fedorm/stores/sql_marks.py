"""What was written since a moment: by the transaction that wrote a row, or by a column that says when it was changed.

A mark is taken before rows are read. What is committed after it has to be behind it, transactions included that were
under way by then, and that write moments from before it.
"""

from __future__ import annotations

import datetime
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Table,
    cast,
    column,
    func,
    literal,
    or_,
    select,
    text,
)
from sqlalchemy import exc as sa_exc
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import UserDefinedType

from fedorm.exc import StoreError
from fedorm.stores.rows import RowAccess
from fedorm.stores.sql import WRITES, SQLStore

T = TypeVar("T")

_COLUMN, _XID = "changed", "xid"
_HALF = 2**31
"""Transaction numbers of 32 bits are compared by which is behind the other, up to so many apart."""


class SQLMarks(RowAccess):
    """Marks of tables; of a column that holds moments, in UTC where it has no zone."""

    store: SQLStore
    table: Table

    async def mark(self, *, changed: str | None, overlap: float) -> str | None:
        """Return the start of the oldest transaction that may still write, less ``overlap``."""
        if changed is None:
            return None
        started = await self.run(self._oldest_start)
        if started is None:
            return None
        return f"{_COLUMN} {changed} {(started - datetime.timedelta(seconds=overlap)).isoformat()}"

    @abstractmethod
    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Run ``work`` under a greenlet."""

    def _oldest_start(self) -> datetime.datetime | None:
        """Return when the oldest transaction that may still write has begun, in UTC; None if that cannot be told."""
        return datetime.datetime.now(datetime.UTC)

    def written_since(self, since: str) -> ColumnElement[bool]:
        """Return the condition that a row was written since a mark."""
        _, name, moment = since.split(" ", 2)
        written: Column[Any] = self.shape.columns[name]
        value = datetime.datetime.fromisoformat(moment)
        if not (isinstance(written.type, DateTime) and written.type.timezone):
            value = value.replace(tzinfo=None)
        # A row that does not say when it was changed may have been.
        return or_(written >= value, written.is_(None))


class PostgreSQLMarks(SQLMarks):
    """Marks by the numbers of transactions: a row holds that of the one that has written it."""

    async def mark(self, *, changed: str | None, overlap: float) -> str | None:
        """Return the number of the oldest transaction under way, whatever columns say; of a view, None."""
        found: int | None = await self.run(self._oldest_xid)
        return None if found is None else f"{_XID} {found}"

    def _oldest_xid(self) -> int | None:
        with self.store.engine.connect() as connection:
            name = connection.dialect.identifier_preparer.format_table(self.table)
            kind = text("SELECT relkind FROM pg_class WHERE oid = to_regclass(:name)").bindparams(name=name)
            if connection.scalar(kind) not in ("r", b"r"):
                return None
            oldest = func.pg_snapshot_xmin(func.pg_current_snapshot())
            return int(connection.scalar(select(cast(oldest, postgresql.TEXT))))  # type: ignore[arg-type]

    def reaches(self, since: str, now: str) -> bool:
        """Say whether fewer transactions have begun in between than can be told apart.

        There are less than none where the database was restored elsewhere: its rows have other numbers now.
        """
        if not since.startswith(_XID) or not now.startswith(_XID):
            return since.startswith(_COLUMN) and now.startswith(_COLUMN)
        return 0 <= int(now.split()[1]) - int(since.split()[1]) < _HALF - 2**20

    def written_since(self, since: str) -> ColumnElement[bool]:
        """Compare how many transactions ago the row, and the mark, were."""
        if not since.startswith(_XID):
            return super().written_since(since)
        oldest = str(int(since.split()[1]) % 2**32)
        # Both from the same number on, of the next transaction: others have begun since the last that has ended.
        return func.age(self._xmin()) <= func.age(cast(literal(oldest, postgresql.TEXT()), _Xid()))

    def _xmin(self) -> ColumnElement[Any]:
        return column("xmin", _Xid(), _selectable=self.table)  # Each table has it, and no model names it.


class _Xid(UserDefinedType[Any]):
    """PostgreSQL's number of a transaction."""

    cache_ok = True

    def get_col_spec(self, **kw: Any) -> str:
        """Return the type's name."""
        return "xid"


class MySQLMarks(SQLMarks):
    """Marks by a column that says when its row was changed."""

    def _oldest_start(self) -> datetime.datetime | None:
        oldest = text(
            "SELECT UTC_TIMESTAMP(6), TIMESTAMPDIFF(MICROSECOND, MIN(trx_started), NOW(6)) "
            "FROM information_schema.innodb_trx"
        )
        with self.store.engine.connect() as connection:
            try:
                now, age = connection.execute(oldest).one()
            except (sa_exc.DBAPIError, StoreError):  # Without the privilege PROCESS.
                return None
        started: datetime.datetime = now.replace(tzinfo=datetime.UTC) - datetime.timedelta(microseconds=age or 0)
        return started


class SQLiteMarks(SQLMarks):
    """Marks by a column, taken while nobody writes: there is one writer at a time."""

    def _oldest_start(self) -> datetime.datetime | None:
        with self.store.engine.connect() as connection:
            return _alone(connection)


def _alone(connection: Connection) -> datetime.datetime:
    with connection.execution_options(**{WRITES: True}).begin():
        connection.exec_driver_sql("SELECT 1")
        return datetime.datetime.now(datetime.UTC)
