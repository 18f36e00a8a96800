"""Keys of rows as JSON, and back: in positions, in dead letters, on the command line."""

from __future__ import annotations

import base64
import datetime
from typing import Any

from sqlalchemy import types as sqltypes

from fedorm.outbox.encoding import encoded
from fedorm.stores.rows import Key, RowShape
from fedorm.sync.coercing import coercer


class _NoKey(str):
    """Compared by what it is."""


NO_KEY = _NoKey("no key")
"""What a key begins with that only the other side can have: a text that is no number, where numbers are the keys."""


def is_key(key: Key) -> bool:
    """Say whether a row can have a key."""
    return not key or key[0] is not NO_KEY


def key_to_json(key: Key) -> list[Any]:
    """Return a key's values in JSON's types."""
    return [_plain(value) for value in key]


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in (str, int, bool) or value is None:
        return value
    if kind.__name__ in ("ObjectId", "PydanticObjectId"):
        return str(value)
    return encoded(value)


def key_of_json(values: list[Any], shape: RowShape) -> Key:
    """Return the key that was meant, in the types of the shape's fields."""
    return tuple(_back(value, shape, name) for name, value in zip(shape.key, values, strict=True))


def _back(value: Any, shape: RowShape, name: str) -> Any:
    if value is None:
        return None
    if shape.document is not None:
        from pydantic import TypeAdapter

        annotation = shape.document.model_fields[name].annotation
        return TypeAdapter(annotation).validate_python(value)
    kind = shape.columns[name].type
    if isinstance(kind, sqltypes._Binary):
        return base64.b64decode(value)
    if isinstance(kind, sqltypes.Date) and isinstance(value, str):
        return datetime.date.fromisoformat(value)
    return coercer(kind)(value)
