"""A source's rows and keys as JSON, and back to what its models hold: whole, or not at all."""

from __future__ import annotations

import datetime
import enum
import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import BaseModel, TypeAdapter

from fedorm.outbox.encoding import encoded, of_column
from fedorm.relay.decoding import to_column
from fedorm.stores.base import Store
from fedorm.stores.rows import Key, RowShape, Values
from fedorm.stores.sql import SQLStore
from fedorm.sync.keys import key_of_json, key_to_json

Convert = Callable[[Any], Any]
_PLAIN = (str, int, bool, type(None))
_TAG = "$is"
"""In documents, what a value was that JSON has no form for: ``{"$is": ["decimal", "12.50"]}``."""


class RowEncoding:
    """Of one shape: a column's values as events have them, a document's by what its class says of its fields."""

    def __init__(self, shape: RowShape, store: Store) -> None:
        self.shape = shape
        self._write: list[tuple[str, Convert]]
        self._read: dict[str, Convert]
        if shape.document is not None:
            fields = shape.document.model_fields
            self._write = [(name, _packed) for name in shape.fields]
            self._read = {name: _of_field(fields[name].annotation) for name in shape.fields}
        else:
            assert isinstance(store, SQLStore)
            dialect, columns = store.engine.dialect, shape.columns
            self._write = [(name, of_column(columns[name].type, dialect)) for name in shape.fields]
            self._read = {name: to_column(columns[name].type, dialect) for name in shape.fields}

    # -- to JSON

    def row(self, values: Values) -> bytes | None:
        """Return a row's values in the order of the shape's fields; None for one that cannot be said, or not whole."""
        try:
            return _line([convert(values[name]) for name, convert in self._write])
        except (KeyError, ValueError, TypeError, ArithmeticError):
            return None

    @staticmethod
    def key(key: Key) -> bytes:
        """Return a key's values."""
        return _line(key_to_json(key))

    # -- from JSON

    def key_of(self, told: list[Any]) -> Key:
        """Return a key in the types that the source's model has."""
        return key_of_json(told, self.shape)

    def values(self, fields: list[str], told: list[Any]) -> Values:
        """Return a row; what this process's model does not know, another release's perhaps, is left out."""
        read = self._read
        return {name: read[name](value) for name, value in zip(fields, told, strict=True) if name in read}


def _line(values: list[Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


# -- documents


def _packed(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, BaseModel):
        return _packed({name: getattr(value, name) for name in type(value).model_fields} | (value.model_extra or {}))
    if isinstance(value, Mapping):
        made = {str(name): _packed(one) for name, one in value.items()}
        return {_TAG: ["mapping", made]} if _TAG in made else made
    if isinstance(value, list | tuple | set | frozenset):
        return [_packed(one) for one in value]
    if isinstance(value, enum.Enum):
        return _packed(value.value)
    for name, (tagged, write, _) in _TAGGED.items():
        if kind is tagged:
            return {_TAG: [name, write(value)]}
    if isinstance(value, float) and value == value and abs(value) != float("inf"):
        return value
    if kind.__name__ in ("ObjectId", "PydanticObjectId"):
        return str(value)
    return encoded(value)


_TAGGED: dict[str, tuple[type, Convert, Convert]] = {
    "decimal": (Decimal, str, Decimal),
    "moment": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "time": (datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
    "interval": (
        datetime.timedelta,
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda told: datetime.timedelta(*told),
    ),
    "uuid": (UUID, str, UUID),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
}


def _unpacked(told: Any) -> Any:
    if isinstance(told, list):
        return [_unpacked(one) for one in told]
    if not isinstance(told, dict):
        return told
    if _TAG not in told:
        return {name: _unpacked(one) for name, one in told.items()}
    name, value = told[_TAG]
    if name == "mapping":
        return {key: _unpacked(one) for key, one in value.items()}
    return _TAGGED[name][2](value)


def _of_field(annotation: Any) -> Convert:
    validate = TypeAdapter(annotation).validate_python
    return lambda told: validate(_unpacked(told))
