"""The binary log of MySQL and MariaDB as whole transactions; blocks, and is read in a thread of its own."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

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
from pymysqlreplication.row_event import PartialUpdateRowsEvent

from fedorm.stores.chunk_queue import PART, ChunkQueue
from fedorm.stores.feeds import Change, Chunk
from fedorm.stores.mysql_images import RowReader
from fedorm.stores.mysql_packets import (
    MARIADB_GTID,
    ROWS,
    TABLE_MAP,
    TYPE,
    XID,
    LogConnection,
    LostConnectionError,
    key_getter,
    mariadb_flags,
    mariadb_gtid,
    read_changes,
    read_header,
    read_rows,
    table_number,
)
from fedorm.stores.mysql_position import NOWHERE, Gtids, LogPlace, Position
from fedorm.stores.mysql_statements import first_word
from fedorm.stores.mysql_tables import LoggedTables
from fedorm.stores.rows import Key, Values

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
_AT_ONCE = {*ROWS, XID, MARIADB_GTID}
"""Types of events that need no library."""
_WRITES = {"INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "WITH"}


class LostRowsError(Exception):
    """The log does not tell what has become of the rows."""


class UnreadableLogError(Exception):
    """The log is not written as it has to be."""


class MySQLLog:
    """Reads from a position on into a queue, until it is closed."""

    def __init__(
        self,
        options: Mapping[str, Any],
        tables: LoggedTables,
        position: Position,
        queue: ChunkQueue,
    ) -> None:
        self._tables, self._queue = tables, queue
        self._server = position.server
        self._options = dict(options)
        self._options["read_timeout"] = _SILENCE
        self._connections: list[LogConnection] = []
        self._closing = False
        self._gtids = Gtids(position.gtid)
        self._reader = self._library(position)
        self._readers: dict[int, list[tuple[RowReader, Callable[[Values], Key]]]] = {}
        self._passed: set[int] = set()
        """Numbers of tables that are none of those that are wanted."""
        self._checksum = 0
        """How many bytes of a checksum each event has behind it."""
        # -- the transaction that is being read
        self._after = position.after
        self._repeats = position.start < position.after
        """Whether what is read has been told before; it is read for what is prepared in it alone."""
        self._end = position.start
        self._in_group = self._is_xa = False
        self._changes: list[Change] = []
        self._sent = 0
        self._savepoints: dict[str, int] = {}
        # -- those that are prepared, and what was told
        self._prepared: dict[str, tuple[list[Change], LogPlace]] = {}
        self._told = position.after
        self._told_at = 0.0

    def _library(self, position: Position) -> BinLogStreamReader:
        return BinLogStreamReader(
            dict(self._options),
            server_id=random.randrange(2**31, 2**32),  # noqa: S311 - no secret; like no other reader's.
            resume_stream=True,
            blocking=True,
            log_file=position.start.file,
            log_pos=position.start.position,
            auto_position=position.gtid if position.start is NOWHERE else None,
            is_mariadb=position.start is NOWHERE,
            only_events=[
                PartialUpdateRowsEvent,
                QueryEvent,
                XidEvent,
                XAPrepareEvent,
                MariadbGtidEvent,
                RotateEvent,
                HeartbeatLogEvent,
                NotImplementedEvent,
            ],
            only_schemas=self._tables.schemas,
            only_tables=self._tables.names,
            # While it runs, a server gives no number of a table's version to another.
            freeze_schema=True,
            filter_non_implemented_events=False,
            slave_heartbeat=_HEARTBEAT,
            enable_logging=False,
            pymysql_wrapper=self._connect,
        )

    def _connect(self, **options: Any) -> LogConnection:
        options.pop("db", None)
        connection = LogConnection(**options, defer_connect=True)
        self._connections.append(connection)
        if not self._closing:
            connection.connect()
            # Who waits for a slow target does not read for a while: that is no reason to hang up.
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION net_write_timeout = 31536000, SESSION wait_timeout = 31536000")
            connection.read_ahead()
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
                if (stream := self._connections[0]).take is None:  # The first event: what follows are others.
                    self._checksum = event.packet.event_size - 19 - event.event_size
                    stream.take = self._take_packet
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

    def _take_packet(self, data: bytes) -> bool:
        """Take an event as it comes; False for one that the library has to read."""
        if data[0]:  # An error, or the end.
            return False
        kind = data[TYPE]
        if kind == TABLE_MAP:
            number = table_number(data)
            if number not in self._reader.table_map and number not in self._passed:
                return False
        elif kind not in _AT_ONCE:
            return False
        timestamp, behind = read_header(data)
        if behind:
            self._reader.log_pos = behind
        if kind in ROWS:
            self._rows(table_number(data), data)
        elif kind == XID:
            self._commit(timestamp)
        elif kind == MARIADB_GTID:
            self._begin(mariadb_flags(data), *mariadb_gtid(data))
        return True

    def _begin(self, flags: int, domain: int, gtid: str) -> None:
        self._gtids.begin(domain, gtid)
        if not flags & _STANDALONE:
            self._start(is_xa=bool(flags & _PREPARED_XA))

    def _take(self, event: Any) -> None:
        if isinstance(event, XidEvent):
            self._commit(event.timestamp)
        elif isinstance(event, QueryEvent):
            self._query(event)
        elif isinstance(event, MariadbGtidEvent):
            self._begin(event.flags, event.domain_id, event.gtid)
        elif isinstance(event, HeartbeatLogEvent):
            self._quiet(0.0)
        elif isinstance(event, RotateEvent):
            # Another file may be of another run of the server, which has given the tables' numbers anew.
            self._reader.table_map = {}
            self._readers.clear()
            self._passed.clear()
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
            for shape in self._tables.truncated(event.query, schema):
                self._changes.append(Change(shape, "truncate"))
        elif word in _WRITES and self._tables.may_be_written(event.query, schema):
            raise LostRowsError(
                f"a statement was written to the log in the place of its rows ({word} ...), as somebody's "
                f"binlog_format is not ROW"
            )

    def _start(self, *, is_xa: bool) -> None:
        self._in_group, self._is_xa = True, is_xa
        self._changes, self._sent = [], 0
        self._savepoints.clear()

    # -- rows

    def _rows(self, number: int, data: bytes) -> None:
        if self._repeats and not self._is_xa:
            return
        readers = self._readers.get(number)
        if readers is None:
            table = self._reader.table_map.get(number)
            if table is None:
                self._passed.add(number)
                return
            readers = [(reader, key_getter(reader.shape.key)) for reader in self._row_readers(table)]
            self._readers[number] = readers
        rows = read_rows(data, self._checksum)
        for reader, key_of in readers:
            read_changes(rows, reader, key_of, self._changes)
        if len(self._changes) >= PART and not self._is_xa:
            self._put(Chunk(self._changes), whole=False)
            self._sent += len(self._changes)
            self._changes = []

    def _row_readers(self, table: Any) -> list[RowReader]:
        if table.columns and table.columns[0].name is None:
            raise UnreadableLogError(
                "it does not tell the names of columns: run  SET GLOBAL binlog_row_metadata = 'FULL'"
            )
        readers = self._tables.readers(table)
        for reader in readers:
            gone = [name for name in reader.shape.key if name in reader.missing]
            if gone:
                raise UnreadableLogError(
                    f"rows of {table.table} have no {', '.join(gone)}, the key of {reader.shape.label}"
                )
        return readers

    # -- ends of transactions

    def _commit(self, timestamp: int) -> None:
        changes, sent = self._changes, self._sent
        self._end_with(changes, timestamp, whole=not sent)

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
        self._gtids.end()
        self._repeats = self._repeats and self._end < self._after
        self._in_group = self._is_xa = False
        self._changes, self._sent = [], 0

    def _end_with(self, changes: list[Change], timestamp: int, *, whole: bool) -> None:
        repeated = self._repeats
        self._finish()
        if repeated:
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
        return Position(self._server, self._end, start, self._gtids.told() if start == self._end else None)

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
            self._end_with(changes if kind == "COMMIT" else [], event.timestamp, whole=True)
