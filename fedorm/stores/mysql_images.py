"""Rows of MySQL's binary log, as a select over the store returns them.

``mysql-replication`` reads the tables' descriptions; its own values are not those of a driver: it has no zero dates,
no empty sets, no order in sets, and no bytes at the end of a BINARY.
Formats: https://mariadb.com/kb/en/rows_event_v1v2-rows_compressed_event_v1/, and MySQL's ``log_event_print_value``.
"""

from __future__ import annotations

import datetime
import json
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from pymysqlreplication.constants import FIELD_TYPE
from pymysqlreplication.json_binary import parse_json
from sqlalchemy.engine import Dialect

from fedorm.stores.rows import RowShape, Values

Read = Callable[[bytes, int], tuple[Any, int]]
"""Takes a buffer and where a value begins; returns it, and where it ends."""
Process = Callable[[Any], Any]

_EPOCH = datetime.datetime(1970, 1, 1)
_DIGITS = 9
_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
"""How many bytes so many digits take."""
_CODECS = {
    "ucs2": "utf-16-be",
    "utf16": "utf-16-be",
    "utf16le": "utf-16-le",
    "utf32": "utf-32-be",
    "ujis": "euc_jp",
    "eucjpms": "euc_jp",
    "sjis": "shift_jis",
    "macroman": "mac_roman",
    "macce": "mac_latin2",
    "greek": "iso8859_7",
    "hebrew": "iso8859_8",
    "hp8": "hp_roman8",
}


class UnreadableColumnError(Exception):
    """A column whose values cannot be told from the log."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What the log does not tell of columns, and the server does."""

    zone: datetime.tzinfo | None
    """That of the sessions; None for UTC."""
    kinds: Mapping[str, str]
    """Types that MariaDB holds as bytes: ``uuid``, ``inet4``, ``inet6``."""
    scales: Mapping[str, int]
    """The digits after the point that a FLOAT or DOUBLE is shown with."""


class RowReader:
    """Reads the rows of one version of a table for one shape."""

    def __init__(self, columns: Sequence[Any], shape: RowShape, dialect: Dialect, declared: Declared) -> None:
        self.shape = shape
        fields: dict[str, list[str]] = {}
        for field in shape.fields:
            fields.setdefault(shape.columns[field].name, []).append(field)
        self._copies = [(names[0], other) for names in fields.values() for other in names[1:]]
        self._columns: list[tuple[str, Read, Process | None]] = []
        for column in columns:
            name = fields.pop(column.name, [""])[0]
            process = _processor(shape, name, column, dialect) if name else None
            self._columns.append((name, _reader(column, declared), process))
        self.missing = [field for names in fields.values() for field in names]
        """Fields whose columns the table does not have, or did not have then."""
        self._present: dict[bytes, tuple[list[tuple[str, int, Read, Process | None]], int]] = {}

    def read(self, data: bytes, at: int, present: bytes) -> tuple[Values, int]:
        """Return the wanted values of the row that begins at a place, and where it ends.

        ``present`` has a bit for each column that is there.
        """
        try:
            columns, size = self._present[present]
        except KeyError:
            columns, size = self._present[present] = self._told(present)
        nulls = int.from_bytes(data[at : at + size], "little")
        at += size
        values: Values = {}
        for name, bit, read, process in columns:
            if nulls & bit:
                if name:
                    values[name] = None if process is None else process(None)
                continue
            value, at = read(data, at)
            if name:
                try:
                    values[name] = value if process is None else process(value)
                except Exception:  # Left out, as what the log does not tell: whoever needs it reads the row.
                    if name in self.shape.key:
                        raise
        for name, other in self._copies:
            if name in values:
                values[other] = values[name]
        return values, at

    def _told(self, present: bytes) -> tuple[list[tuple[str, int, Read, Process | None]], int]:
        bits = int.from_bytes(present, "little")
        there = [one for number, one in enumerate(self._columns) if bits >> number & 1]
        return [(name, 1 << at, read, process) for at, (name, read, process) in enumerate(there)], (len(there) + 7) // 8


def _processor(shape: RowShape, name: str, column: Any, dialect: Dialect) -> Process | None:
    kind: Any = shape.columns[name].type
    processor: Process | None = kind._cached_result_processor(dialect, column.type)
    return processor


def _reader(column: Any, declared: Declared) -> Read:
    """Return what reads a column's values as PyMySQL returns them."""
    kind = column.type
    if kind in _INTEGERS:
        return _integer(kind, column.unsigned)
    if kind in (FIELD_TYPE.VARCHAR, FIELD_TYPE.VAR_STRING, FIELD_TYPE.STRING):
        return _string(column, declared.kinds.get(column.name))
    if kind == FIELD_TYPE.BLOB:
        return _text(column.length_size, _decoder(column))
    if kind in (FIELD_TYPE.FLOAT, FIELD_TYPE.DOUBLE):
        return _float(kind, declared.scales.get(column.name))
    if kind == FIELD_TYPE.NEWDECIMAL:
        return _decimal(column.precision, column.decimals)
    if kind == FIELD_TYPE.TIMESTAMP2:
        return _timestamp(column.fsp, declared.zone)
    if kind == FIELD_TYPE.DATETIME2:
        return _datetime(column.fsp)
    if kind == FIELD_TYPE.TIME2:
        return _time(column.fsp)
    if kind == FIELD_TYPE.DATE:
        return _date
    if kind == FIELD_TYPE.YEAR:
        return lambda data, at: (data[at] and data[at] + 1900, at + 1)
    if kind == FIELD_TYPE.ENUM:
        return _enum(column.size, column.enum_values)
    if kind == FIELD_TYPE.SET:
        return _set(column.size, column.set_values)
    if kind == FIELD_TYPE.BIT:
        return lambda data, at: (data[at : at + column.bytes], at + column.bytes)
    if kind == FIELD_TYPE.GEOMETRY:
        return _text(column.length_size, bytes)
    if kind == FIELD_TYPE.JSON:
        return _text(column.length_size, _json)
    raise UnreadableColumnError(
        f"column {column.name!r} has a type (number {kind}) that cannot be read from the log: a table made by a server "
        f"of long ago gets today's by  ALTER TABLE ... FORCE"
    )


# -- numbers

_INTEGERS = {
    FIELD_TYPE.TINY: "b",
    FIELD_TYPE.SHORT: "h",
    FIELD_TYPE.LONG: "i",
    FIELD_TYPE.LONGLONG: "q",
    FIELD_TYPE.INT24: "",
}


def _integer(kind: int, unsigned: bool) -> Read:
    code = _INTEGERS[kind]
    if not code:
        return lambda data, at: (int.from_bytes(data[at : at + 3], "little", signed=not unsigned), at + 3)
    format_ = struct.Struct("<" + (code.upper() if unsigned else code))
    unpack, size = format_.unpack_from, format_.size
    return lambda data, at: (unpack(data, at)[0], at + size)


def _float(kind: int, scale: int | None) -> Read:
    format_ = struct.Struct("<f" if kind == FIELD_TYPE.FLOAT else "<d")
    unpack, size = format_.unpack_from, format_.size
    if scale is not None:
        return lambda data, at: (float(f"{unpack(data, at)[0]:.{scale}f}"), at + size)
    if kind == FIELD_TYPE.FLOAT:  # The server shows six digits of it.
        return lambda data, at: (float(f"{unpack(data, at)[0]:.6g}"), at + size)
    return lambda data, at: (unpack(data, at)[0], at + size)


def _decimal(precision: int, scale: int) -> Read:
    groups: list[tuple[int, int]] = []
    """Of each group of digits, from the last on: by how many bits it is shifted, and how many of them it has."""
    whole, fraction = divmod(precision - scale, _DIGITS), divmod(scale, _DIGITS)
    digits = [whole[1], *[_DIGITS] * whole[0], *[_DIGITS] * fraction[0], fraction[1]]
    parts = [(_BYTES[number], number) for number in digits if number]
    size = sum(length for length, _ in parts)
    shift = size * 8
    for length, number in parts:
        shift -= length * 8
        groups.append((shift, number))
    masks = [((1 << _BYTES[number] * 8) - 1, shift, 10**number) for shift, number in groups]
    sign = 0x80 << (size - 1) * 8
    ones = (1 << size * 8) - 1

    def read(data: bytes, at: int) -> tuple[Decimal, int]:
        end = at + size
        stored = int.from_bytes(data[at:end], "big") ^ sign
        negative = stored & sign
        if negative:
            stored ^= ones
        value = 0
        for mask, shift, unit in masks:
            value = value * unit + (stored >> shift & mask)
        if not scale:
            return Decimal(-value if negative else value), end
        text = f"{value:0{scale + 1}d}"
        return Decimal(f"{'-' if negative else ''}{text[:-scale]}.{text[-scale:]}"), end

    return read


# -- times: what is no date comes as its text, as from PyMySQL


def _fraction(digits: int) -> tuple[int, int]:
    """Return how many bytes a fraction of a second has, and how many microseconds one of it is."""
    size = (digits + 1) // 2
    return size, 10 ** (6 - 2 * size)


def _date(data: bytes, at: int) -> tuple[Any, int]:
    stored = int.from_bytes(data[at : at + 3], "little")
    year, month, day = stored >> 9, stored >> 5 & 15, stored & 31
    try:
        return datetime.date(year, month, day), at + 3
    except ValueError:
        return f"{year:04}-{month:02}-{day:02}", at + 3


def _datetime(digits: int) -> Read:
    length, unit = _fraction(digits)
    size = 5 + length

    def read(data: bytes, at: int) -> tuple[Any, int]:
        stored = int.from_bytes(data[at : at + 5], "big")
        months, rest = stored >> 22 & 0x1FFFF, stored & 0x3FFFFF
        year, month = divmod(months, 13)
        day, hour, minute, second = rest >> 17, rest >> 12 & 31, rest >> 6 & 63, rest & 63
        micro = int.from_bytes(data[at + 5 : at + size], "big") * unit if length else 0
        try:
            return datetime.datetime(year, month, day, hour, minute, second, micro), at + size
        except ValueError:
            date = f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
            return date + _shown(micro, digits), at + size

    return read


def _shown(micro: int, digits: int) -> str:
    return f".{micro:06}"[: digits + 1] if digits else ""


def _timestamp(digits: int, zone: datetime.tzinfo | None) -> Read:
    length, unit = _fraction(digits)
    size = 4 + length
    none = "0000-00-00 00:00:00" + _shown(0, digits)

    def read(data: bytes, at: int) -> tuple[Any, int]:
        seconds = int.from_bytes(data[at : at + 4], "big")
        micro = int.from_bytes(data[at + 4 : at + size], "big") * unit if length else 0
        if not seconds and not micro:
            return none, at + size
        if zone is None:
            return _EPOCH + datetime.timedelta(0, seconds, micro), at + size
        local = datetime.datetime.fromtimestamp(seconds, zone)
        return local.replace(tzinfo=None, fold=0, microsecond=micro), at + size

    return read


def _time(digits: int) -> Read:
    length, unit = _fraction(digits)
    size, bits = 3 + length, 8 * length
    middle, mask = 0x800000 << bits, (1 << bits) - 1

    def read(data: bytes, at: int) -> tuple[datetime.timedelta, int]:
        stored = int.from_bytes(data[at : at + size], "big") - middle
        value = abs(stored)
        seconds = value >> bits
        elapsed = datetime.timedelta(
            0, (seconds >> 12 & 0x3FF) * 3600 + (seconds >> 6 & 63) * 60 + (seconds & 63), (value & mask) * unit
        )
        return (elapsed if stored >= 0 else -elapsed), at + size

    return read


# -- texts and bytes


def _decoder(column: Any) -> Callable[[bytes], Any]:
    name = column.character_set_name or "utf8"
    if name == "binary":
        return bytes
    codec = _CODECS.get(name, name)
    try:
        b"".decode(codec)
    except LookupError:
        raise UnreadableColumnError(
            f"column {column.name!r} is in the character set {name!r}, which Python does not know"
        ) from None
    if codec == "utf8":
        return bytes.decode
    if codec == "cp1252":
        return _latin1
    return lambda data: data.decode(codec)


def _latin1(data: bytes) -> str:
    """Decode MySQL's latin1: Windows' code page, with control characters where that has none."""
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return "".join(bytes((one,)).decode("cp1252" if one not in _CONTROLS else "latin1") for one in data)


_CONTROLS = b"\x81\x8d\x8f\x90\x9d"


def _text(size: int, decode: Callable[[bytes], Any]) -> Read:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        begin = at + size
        end = begin + int.from_bytes(data[at:begin], "little")
        return decode(data[begin:end]), end

    def read_short(data: bytes, at: int) -> tuple[Any, int]:
        end = at + 1 + data[at]
        return decode(data[at + 1 : end]), end

    return read_short if size == 1 else read


def _string(column: Any, kind: str | None) -> Read:
    size = 2 if column.max_length > 255 else 1
    length = column.max_length
    if kind is not None:
        decode = _KINDS[kind]
        return _text(size, lambda data: decode(data.ljust(length, b"\0")))
    decode = _decoder(column)
    if decode is bytes and column.type == FIELD_TYPE.STRING:  # A BINARY; its zeros at the end are not in the log.
        return _text(size, lambda data: data.ljust(length, b"\0"))
    return _text(size, decode)


_KINDS: dict[str, Callable[[bytes], str]] = {
    "uuid": lambda data: str(UUID(bytes=data)),
    "inet4": partial(socket.inet_ntop, socket.AF_INET),
    "inet6": partial(socket.inet_ntop, socket.AF_INET6),
}


def _enum(size: int, values: Sequence[str] | None) -> Read:
    if not values:
        raise UnreadableColumnError("the log does not tell the values of an ENUM")
    return lambda data, at: (values[int.from_bytes(data[at : at + size], "little")], at + size)


def _set(size: int, values: Sequence[str] | None) -> Read:
    if not values:
        raise UnreadableColumnError("the log does not tell the values of a SET")

    def read(data: bytes, at: int) -> tuple[str, int]:
        stored = int.from_bytes(data[at : at + size], "little")
        return ",".join(value for bit, value in enumerate(values) if stored >> bit & 1), at + size

    return read


def _json(data: bytes) -> Any:
    """Return the text of MySQL's binary JSON; MariaDB's is a text."""
    if not data:
        return None
    return json.dumps(_plain(parse_json(data[0], data[1:])))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_plain(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Decimal):
        return float(value)
    return value if isinstance(value, str | int | float | type(None)) else str(value)
