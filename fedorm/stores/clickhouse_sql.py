"""What the stores of ClickHouse's engine share: exact literals, exact types, and tables in its own types."""

from __future__ import annotations

import datetime
import enum
import math
import struct
import sys
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import MetaData, Table, types

from fedorm.stores.exact import (
    UTC,
    Compared,
    ExactCompared,
    ExactNumeric,
    Processor,
    RangedBigInteger,
    RangedDate,
    RangedInteger,
    RangedSmallInteger,
    RefusedValueError,
    TextUuid,
    Zoned,
    use,
)

PARTS = "SELECT table, sum(rows) FROM system.parts WHERE active AND database = currentDatabase() GROUP BY table"
"""The names of the tables and how many rows each has."""
PRECISION, SCALE = 38, 18
"""Of a decimal column that declares none."""

COLUMNAR = "fedorm_columnar"
"""The execution option of an INSERT whose parameters are columns instead of rows.

True over the native protocol; over HTTP the ``NativeColumns`` that make a block of them.
"""

_ESCAPES = {
    ord(character): f"\\{escape}"
    for character, escape in {
        "\b": "b", "\f": "f", "\r": "r", "\n": "n", "\t": "t", "\0": "0", "\\": "\\", "'": "'",
    }.items()
}  # fmt: skip


def literal(value: Any, *, inserting: bool, precise: bool) -> str:
    """Return ``value`` as SQL that stands for just it.

    ``inserting``: inside VALUES, where a decimal is read as it is written; anywhere else its text would be a float.
    ``precise``: the server has DateTime64; without it a time is cut to the second.
    """
    if value is None:
        return "NULL"
    if isinstance(value, enum.Enum):
        return literal(value.value, inserting=inserting, precise=precise)
    if isinstance(value, bool | int):
        return str(int(value))
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Decimal):
        return _decimal(value, inserting=inserting)
    if isinstance(value, bytes | bytearray | memoryview):
        return _bytes(bytes(value))
    if isinstance(value, datetime.datetime):
        return _datetime(value, precise=precise)
    if isinstance(value, datetime.date | datetime.time | UUID):
        return f"'{value}'"
    if isinstance(value, list | tuple):
        inner = ", ".join(literal(one, inserting=inserting, precise=precise) for one in value)
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    if isinstance(value, str):
        return "'" + value.translate(_ESCAPES) + "'"
    raise RefusedValueError(f"a {type(value).__name__} cannot be written as SQL")


def literals(values: Mapping[str, Any], *, inserting: bool, precise: bool) -> dict[str, str]:
    """Return each of ``values`` as SQL."""
    return {name: literal(value, inserting=inserting, precise=precise) for name, value in values.items()}


def is_insert(statement: str) -> bool:
    """Say whether ``statement`` holds rows to insert."""
    return statement.lstrip()[:6].upper() == "INSERT"


def _bytes(value: bytes) -> str:
    return "'" + "".join(f"\\x{byte:02x}" for byte in value) + "'"


def _float(value: float) -> str:
    if value and abs(value) < sys.float_info.min:
        # Numbers that small are refused by the parser of old servers.
        return f"reinterpretAsFloat64({_bytes(struct.pack('<d', value))})"
    if math.isfinite(value):
        # In parentheses: the quick reader of VALUES is off by a bit for some numbers, the parser of expressions is not.
        return f"({value!r})"
    return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")


def _decimal(value: Decimal, *, inserting: bool) -> str:
    text = f"{value:f}"
    if inserting:
        return text
    digits, exponent = len(value.as_tuple().digits), value.as_tuple().exponent
    scale = max(0, -int(exponent))
    width = 128 if max(digits, scale) <= PRECISION else 256
    return f"toDecimal{width}('{text}', {scale})"


def _datetime(value: datetime.datetime, *, precise: bool) -> str:
    if value.utcoffset() is not None:
        text = value.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")
        # Said with its zone, it does not depend on the server's or the column's.
        return f"toDateTime64('{text}', 6, 'UTC')" if precise else f"toDateTime('{text[:19]}', 'UTC')"
    return f"'{value.isoformat(sep=' ') if precise else value.isoformat(sep=' ')[:19]}'"


# -- types


class _DateTime(Zoned):
    """A DateTime64."""

    earliest = datetime.datetime(1900, 1, 1)
    latest = datetime.datetime(2299, 12, 31, 23, 59, 59, 999_999)


class _DateTimeInSeconds(Zoned):
    """A DateTime, 32 bits of seconds."""

    earliest = datetime.datetime(1970, 1, 1)
    latest = datetime.datetime(2105, 12, 31, 23, 59, 59, 999_999)


class _Date(RangedDate):
    """A Date32."""

    earliest, latest = datetime.date(1900, 1, 1), datetime.date(2299, 12, 31)


class _DateIn16Bits(RangedDate):
    """A Date, 16 bits of days."""

    earliest, latest = datetime.date(1970, 1, 1), datetime.date(2105, 12, 31)


class _Numeric(ExactNumeric):
    """A Decimal."""

    widest = (PRECISION, SCALE)


class _Binary(types.LargeBinary):
    """Bytes in a String column: the drivers return text wherever they can."""

    def bind_processor(self, dialect: Any) -> Processor | None:
        """Send them as they are."""
        return None

    def result_processor(self, dialect: Any, coltype: object) -> Processor:
        """Return the bytes that the text was made of."""
        return lambda value: value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


class HexBinary(_Binary):
    """Bytes that are read as hexadecimal digits, for a driver that would replace what is not UTF-8."""

    def column_expression(self, column: Any) -> Any:
        """Ask for the digits."""
        from sqlalchemy import func

        return func.hex(column, type_=self)

    def result_processor(self, dialect: Any, coltype: object) -> Processor:
        """Return the bytes."""
        return lambda value: None if value is None else bytes.fromhex(value)


def adapt_types(dialect: Any, native: Any, *, precise: bool, binary: type[types.LargeBinary] = _Binary) -> None:
    """Make the dialect keep or refuse what generic types are given; its own types stay as they are."""
    own = {
        kind: kind for kind in vars(native).values() if isinstance(kind, type) and issubclass(kind, types.TypeEngine)
    }
    generic: dict[type[Any], type[Any]] = {
        types.DateTime: _DateTime if precise else _DateTimeInSeconds,
        types.Date: _Date if precise else _DateIn16Bits,
        types.Numeric: _Numeric,
        Compared: ExactCompared,
        types.Float: types.Float,
        types.Integer: RangedInteger,
        types.SmallInteger: RangedSmallInteger,
        types.BigInteger: RangedBigInteger,
        types.Uuid: TextUuid,
        types.LargeBinary: binary,
    }
    dialect.supports_native_boolean = False
    use(dialect, {**generic, **own})
    dialect._type_memos.clear()


def allow_hints(dialect: Any) -> None:
    """Let ``with_hint(table, "FINAL")`` put the word behind the table's name."""
    compiler = dialect.statement_compiler

    class HintingCompiler(compiler):  # type: ignore[misc, valid-type]
        def get_from_hint_text(self, table: Any, text: str | None) -> str | None:
            return text

    dialect.statement_compiler = HintingCompiler


# -- tables


def native_tables(tables: Iterable[Table], native: Any, *, precise: bool, nullable: bool) -> MetaData:
    """Copy tables with the engine's own types; with ``nullable``, NULL is said by the type and not by the dialect."""
    metadata = MetaData()
    for table in tables:
        copy = table.to_metadata(metadata)
        for index in list(copy.indexes):
            copy.indexes.discard(index)
        for column in copy.columns:
            column.type = native_type(column.type, native, precise=precise)
            if nullable and column.nullable and not column.primary_key and not isinstance(column.type, native.Nullable):
                column.type = native.Nullable(column.type)
        engine = getattr(table, "engine", None)
        if engine is not None:
            setattr(copy, "engine", engine)  # noqa: B010 - the dialect reads an attribute that Table does not declare
    return metadata


def native_type(kind: types.TypeEngine[Any], native: Any, *, precise: bool) -> types.TypeEngine[Any]:
    """Return the engine's own type for a generic one."""
    made: Any = kind
    if isinstance(kind, types.TypeDecorator):
        return native_type(kind.impl_instance, native, precise=precise)
    if type(kind).__module__.startswith(native.__name__.partition(".")[0]):
        return kind
    if isinstance(kind, types.Boolean):
        made = native.UInt8()
    elif isinstance(kind, types.BigInteger):
        made = native.Int64()
    elif isinstance(kind, types.SmallInteger):
        made = native.Int16()
    elif isinstance(kind, types.Integer):
        made = native.Int32()
    elif isinstance(kind, types.Float):
        made = native.Float64()
    elif isinstance(kind, types.Numeric):
        made = (
            native.Decimal(PRECISION, SCALE)
            if kind.precision is None
            else native.Decimal(kind.precision, kind.scale or 0)
        )
    elif isinstance(kind, types.DateTime):
        # Without a zone, too, kept as if in UTC: another zone has hours that do not exist or come twice.
        made = native.DateTime64(6, "UTC") if precise else native.DateTime("UTC" if kind.timezone else None)
    elif isinstance(kind, types.Date):
        made = native.Date32() if precise else native.Date()
    elif isinstance(kind, types.Uuid):
        made = native.UUID()
    elif isinstance(kind, types.String | types.JSON | types.LargeBinary | types.Enum):
        made = native.String()
    result: types.TypeEngine[Any] = made
    return result
