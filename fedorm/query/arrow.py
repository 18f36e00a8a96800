"""Rows as they come from a service, made into Arrow columns that bend no value."""

from __future__ import annotations

import decimal
import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from sqlalchemy import types
from sqlalchemy.dialects import postgresql

from fedorm.query.tables import storage_type

_UTC = "UTC"


def to_arrow(
    rows: Sequence[Sequence[Any]], names: Sequence[str], kinds: Sequence[types.TypeEngine[Any] | None]
) -> pa.Table:
    """Return rows as a table whose columns have the Arrow types of ``kinds``.

    Raises ``UnsupportedQueryError``-worthy ``ValueError`` for a value that no Arrow type holds whole.
    """
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    arrays = [
        _inferred(values) if kind is None else _array(values, storage_type(kind))
        for values, kind in zip(columns, kinds, strict=True)
    ]
    return pa.Table.from_arrays(arrays, names=list(names))


def _array(values: Sequence[Any], kind: types.TypeEngine[Any]) -> pa.Array:
    if isinstance(kind, types.Numeric) and not isinstance(kind, types.Float):
        return _decimals(values, kind)
    if isinstance(kind, types.ARRAY):
        return _lists(values, kind)
    arrow, convert = _arrow_type(kind)
    if convert in _PLAIN:
        try:
            return pa.array(values, arrow)  # As they nearly always are: of the type that is wanted.
        except (pa.ArrowException, TypeError, OverflowError):
            pass
    if convert is not None:
        values = [None if value is None else convert(value) for value in values]
    if arrow is None:
        return pa.array(values) if any(value is not None for value in values) else pa.array(values, pa.string())
    return pa.array(values, arrow)


_PLAIN = (bool, int, float, str, bytes)


def arrow_type(kind: types.TypeEngine[Any]) -> pa.DataType | None:
    """Return the type of a column; None where it follows from the values."""
    if isinstance(kind, types.Numeric) and not isinstance(kind, types.Float):
        declared = kind.precision is not None and kind.precision <= WIDEST
        return pa.decimal128(kind.precision, kind.scale or 0) if declared else pa.decimal128(WIDEST, 10)
    if isinstance(kind, types.ARRAY):
        inner = arrow_type(storage_type(kind.item_type))
        for _ in range(kind.dimensions or 1):
            inner = None if inner is None else pa.list_(inner)
        return inner
    return _arrow_type(kind)[0]


def _lists(values: Sequence[Any], kind: types.ARRAY[Any]) -> pa.Array:
    """Keep the elements' type, which empty arrays would not tell."""
    elements: list[Any] = []
    ends: list[int] = [0]
    for value in values:
        elements += value or ()
        ends.append(len(elements))
    if any(isinstance(one, list | tuple) for one in elements):  # Of more than one dimension.
        return pa.array([None if value is None else list(value) for value in values])
    if (kind.dimensions or 1) > 1:
        return pa.array(values, arrow_type(kind))
    missing = pa.array([value is None for value in values], pa.bool_())
    return pa.ListArray.from_arrays(
        pa.array(ends, pa.int32()), _array(elements, storage_type(kind.item_type)), mask=missing
    )


def _inferred(values: Sequence[Any]) -> pa.Array:
    """Let the values say what they are; a column of NULL alone has no type to speak of."""
    first = next((value for value in values if value is not None), None)
    if isinstance(first, decimal.Decimal):
        return _decimals(values, types.Numeric())
    if isinstance(first, uuid.UUID):
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    return pa.array(values) if first is not None else pa.nulls(len(values))


def _arrow_type(kind: types.TypeEngine[Any]) -> tuple[pa.DataType | None, Callable[[Any], Any] | None]:
    if isinstance(kind, types.Boolean):
        return pa.bool_(), bool
    if isinstance(kind, types.Integer):
        return pa.int64(), int  # PostgreSQL makes decimals of sums.
    if isinstance(kind, types.Float):
        return pa.float64(), float
    if isinstance(kind, types.JSON):
        return pa.string(), _json
    if isinstance(kind, types.Uuid):
        return pa.string(), lambda value: str(uuid.UUID(str(value)))
    if isinstance(kind, types.DateTime):
        return pa.timestamp("us", _UTC if kind.timezone else None), None
    if isinstance(kind, types.Date):
        return pa.date32(), None
    if isinstance(kind, types.Time):
        return pa.time64("us"), None
    if isinstance(kind, types.Interval | postgresql.INTERVAL):
        return pa.duration("us"), None
    if isinstance(kind, types.LargeBinary):
        return pa.binary(), bytes
    if isinstance(kind, types.String | types.Enum):
        return pa.string(), str
    return None, None


def _decimals(values: Sequence[Any], kind: types.Numeric[Any]) -> pa.Array:
    """Use the declared precision and scale; where there are none, those that the values need."""
    made = decimal.Decimal
    exact = [value if value is None or type(value) is made else made(str(value)) for value in values]
    if kind.precision is not None and kind.precision <= WIDEST:
        return pa.array(exact, pa.decimal128(kind.precision, kind.scale or 0))
    scale = whole = 0
    for value in exact:
        if value is not None:
            _, digits, exponent = value.as_tuple()
            after = max(0, -int(exponent))
            scale, whole = max(scale, after), max(whole, len(digits) + int(exponent))
    if scale + whole > WIDEST:
        raise ValueError(f"decimals of {scale + whole} digits: {WIDEST} is the most that a federated select can hold")
    return pa.array(exact, pa.decimal128(WIDEST, scale))


def as_promised(table: pa.Table) -> pa.Table:
    """Return a result with the types that the same columns have whoever has read them.

    Integers have 64 bits, also those that DuckDB has read itself; an interval is a duration, if it counts no months,
    which have no length of their own.
    """
    for number, column in enumerate(table.columns):
        made = _promised(column)
        if made is not None:
            table = table.set_column(number, table.field(number).with_type(made.type), made)
    return table


def _promised(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    kind = column.type
    if pa.types.is_integer(kind) and kind.bit_width < 64:
        return column.cast(pa.int64())
    if pa.types.is_float32(kind):
        return column.cast(pa.float64())
    if pa.types.is_list(kind) and str(kind) != str(named := _items(kind)):  # For == names do not count.
        return column.cast(named)
    if kind == pa.month_day_nano_interval():
        values = column.to_pylist()
        if all(value is None or not value.months for value in values):
            lengths = [
                None if value is None else value.days * _DAY + value.nanoseconds // 1000  # DuckDB has no nanoseconds.
                for value in values
            ]
            return pa.chunked_array([pa.array(lengths, pa.duration("us"))])
    return None


def _items(kind: pa.DataType) -> pa.DataType:
    """Return the type of lists whose elements are called as Arrow calls them; DuckDB does not everywhere."""
    return pa.list_(_items(kind.value_type)) if pa.types.is_list(kind) else kind


_DAY = 24 * 60 * 60 * 1_000_000
"""Microseconds."""
WIDEST = 38
"""Digits of a decimal in DuckDB."""


def _json(value: Any) -> str:
    return "null" if value is types.JSON.NULL else json.dumps(value, ensure_ascii=False)
