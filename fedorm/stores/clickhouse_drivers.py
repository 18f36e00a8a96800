"""clickhouse-sqlalchemy's two drivers, made to send and read every value as it is."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from clickhouse_sqlalchemy.drivers.http import connector as http
from clickhouse_sqlalchemy.drivers.http.exceptions import HTTPException
from clickhouse_sqlalchemy.drivers.http.transport import RequestsTransport, _get_type
from clickhouse_sqlalchemy.drivers.http.utils import parse_tsv
from clickhouse_sqlalchemy.drivers.native import connector as native
from clickhouse_sqlalchemy.exceptions import DatabaseException

from fedorm.stores.clickhouse_sql import COLUMNAR, is_insert, literals

_LONG = 200_000
"""From how many characters on a statement asks for a larger ``max_query_size``, 262,144 by default."""
_LONGEST = 64 * 1024 * 1024
_NEVER = "0000-00-00"
"""How servers of before 2019 write the first day of 1970, which for the driver is NULL."""


class _Versioned:
    """A connection that can tell whether its server has DateTime64."""

    is_precise: Callable[[], bool] = staticmethod(lambda: False)


class NativeCursor(native.Cursor):  # type: ignore[misc] # the driver has no types
    """A cursor whose statements hold exact literals."""

    _long = False

    def execute(self, operation: str, parameters: Any = None, context: Any = None) -> None:
        """Run a statement that is no block of rows."""
        if parameters is not None:
            operation %= literals(parameters, inserting=is_insert(operation), precise=self._connection.is_precise())
        self._long = len(operation) > _LONG
        super().execute(operation, None, context)

    def _prepare(self, context: Any = None) -> tuple[Any, dict[str, Any]]:
        execute, options = super()._prepare(context)
        if context is not None and context.execution_options.get(COLUMNAR):
            options["columnar"] = True
        if self._long:
            options["settings"] = {"max_query_size": _LONGEST, **(options["settings"] or {})}
        return execute, options


class NativeConnection(native.Connection, _Versioned):  # type: ignore[misc] # the driver has no types
    """A connection over the native protocol."""

    def cursor(self) -> NativeCursor:
        """Return a cursor."""
        return NativeCursor(self)


class HTTPTransport(RequestsTransport):  # type: ignore[misc] # the driver has no types
    """A transport that reads all types, and text that is no UTF-8 in a way that can be undone."""

    def __init__(self, *args: Any, **options: Any) -> None:
        # The answer is held back until it is whole: an error in the middle of rows would be read as one of them.
        settings = {"wait_end_of_query": 1, **(options.pop("ch_settings", None) or {})}
        super().__init__(*args, ch_settings=settings, **{"unicode_errors": "surrogateescape", **options})

    def execute(self, query: str, params: dict[str, Any] | None = None) -> Iterator[list[Any]]:
        """Yield names, types and rows."""
        params = dict(params or {})
        if len(query) > _LONG and not is_insert(query):
            params["max_query_size"] = _LONGEST
        with self._send(query, params=params, stream=True) as response:
            yield from self._read(response.iter_lines())

    def insert(self, query: str, body: bytes) -> None:
        """Send rows in a format of their own."""
        self._send(body, params={"query": query}).close()

    def disconnect(self) -> None:
        """Close the connection; requests by itself leaves that to the garbage collector."""
        for adapter in self.http.adapters.values():
            pools = adapter.poolmanager.pools
            for key in pools.keys():  # noqa: SIM118 - urllib3's container is no mapping to iterate over
                pools[key].close()
        self.http.close()

    def _send(self, data: str | bytes, params: dict[str, Any] | None = None, stream: bool = False) -> Any:
        response = self.http.post(
            self.db_url, data=data.encode() if isinstance(data, str) else data,
            params={**(params or {}), "database": self.db_name, **self.ch_settings},
            auth=self.auth, headers=self.headers, verify=self.verify, cert=self.cert, timeout=self.timeout,
            stream=stream,
        )  # fmt: skip
        if response.status_code == 200:
            return response
        error = HTTPException(response.text)
        error.code = response.status_code
        # The error's traceback must not hold it: its connection would stay open for as long as somebody has the error.
        del response
        raise DatabaseException(error)

    def _read(self, lines: Iterator[bytes]) -> Iterator[list[Any]]:
        head = [parse_tsv(line, self.unicode_errors) for _, line in zip(range(2), lines, strict=False)]
        if len(head) < 2:
            return
        yield from head
        readers = [_reader(kind) for kind in head[1]]
        for line in lines:
            values = parse_tsv(line, self.unicode_errors)
            yield [
                value if value is None or read is None else read(value)
                for value, read in zip(values, readers, strict=True)
            ]


class HTTPCursor(http.Cursor):  # type: ignore[misc] # the driver has no types
    """A cursor whose statements hold exact literals; a stream is read as it is asked for."""

    _stream_results = False
    takes_columns = True
    """Says that ``executemany`` wants to know the execution options."""

    @property
    def _prefetch(self) -> bool:
        return not self._stream_results

    def close(self) -> None:
        """Leave what was not read."""
        if self._response is not None:
            self._response.close()

    def execute(self, operation: str, parameters: Any = None, context: Any = None) -> None:
        """Run a statement."""
        self._stream_results = bool(context is not None and context.execution_options.get("stream_results"))
        if parameters is not None:
            operation %= literals(parameters, inserting=is_insert(operation), precise=self._connection.is_precise())
        super().execute(operation, None, context)

    def executemany(self, operation: str, seq_of_parameters: Sequence[Any], context: Any = None) -> None:
        """Send many rows as one block."""
        head, values, template = operation.rpartition("VALUES")
        columns = context.execution_options.get(COLUMNAR) if context is not None else None
        if columns is not None:
            self._reset_state()
            self._connection.transport.insert(f"{head % ()}FORMAT Native", columns.block(seq_of_parameters))
            return
        rows = (
            template % literals(one, inserting=True, precise=self._connection.is_precise()) for one in seq_of_parameters
        )
        super().execute(head % () + values + ", ".join(rows), None, context)


class HTTPConnection(http.Connection, _Versioned):  # type: ignore[misc] # the driver has no types
    """A connection over HTTP."""

    transport_cls = HTTPTransport

    def cursor(self) -> HTTPCursor:
        """Return a cursor."""
        return HTTPCursor(self)


def _reader(kind: str) -> Callable[[str], Any] | None:
    if kind.startswith("Nullable("):
        return _reader(kind[len("Nullable(") : -1])
    if kind.startswith("DateTime"):
        return _zoned_reader(kind.partition("'")[2].partition("'")[0])
    if kind.startswith("Date"):
        return lambda text: datetime.date(1970, 1, 1) if text == _NEVER else datetime.date.fromisoformat(text)
    reader: Callable[[str], Any] | None = _get_type(kind)
    return reader


def _zoned_reader(zone: str) -> Callable[[str], datetime.datetime]:
    from zoneinfo import ZoneInfo

    info = (datetime.UTC if zone == "UTC" else ZoneInfo(zone)) if zone else None

    def read(text: str) -> datetime.datetime:
        if text.startswith(_NEVER):
            return datetime.datetime.fromtimestamp(0, info)
        return datetime.datetime.fromisoformat(text).replace(tzinfo=info)

    return read
