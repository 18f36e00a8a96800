"""The packets of a binary log: the commonest events are read from them at once, without the library's objects.

``mysql-replication`` makes two objects of some twenty attributes for each event, which takes longer than the rows do.
Formats: https://mariadb.com/kb/en/2-binlog-event-header/ and https://mariadb.com/kb/en/rows_event_v1v2-rows_compressed_event_v1/
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, Literal

import pymysql
from pymysql.constants import CR

from fedorm.stores.feeds import Change
from fedorm.stores.mysql_images import RowReader
from fedorm.stores.rows import Key, Values

TABLE_MAP, XID, MARIADB_GTID = 19, 16, 162
"""Types of events."""
ROWS: dict[int, tuple[Literal["write", "update", "delete"], bool]] = {
    23: ("write", False),
    24: ("update", False),
    25: ("delete", False),
    30: ("write", True),
    31: ("update", True),
    32: ("delete", True),
}
"""Types of events with rows: what they do, and whether they are of the second version."""
TYPE = 5
"""Where an event's type is, behind the byte that says that the packet is one, and the time."""
BODY = 20
"""Where an event begins behind its header."""
_BUFFER = 512 * 1024
"""How much is taken from the socket at once: each time the thread has to wait for the interpreter's lock again."""
_header = Struct("<xIBIIIH").unpack_from
_short = Struct("<H").unpack_from
_gtid = Struct("<QI").unpack_from


class LostConnectionError(Exception):
    """The server has gone, or says nothing any more."""


class LogConnection(pymysql.connections.Connection):  # type: ignore[misc]
    """A connection whose loss is not mended in silence: the library would read on from amid a transaction."""

    take: Callable[[bytes], bool] | None = None
    """Is given each event as it comes, and says whether that is all that was to be done with it."""

    def _read_packet(self, *args: Any, **options: Any) -> Any:
        take = self.take
        try:
            while True:
                packet = super()._read_packet(*args, **options)
                if take is None or not take(packet._data):
                    return packet
        except pymysql.OperationalError as error:
            if error.args and error.args[0] in (CR.CR_SERVER_LOST, CR.CR_SERVER_GONE_ERROR):
                raise LostConnectionError(str(error.args[-1])) from error
            raise

    def read_ahead(self) -> None:
        """Take more from the socket at once from now on, when nothing is being answered."""
        file: io.BufferedReader = self._rfile
        self._rfile: Any = io.BufferedReader(file.detach(), _BUFFER)


@dataclass(slots=True)
class Rows:
    """An event with rows of one table."""

    kind: Literal["write", "update", "delete"]
    data: bytes
    begin: int
    end: int
    present: bytes
    """A bit for each column that is there; of an update, in the rows before."""
    now: bytes
    """The same of the rows after an update."""


def read_header(data: bytes) -> tuple[int, int]:
    """Return when an event was written, and where in its file the next one begins; 0 if it says neither."""
    timestamp, _, _, _, behind, _ = _header(data)
    return timestamp, behind


def table_number(data: bytes) -> int:
    """Return the number by which events with rows, and those that describe a table, name it."""
    return int.from_bytes(data[BODY : BODY + 6], "little")


def mariadb_flags(data: bytes) -> int:
    """Return the flags of a MariaDB GTID event: behind its number and domain."""
    return data[BODY + 12]


def mariadb_gtid(data: bytes) -> tuple[int, str]:
    """Return the replication domain of a MariaDB GTID event, and the GTID."""
    _, _, server, _, _, _ = _header(data)
    number, domain = _gtid(data, BODY)
    return domain, f"{domain}-{server}-{number}"


def read_rows(data: bytes, checksum: int) -> Rows:
    """Read an event with rows up to its first row; ``checksum`` bytes are behind the last one."""
    kind, extended = ROWS[data[TYPE]]
    at = BODY + 8
    if extended:
        at += _short(data, at)[0]
    count, at = _number(data, at)
    size = (count + 7) // 8
    present = now = data[at : at + size]
    at += size
    if kind == "update":
        now = data[at : at + size]
        at += size
    return Rows(kind, data, at, len(data) - checksum, present, now)


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of one to nine bytes, and return where it ends."""
    first = data[at]
    if first < 0xFB:
        return first, at + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}[first]
    return int.from_bytes(data[at + 1 : at + 1 + size], "little"), at + 1 + size


def read_changes(rows: Rows, reader: RowReader, key_of: Callable[[Values], Key], changes: list[Change]) -> None:
    """Append the changes that an event tells of."""
    shape, read, append = reader.shape, reader.read, changes.append
    data, at, end, present = rows.data, rows.begin, rows.end, rows.present
    if rows.kind == "update":
        now = rows.now
        while at < end:
            before, at = read(data, at, present)
            values, at = read(data, at, now)
            key = key_of(values if present == now else {**before, **values})
            append(Change(shape, "upsert", key, values, before))
    elif rows.kind == "write":
        while at < end:
            values, at = read(data, at, present)
            append(Change(shape, "upsert", key_of(values), values))
    else:
        while at < end:
            before, at = read(data, at, present)
            append(Change(shape, "delete", key_of(before), None, before))


def key_getter(names: Sequence[str]) -> Callable[[Values], Key]:
    """Return what takes a row's key from its values."""
    if len(names) == 1:
        name = names[0]
        return lambda values: (values[name],)
    return lambda values: tuple([values[name] for name in names])
