"""The binary log of MySQL and MariaDB as whole transactions; blocks, and is read in a thread of its own."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pymysql
from pymysql.constants import CR
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.event import (
    HeartbeatLogEvent,
    MariadbGtidEvent,
    NotImplementedEvent,
    QueryEvent,
    RotateEvent,
    XAPrepareEvent,
    XidEvent,
)
from pymysqlreplication.row_event import DeleteRowsEvent, PartialUpdateRowsEvent, UpdateRowsEvent, WriteRowsEvent
from sqlalchemy.engine import Dialect

from fedorm.stores.chunk_queue import PART, ChunkQueue
from fedorm.stores.feeds import Change, Chunk
from fedorm.stores.mysql_images import Declared, RowReader
from fedorm.stores.mysql_position import LogPlace, Position
from fedorm.stores.mysql_statements import first_word, mentions, truncated_table
from fedorm.stores.rows import Key, RowShape, Values

_HEARTBEAT = 1
"""Seconds after which an idle server says that it is there."""
_SILENCE = 30
"""Seconds of silence after which it is taken for gone."""
_PATIENCE = 2
"""Seconds that the end of a stream takes at most."""
_QUIET = 1.0
"""Seconds between two positions without changes."""
_COMPRESSED = {40, 165, 166, 167, 168, 169, 170, 171}
"""The numbers of events that mysql-replication passes over: what is in them would be missed."""
_STANDALONE, _PREPARED_XA = 1, 64
"""Flags of MariaDB's GTID events."""
_WRITES = {"INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "WITH"}
_ROWS = (WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent)


class LostConnectionError(Exception):
    """The server has gone, or says nothing any more."""


class LostRowsError(Exception):
    """The log does not tell what has become of the rows."""


class UnreadableLogError(Exception):
    """The log is not written as it has to be."""


class _Connection(pymysql.connections.Connection):  # type: ignore[misc]
    """A connection whose loss is not mended in silence: the library would read on from amid a transaction."""

    def _read_packet(self, *args: Any, **options: Any) -> Any:
        try:
            return super()._read_packet(*args, **options)
        except pymysql.OperationalError as error:
            if error.args and error.args[0] in (CR.CR_SERVER_LOST, CR.CR_SERVER_GONE_ERROR):
                raise LostConnectionError(str(error.args[-1])) from error
            raise


Tables = Mapping[tuple[str, str], Sequence[RowShape]]
"""What is wanted: shapes by schema and table."""


class MySQLLog:
    """Reads from a position on into a queue, until it is closed."""

    def __init__(
        self,
        options: Mapping[str, Any],
        tables: Tables,
        position: Position,
        dialect: Dialect,
        declared: Mapping[tuple[str, str], Declared],
        queue: ChunkQueue,
    ) -> None:
        self._tables, self._dialect, self._declared, self._queue = tables, dialect, declared, queue
        self._server = position.server
        self._options = dict(options)
        self._options["read_timeout"] = _SILENCE
        self._connections: list[_Connection] = []
        self._closing = False
        self._reader = self._library(position.start)
        self._readers: dict[int, tuple[Any, list[RowReader]]] = {}
        # -- the transaction that is being read
        self._after = position.after
        self._begin = self._end = position.start
        self._in_group = self._is_xa = False
        self._changes: list[Change] = []
        self._sent = 0
        self._savepoints: dict[str, int] = {}
        # -- those that are prepared, and what was told
        self._prepared: dict[str, tuple[list[Change], LogPlace]] = {}
        self._told = position.after
        self._told_at = 0.0

    def _library(self, start: LogPlace) -> BinLogStreamReader:
        return BinLogStreamReader(
            dict(self._options),
            server_id=random.randrange(2**31, 2**32),  # noqa: S311 - no secret; like no other reader's.
            resume_stream=True,
            blocking=True,
            log_file=start.file,
            log_pos=start.position,
            only_events=[
                *_ROWS,
                PartialUpdateRowsEvent,
                QueryEvent,
                XidEvent,
                XAPrepareEvent,
                MariadbGtidEvent,
                RotateEvent,
                HeartbeatLogEvent,
                NotImplementedEvent,
            ],
            only_schemas=sorted({schema for schema, _ in self._tables}),
            only_tables=sorted({table for _, table in self._tables}),
            # A server never gives a table's number to another version of it, and a new file begins anew.
            freeze_schema=True,
            filter_non_implemented_events=False,
            slave_heartbeat=_HEARTBEAT,
            enable_logging=False,
            pymysql_wrapper=self._connect,
        )

    def _connect(self, **options: Any) -> _Connection:
        options.pop("db", None)
        connection = _Connection(**options, defer_connect=True)
        self._connections.append(connection)
        if not self._closing:
            connection.connect()
            # Who waits for a slow target does not read for a while: that is no reason to hang up.
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION net_write_timeout = 31536000, SESSION wait_timeout = 31536000")
        if self._closing:
            self.close()
            raise LostConnectionError("closed")
        return connection

    def close(self) -> None:
        """Break the connection that is read; also from another thread, which wakes the one that waits for it."""
        self._closing = True
        sock = self._connections[0]._sock if self._connections else None
        if sock is not None:
            with suppress(OSError, ValueError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def run(self) -> None:
        """Read until the end; tell the queue why it ended."""
        error: BaseException | None = None
        try:
            while not self._closing:
                event = self._reader.fetchone()
                if event is None:
                    raise LostConnectionError("the server has ended the stream")
                self._take(event)
        except BaseException as caught:
            error = caught
        finally:
            with suppress(Exception):
                self._hang_up()
            for connection in self._connections:
                with suppress(Exception):
                    connection.close()
            self._queue.end(error)

    def _hang_up(self) -> None:
        """Make the server end the stream: by itself it sees that nobody is there at its next two heartbeats."""
        if len(self._connections) > 1:
            stream, other = self._connections
            other._read_timeout = _PATIENCE
            other.kill(stream.thread_id())

    # -- events

    def _take(self, event: Any) -> None:
        if isinstance(event, _ROWS):
            self._rows(event)
        elif isinstance(event, XidEvent):
            self._commit(event.timestamp)
        elif isinstance(event, QueryEvent):
            self._query(event)
        elif isinstance(event, MariadbGtidEvent):
            if not event.flags & _STANDALONE:
                self._start(is_xa=bool(event.flags & _PREPARED_XA))
        elif isinstance(event, HeartbeatLogEvent):
            self._quiet(0.0)
        elif isinstance(event, RotateEvent):
            if event.timestamp and not self._in_group:
                self._finish()
        elif isinstance(event, XAPrepareEvent):
            self._prepare(event)
        elif isinstance(event, PartialUpdateRowsEvent):
            raise UnreadableLogError(
                "updates of JSON are written in parts: run  SET GLOBAL binlog_row_value_options = ''"
            )
        elif event.event_type in _COMPRESSED:
            raise UnreadableLogError(
                "its events are compressed: run  SET GLOBAL log_bin_compress = OFF  (MariaDB) or  "
                "SET GLOBAL binlog_transaction_compression = OFF  (MySQL)"
            )

    def _query(self, event: Any) -> None:
        word = first_word(event.query)
        if word == "COMMIT":
            self._commit(event.timestamp)
        elif word == "BEGIN":
            self._start(is_xa=False)
        elif word == "ROLLBACK":
            self._roll_back(event.query)
        elif word == "SAVEPOINT":
            self._savepoints[event.query.split(None, 1)[1].lower()] = self._sent + len(self._changes)
        elif word == "XA":
            self._xa(event)
        else:
            self._statement(word, event)
            if not self._in_group:  # A change of a table commits itself.
                self._commit(event.timestamp)

    def _statement(self, word: str, event: Any) -> None:
        schema = event.schema.decode()
        if word == "TRUNCATE":
            for shape in self._tables.get(truncated_table(event.query, schema) or ("", ""), ()):
                self._changes.append(Change(shape, "truncate"))
        elif word in _WRITES and mentions(event.query, {table for _, table in self._tables}):
            raise LostRowsError(
                f"a statement was written to the log in the place of its rows ({word} ...), as somebody's "
                f"binlog_format is not ROW"
            )

    def _start(self, *, is_xa: bool) -> None:
        self._in_group, self._is_xa = True, is_xa
        self._changes, self._sent = [], 0
        self._savepoints.clear()

    # -- rows

    def _rows(self, event: Any) -> None:
        if self._end < self._after and not self._is_xa:
            return  # Read before; the log is read anew for what is prepared alone.
        table = event.table_map[event.table_id]
        known = self._readers.get(event.table_id)
        if known is None or known[0] is not table:
            known = self._readers[event.table_id] = table, self._row_readers(table)
        packet = event.packet.packet
        data, begin = packet._data, packet._position
        # An OK byte and the header are before; a checksum may be behind.
        end = 20 + event.event_size
        for reader in known[1]:
            self._read_rows(reader, event, data, begin, end)
        if len(self._changes) >= PART and not self._is_xa:
            self._put(Chunk(self._changes), whole=False)
            self._sent += len(self._changes)
            self._changes = []

    def _row_readers(self, table: Any) -> list[RowReader]:
        if table.columns and table.columns[0].name is None:
            raise UnreadableLogError(
                "it does not tell the names of columns: run  SET GLOBAL binlog_row_metadata = 'FULL'"
            )
        place = table.schema, table.table
        shapes = self._tables.get(place, ())
        readers = [RowReader(table.columns, shape, self._dialect, self._declared[place]) for shape in shapes]
        for reader in readers:
            gone = [name for name in reader.shape.key if name in reader.missing]
            if gone:
                raise UnreadableLogError(
                    f"rows of {table.table} have no {', '.join(gone)}, the key of {reader.shape.label}"
                )
        return readers

    def _read_rows(self, reader: RowReader, event: Any, data: bytes, at: int, end: int) -> None:
        shape, read, present = reader.shape, reader.read, event.columns_present_bitmap
        append, key_of = self._changes.append, _key_of(shape.key)
        if isinstance(event, UpdateRowsEvent):
            now = event.columns_present_bitmap2
            while at < end:
                before, at = read(data, at, present)
                values, at = read(data, at, now)
                key = key_of(values if present == now else {**before, **values})
                append(Change(shape, "upsert", key, values, before))
        elif isinstance(event, WriteRowsEvent):
            while at < end:
                values, at = read(data, at, present)
                append(Change(shape, "upsert", key_of(values), values))
        else:
            while at < end:
                before, at = read(data, at, present)
                append(Change(shape, "delete", key_of(before), None, before))

    # -- ends of transactions

    def _commit(self, timestamp: int) -> None:
        changes, sent = self._changes, self._sent
        self._finish()
        self._emit(changes, timestamp, whole=not sent)

    def _roll_back(self, query: str) -> None:
        words = query.split(None, 2)  # ROLLBACK TO `name`
        if len(words) == 1:
            if self._sent:
                raise LostRowsError("a large transaction was rolled back after parts of it had been read")
            self._changes = []
            self._finish()
            self._quiet(_QUIET)
            return
        kept = self._savepoints.get(words[-1].lower(), 0) - self._sent
        if kept < 0:
            raise LostRowsError("a large transaction was rolled back to a savepoint after parts of it had been read")
        del self._changes[kept:]

    def _finish(self) -> None:
        """End a transaction: the log has been read up to here."""
        self._end = LogPlace.of(self._reader.log_file, self._reader.log_pos)
        self._in_group = self._is_xa = False
        self._changes, self._sent = [], 0

    def _emit(self, changes: list[Change], timestamp: int, *, whole: bool) -> None:
        if self._end <= self._after:
            return
        if not changes and whole:
            self._quiet(_QUIET)
            return
        while len(changes) > PART:
            self._put(Chunk(changes[:PART]), whole=False)
            changes, whole = changes[PART:], False
        self._put(Chunk(changes, str(self._position()), float(timestamp) or None), whole=whole)
        self._told, self._told_at = self._end, time.monotonic()

    def _quiet(self, seconds: float) -> None:
        """Tell a position without changes, when there was none for so long."""
        if self._in_group or self._end <= self._told or time.monotonic() - self._told_at < seconds:
            return
        self._put(Chunk([], str(self._position())), whole=True)
        self._told, self._told_at = self._end, time.monotonic()

    def _position(self) -> Position:
        start = min((begin for _, begin in self._prepared.values()), default=self._end)
        return Position(self._server, self._end, start)

    def _put(self, chunk: Chunk, *, whole: bool) -> None:
        if not self._queue.put(chunk, whole=whole):
            raise LostConnectionError("closed")

    # -- transactions of two phases

    def _prepare(self, event: Any) -> None:
        if event.one_phase:
            self._commit(event.timestamp)
            return
        changes, begin = self._changes, self._end
        self._finish()
        if changes:
            # As the server writes it where such a transaction ends.
            name = f"X'{event.xid_gtrid.hex()}',X'{event.xid_bqual.hex()}',{event.xid_format_id}"
            self._prepared[name] = changes, begin
        self._quiet(_QUIET)

    def _xa(self, event: Any) -> None:
        words = event.query.split()
        kind, name = words[1].upper(), words[2]
        if kind in ("START", "BEGIN"):
            self._start(is_xa=True)
        elif kind in ("COMMIT", "ROLLBACK"):
            if self._in_group:
                # With one phase: MySQL writes no other end.
                (self._commit(event.timestamp) if kind == "COMMIT" else self._roll_back("ROLLBACK"))
                return
            changes, _ = self._prepared.pop(name, ([], self._end))
            self._finish()
            self._emit(changes if kind == "COMMIT" else [], event.timestamp, whole=True)


def _key_of(names: Sequence[str]) -> Callable[[Values], Key]:
    if len(names) == 1:
        name = names[0]
        return lambda values: (values[name],)
    return lambda values: tuple([values[name] for name in names])
