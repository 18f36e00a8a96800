"""Changes of a MySQL or MariaDB database, from its row-based binary log.

A position is a file of the log and a place in it, of the server whose ``server_id`` it names. MariaDB's have a GTID,
too, by which they are found in the log of another server, or in one whose files have other names. MySQL's have none:
after a failover to another server a new snapshot is made.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import pymysql
from sqlalchemy import Connection, bindparam, text
from sqlalchemy import exc as sa_exc
from sqlalchemy.util import greenlet_spawn

from fedorm.exc import ConfigurationError, FeedLostError, ServiceUnavailableError, StoreError
from fedorm.stores.chunk_queue import ChunkQueue
from fedorm.stores.feeds import Backlog, ChangeFeed, Chunk
from fedorm.stores.findings import Finding
from fedorm.stores.mysql_grants import Grants
from fedorm.stores.mysql_images import UnreadableColumnError
from fedorm.stores.mysql_log import LostRowsError, MySQLLog, UnreadableLogError
from fedorm.stores.mysql_packets import LostConnectionError
from fedorm.stores.mysql_position import NOWHERE, LogPlace, Position
from fedorm.stores.mysql_tables import LoggedTables, UnknownZoneError, logged_tables
from fedorm.stores.rows import RowShape

if TYPE_CHECKING:
    from fedorm.stores.mysql import MySQLStore

T = TypeVar("T")
_LOG_ERROR = 1236
_DENIED = {1227, 1045, 1044}
_NO_LOG = 1381
_GONE = "could not find", "impossible position", "purged", "bogus data", "not in the master's binlog"
"""What a server says, under one number with all other errors, of a place that its log does not have."""
_UNDECIDED = 10.0
"""How many seconds a feed that is made waits for transactions that are prepared."""
_MOMENT = 0.1
_UNORDERED = 1.0
"""Seconds within which what MySQL has written to its log is seen by readers."""
_WANTED = {
    "log_bin": ("ON", "start the server with  log_bin  in its [mysqld] section"),
    "binlog_format": ("ROW", "run  SET GLOBAL binlog_format = 'ROW'"),
    "binlog_row_image": ("FULL", "run  SET GLOBAL binlog_row_image = 'FULL'"),
    "binlog_row_metadata": ("FULL", "run  SET GLOBAL binlog_row_metadata = 'FULL'"),
    "log_bin_compress": ("OFF", "run  SET GLOBAL log_bin_compress = OFF"),
    "binlog_transaction_compression": ("OFF", "run  SET GLOBAL binlog_transaction_compression = OFF"),
    "binlog_row_value_options": ("", "run  SET GLOBAL binlog_row_value_options = ''"),
}
"""What settings have to be, where a server has them, and what to do else."""
_HAS_TO_EXIST = {"log_bin", "binlog_format", "binlog_row_image", "binlog_row_metadata"}
_PRIVILEGES = {"REPLICATION SLAVE": (), "REPLICATION CLIENT": ("BINLOG MONITOR",)}
"""What the user needs, and what MariaDB calls it by now."""


class MySQLFeed(ChangeFeed):
    """Reads the binary log in a thread of its own; makes nothing on the server."""

    def __init__(self, store: MySQLStore, shapes: Sequence[RowShape]) -> None:
        self.store, self.shapes = store, shapes
        self._tables: dict[tuple[str, str], list[RowShape]] = {}
        for shape in shapes:
            assert shape.table is not None
            place = shape.table.schema or str(store.url.database), shape.table.name
            self._tables.setdefault(place, []).append(shape)

    # -- what the server says

    async def _ask(self, work: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self.store.engine.connect() as connection:
                return work(connection)

        try:
            return await greenlet_spawn(run)
        except sa_exc.DBAPIError as error:
            number = error.orig.args[0] if error.orig is not None and error.orig.args else None
            if number in _DENIED:
                raise ConfigurationError(
                    f"service {self.store.service!r}: the user may not ask for the binary log: run  "
                    f"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO  the user of {self.store.address}  "
                    f"(and what the server names here: {error.orig})"
                ) from error
            raise self.store.wrap(error) from error

    async def findings(self) -> list[Finding]:
        """Look at the server's variables, the user's grants, and the tables."""
        return await self._ask(self._findings)

    def _findings(self, connection: Connection) -> list[Finding]:
        rows = connection.execute(
            text("SHOW GLOBAL VARIABLES WHERE Variable_name IN :names").bindparams(
                bindparam("names", list(_WANTED), expanding=True)
            )
        )
        there = {name: str(value).upper() for name, value in rows}
        found = [
            Finding(f"{name} is {there.get(name, 'not known to the server')!r} and has to be {wanted!r}", mend)
            for name, (wanted, mend) in _WANTED.items()
            if (name in there or name in _HAS_TO_EXIST) and there.get(name) != wanted
        ]
        grants = Grants.of(connection)
        found += [
            Finding(f"the user has no {privilege}", f"run  GRANT {privilege} ON *.* TO {grants.account}", "privilege")
            for privilege, others in _PRIVILEGES.items()
            if not any(grants.has(one) for one in (privilege, *others))
        ]
        for schema, table in self._tables:
            is_there = connection.scalar(
                text(
                    "SELECT count(*) FROM information_schema.tables"
                    " WHERE table_schema = :schema AND table_name = :table AND table_type LIKE '%TABLE%'"
                ),
                {"schema": schema, "table": table},
            )
            if is_there:
                continue
            if grants.has("SELECT", schema, table):
                found.append(Finding(f"there is no table {schema}.{table}", "make it first", "table"))
            else:  # Those of which the user has no privilege are not listed.
                quote = connection.dialect.identifier_preparer.quote_identifier
                grant = f"run  GRANT SELECT ON {quote(schema)}.{quote(table)} TO {grants.account}"
                found.append(Finding(f"the user has no SELECT on {schema}.{table}", grant, "privilege"))
        try:
            logged_tables(connection, self._tables)
        except UnknownZoneError as error:
            problem, _, mend = str(error).rpartition(": run  ")
            found.append(Finding(problem, f"run  {mend}"))
        return found

    # -- positions

    async def create(self) -> str:
        """Return where the log ends: all before it is seen by those who read later."""
        place = await self._ask(self._status)
        # What is prepared now lies before that place, and may be committed behind it. The server lists it when it has
        # answered, which is a moment after it has written it to its log.
        await asyncio.sleep(_MOMENT)
        pending = await self._ask(self._prepared)
        deadline = time.monotonic() + _UNDECIDED
        while pending:
            if time.monotonic() > deadline:
                raise self.store.error(
                    StoreError,
                    f"{len(pending)} transaction(s) are prepared and not decided; run  fedorm recover,  or end them: "
                    f"see  XA RECOVER",
                )
            await asyncio.sleep(0.05)
            pending &= await self._ask(self._prepared)
        server, after, exact = await self._ask(self._visible)
        if not exact:
            await asyncio.sleep(_UNORDERED)
        start = min(place, after)
        gtid = await self._ask(lambda connection: self._gtid(connection, after)) if start == after else None
        return str(Position(server, after, start, gtid))

    @staticmethod
    def _prepared(connection: Connection) -> set[tuple[Any, ...]]:
        return {tuple(row) for row in connection.execute(text("XA RECOVER"))}

    def _status(self, connection: Connection) -> LogPlace:
        try:
            status = connection.execute(text("SHOW MASTER STATUS")).first()
        except sa_exc.ProgrammingError:  # MySQL 8.4 calls it otherwise.
            status = connection.execute(text("SHOW BINARY LOG STATUS")).first()
        if status is None:
            raise ConfigurationError(f"service {self.store.service!r} has no binary log: {_WANTED['log_bin'][1]}")
        return LogPlace.of(status[0], int(status[1]))

    def _visible(self, connection: Connection) -> tuple[str, LogPlace, bool]:
        """Return the server, a place in its log, and whether readers see all that is before it.

        A transaction is in the log before it can be seen. MariaDB tells the place that belongs to a snapshot.
        """
        server = self._server(connection)
        connection.rollback()
        connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        rows = connection.execute(text("SHOW STATUS LIKE 'binlog_snapshot%'"))
        told = {name.lower(): value for name, value in rows}
        connection.rollback()
        file, position = told.get("binlog_snapshot_file"), told.get("binlog_snapshot_position")
        if file and position:
            return server, LogPlace.of(file, int(position)), True
        return server, self._status(connection), False

    @staticmethod
    def _server(connection: Connection) -> str:
        return str(connection.scalar(text("SELECT @@GLOBAL.server_id")))

    @staticmethod
    def _gtid(connection: Connection, place: LogPlace) -> str | None:
        """Return what MariaDB calls a place in its log; None if it does not know, and for MySQL."""
        if not getattr(connection.dialect, "is_mariadb", False):
            return None
        asked = text("SELECT BINLOG_GTID_POS(:file, :position)")
        return connection.scalar(asked, {"file": place.file, "position": place.position}) or None

    def _logs(self, connection: Connection) -> list[LogPlace]:
        try:
            rows = connection.execute(text("SHOW BINARY LOGS")).all()
        except sa_exc.DBAPIError as error:
            if error.orig is not None and error.orig.args[:1] == (_NO_LOG,):
                advice = _WANTED["log_bin"][1]
                raise ConfigurationError(f"service {self.store.service!r} has no binary log: {advice}") from error
            raise
        return [LogPlace.of(row[0], int(row[1])) for row in rows]

    async def confirm(self, position: str) -> None:
        """Do nothing: the server keeps its log for ``expire_logs_days``, whoever reads it."""

    async def backlog(self, position: str) -> Backlog:
        """Add up the files from the position on."""
        after = Position.parse(position).after
        logs = await self._ask(self._logs)
        return Backlog(
            bytes=sum(
                max(0, log.position - (after.position if log.file == after.file else 0))
                for log in logs
                if log.number >= after.number
            )
        )

    async def drop(self) -> None:
        """Do nothing: there is nothing."""

    # -- the stream

    async def stream(self, position: str) -> AsyncIterator[Chunk]:
        """Read in a thread, over connections of its own; a server that says nothing for 30 seconds is lost."""
        tables, start = await self._ask(lambda connection: self._check(connection, Position.parse(position)))
        queue = ChunkQueue()
        log = MySQLLog(self._options(), tables, start, queue)
        thread = threading.Thread(target=log.run, name=f"fedorm-{self.store.service}-log", daemon=True)
        thread.start()
        try:
            while True:
                try:
                    chunk = await queue.get()
                except Exception as error:
                    raise self._named(error) from error
                yield chunk
        finally:
            log.close()
            await queue.close()
            thread.join()

    def _check(self, connection: Connection, position: Position) -> tuple[LoggedTables, Position]:
        """Return the tables, and the position as this server has it; raise for one that its log does not have."""
        server = self._server(connection)
        missing = self._missing(connection, server, position)
        if missing is None:
            if position.gtid is None and position.start == position.after:
                position = replace(position, gtid=self._gtid(connection, position.after))
        elif position.gtid is None or not getattr(connection.dialect, "is_mariadb", False):
            raise self.store.error(FeedLostError, missing)
        else:
            position = Position(server, NOWHERE, NOWHERE, position.gtid)
        try:
            return logged_tables(connection, self._tables), position
        except UnknownZoneError as error:
            raise ConfigurationError(f"service {self.store.service!r}: {error}") from None

    def _missing(self, connection: Connection, server: str, position: Position) -> str | None:
        """Return why a position's file is not what it was."""
        if server != position.server:
            return "is another server than the one whose log was read"
        sizes = {log.file: log.position for log in self._logs(connection)}
        for place in (position.start, position.after):
            if place.position > sizes.get(place.file, -1):
                return (
                    f"its binary log does not have {place.file} up to {place.position} any more: keep it for longer, "
                    f"by  SET GLOBAL expire_logs_days  (MariaDB) or  binlog_expire_logs_seconds  (MySQL)"
                )
        return None

    def _options(self) -> dict[str, Any]:
        """Return PyMySQL's arguments, those of the store's engine for threads."""
        url = self.store.url.set(drivername=f"mysql+{self.store.sync_driver}")
        dialect = url.get_dialect()()
        _, own = dialect.create_connect_args(url)
        given = self.store.settings.options.get("connect_args", {})
        return {**own, **self.store.connect_args(url, is_async=False), **given}

    def _named(self, error: BaseException) -> Exception:
        store = self.store
        number = error.args[0] if isinstance(error, pymysql.MySQLError) and error.args else None
        if isinstance(error, LostConnectionError):
            return store.error(ServiceUnavailableError, str(error))
        if isinstance(error, LostRowsError):
            return store.error(FeedLostError, str(error))
        if isinstance(error, UnreadableLogError | UnreadableColumnError):
            return ConfigurationError(f"service {store.service!r}: its binary log cannot be read: {error}")
        if number in _DENIED:
            return ConfigurationError(
                f"service {store.service!r}: the user may not read the binary log: run  "
                f"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO  the user of {store.address}"
            )
        if number == _LOG_ERROR:
            kind = FeedLostError if _is_lost(str(error)) else StoreError
            return store.error(kind, error)
        if isinstance(error, pymysql.MySQLError | OSError | EOFError):
            return store.wrap(error)
        return store.error(StoreError, f"its binary log could not be read: {type(error).__name__}: {error}")


def _is_lost(message: str) -> bool:
    text = message.lower()
    return any(word in text for word in _GONE)
