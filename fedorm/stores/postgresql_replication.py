"""A connection that PostgreSQL sends a slot's changes over: psycopg's libpq in COPY mode both ways, never waiting.

https://www.postgresql.org/docs/current/protocol-replication.html
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from struct import Struct
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

DATA, KEEPALIVE = b"wk"
HEADER = 25
"""Bytes before the message of a plugin."""
_keepalive = Struct(">QqB").unpack_from
_STATUS = Struct(">BQQQqB")
_EPOCH = 946_684_800_000_000
_OPTIONS = {
    # Values are to be written as psycopg's loaders read them, whatever the role or the database has set.
    "DateStyle": "ISO", "IntervalStyle": "postgres", "TimeZone": "UTC", "extra_float_digits": "3",
    "bytea_output": "hex", "statement_timeout": "0",
}  # fmt: skip
_LIVELINESS = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""In seconds: a server that vanished without a word is missed after a minute, not after two hours."""
_NOT_LIBPQ = ("context", "autocommit", "prepare_threshold", "row_factory", "cursor_factory")


def connection_parameters(engine: Engine, connect_args: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what psycopg connects with: all that the engine does, and what a replication connection needs."""
    _, parameters = engine.dialect.create_connect_args(engine.url)
    parameters = {**_LIVELINESS, "fallback_application_name": name, **parameters, **connect_args}
    for unknown in _NOT_LIBPQ:
        parameters.pop(unknown, None)
    options = [str(parameters.get("options") or "")]
    options += [f"-c {setting}={value}" for setting, value in _OPTIONS.items()]
    return {
        **parameters,
        "options": " ".join(options).strip(),
        "client_encoding": "utf-8",
        "replication": "database",
    }


class Replication:
    """One such connection; used by one task, and answers the server while that is busy elsewhere."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._pgconn: PGconn = connection.pgconn
        self._socket = self._pgconn.socket
        self._loop = asyncio.get_running_loop()
        self._patience = 10.0
        """After so many seconds without a word from us the server has to get one."""
        self._timer: asyncio.TimerHandle | None = None
        self._ready: asyncio.Future[None] | None = None
        self._reading = self._writing = self._lost = False
        """Whether the loop watches the socket for us, and whether libpq has closed it."""
        self.received = 0
        """How far the log has come here."""
        self.confirmed = 0
        """How far it is not needed any more; 0 as long as that is unknown."""

    @classmethod
    async def open(cls, parameters: dict[str, Any]) -> Replication:
        """Connect; raises psycopg's errors."""
        from psycopg import AsyncConnection

        connection = await AsyncConnection.connect(**parameters, autocommit=True)
        connection.pgconn.nonblocking = 1
        made = cls(connection)
        try:
            await made._agree()
        except BaseException:
            made.close()
            raise
        return made

    def close(self) -> None:
        """End the connection; closing twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
        self._write_later(False)
        self._pgconn.finish()

    async def start(self, slot: str, publication: str, position: str) -> None:
        """Let the changes come from a position on; raises psycopg's error; may be tried again."""
        from psycopg.pq import ExecStatus
        from psycopg.sql import SQL, Identifier, Literal

        statement = SQL(
            "START_REPLICATION SLOT {slot} LOGICAL {position} (proto_version '1', publication_names {publications})"
        ).format(
            slot=Identifier(slot),
            position=SQL(position),
            publications=Literal(Identifier(publication).as_string(self._connection)),
        )
        await self._do(statement.as_bytes(self._connection), ExecStatus.COPY_BOTH)
        self._tell()
        self._timer = self._loop.call_later(self._patience, self._tell_in_time)

    async def _agree(self) -> None:
        """Ask how long a silence the server bears."""
        from psycopg.pq import ExecStatus

        asked = b"SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'"
        result = await self._do(asked, ExecStatus.TUPLES_OK)
        milliseconds = int(result.get_value(0, 0) or 0)
        if milliseconds:
            self._patience = min(self._patience, milliseconds / 3000)
        while await self._result() is not None:
            pass

    async def _do(self, statement: bytes, wanted: int) -> PGresult:
        from psycopg import OperationalError
        from psycopg.errors import error_from_result

        self._pgconn.send_query(statement)
        result = await self._result()
        if result is None:
            raise OperationalError("server closed the connection: it gives no answer")
        if result.status != wanted:
            while await self._result() is not None:
                pass
            raise error_from_result(result, "utf-8")
        return result

    async def _result(self) -> PGresult | None:
        self._flush()
        while self._pgconn.is_busy():
            await self.readable(None)
            self._pgconn.consume_input()
        return self._pgconn.get_result()

    # -- what comes

    def next(self) -> bytes | None:
        """Return the next message that has come whole, None if there is none; raises psycopg's error at the end."""
        size, data = self._pgconn.get_copy_data(1)
        if size > 0:
            return bytes(data)
        if size == 0:
            return None
        raise self._ended()

    def _ended(self) -> Exception:
        from psycopg import OperationalError
        from psycopg.errors import error_from_result
        from psycopg.pq import ExecStatus

        result = None if self._pgconn.is_busy() else self._pgconn.get_result()
        if result is not None and result.status == ExecStatus.FATAL_ERROR:
            return error_from_result(result, "utf-8")
        return OperationalError("server closed the connection: it has ended the stream of changes")

    def take_in(self) -> None:
        """Read what has arrived, without waiting."""
        self._pgconn.consume_input()

    async def readable(self, seconds: float | None) -> None:
        """Wait until something arrives, at most some seconds."""
        if self._pgconn.ssl_in_use:
            # Of what OpenSSL has decrypted already the socket does not tell.
            seconds = 1.0 if seconds is None else min(seconds, 1.0)
        if self._lost:
            return  # The next that is asked of libpq says why.
        self._ready = self._loop.create_future()
        timer = None if seconds is None else self._loop.call_later(max(seconds, 0), self._wake)
        self._reading = True
        self._loop.add_reader(self._socket, self._wake)
        try:
            await self._ready
        finally:
            self._read_no_more()
            self._ready = None
            if timer is not None:
                timer.cancel()

    def _read_no_more(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._socket)
        self._reading = False

    def _wake(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    # -- what is told

    def confirm(self, position: int) -> None:
        """Tell that the log is not needed any more before a position."""
        if position > self.confirmed:
            self.confirmed = position
            self._tell()

    def ask(self) -> None:
        """Have the server tell how far it has read the log."""
        self._tell(asking=True)

    def answer(self, data: bytes) -> tuple[int, bool]:
        """Read a keepalive and answer it; return how far the log was read, and whether the server wanted an answer."""
        end, _, wanted = _keepalive(data, 1)
        self.received = max(self.received, end)
        if wanted:
            # A server that shuts down waits until it hears that all has come; of an unconfirmed rest it then must not
            # hear, or it would wait until that is written somewhere, too. 0 means that nothing is said about that.
            self._tell(confirmed=0)
        return end, bool(wanted)

    def _tell_in_time(self) -> None:
        self._tell()
        if not self._lost:
            self._timer = self._loop.call_later(self._patience, self._tell_in_time)

    def _tell(self, *, confirmed: int | None = None, asking: bool = False) -> None:
        confirmed = self.confirmed if confirmed is None else confirmed
        now = time.time_ns() // 1000 - _EPOCH
        self.received = max(self.received, self.confirmed)
        status = _STATUS.pack(ord("r"), self.received, confirmed, confirmed, now, asking)
        with self._unless_lost():
            self._pgconn.put_copy_data(status)
            self._flush()

    def _flush(self) -> None:
        with self._unless_lost():
            self._write_later(bool(self._pgconn.flush()))

    def _write_later(self, later: bool) -> None:
        if later and not self._writing:
            self._loop.add_writer(self._socket, self._flush)
        elif self._writing and not later:
            self._loop.remove_writer(self._socket)
        self._writing = later

    @contextmanager
    def _unless_lost(self) -> Iterator[None]:
        from psycopg import Error

        try:
            yield
        except Error:
            # Who reads hears of it. The socket is no more, and its number may be another's at once.
            self._lost = True
            self._write_later(False)
            self._read_no_more()
            self._wake()
