"""Rows and keys as bytes: a closed set of types, so that nothing read back can run code, as a pickle's could."""

from __future__ import annotations

import base64
import datetime
import enum
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from fedorm.cache.rows import ADDRESSES, Rows

_VERSION = 1
_PLAIN = (type(None), bool, int, float, str)
"""What JSON gives back as it was."""


class UnknownTypeError(TypeError):
    """A value's type is not one that can be written down and told from others."""


def digest(*parts: Any) -> str:
    """Return a key for values; those that are equal and of different types, as 1, 1.0 and True, have different ones.

    Raises ``UnknownTypeError`` for a value of a type that says nothing reliable about itself.
    """
    made = hashlib.blake2b(digest_size=20)
    for part in parts:
        text = _typed(part).encode("utf-8", "surrogatepass")
        made.update(b"%d:" % len(text) + text)
    return made.hexdigest()


def _typed(value: Any) -> str:
    if value is None or type(value) in (bool, int, float, str, bytes, Decimal, complex, datetime.timedelta):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, enum.Enum):
        return f"enum {type(value).__module__}.{type(value).__qualname__}.{value.name}"
    if isinstance(value, datetime.date | datetime.time):
        return f"{type(value).__name__} {value!r} {getattr(value, 'fold', 0)}"
    if isinstance(value, UUID):
        return f"uuid {value.hex}"
    if isinstance(value, bytearray | memoryview):
        return f"bytes {bytes(value)!r}"
    if type(value) in ADDRESSES.values():
        return f"{type(value).__name__} {value}"
    if type(value) in (list, tuple):
        return f"{type(value).__name__} {[_typed(one) for one in value]!r}"
    if type(value) in (set, frozenset):
        return f"set {sorted(_typed(one) for one in value)!r}"
    if isinstance(value, Mapping):
        return f"mapping {sorted((_typed(key), _typed(one)) for key, one in value.items())!r}"
    raise UnknownTypeError(f"values of {type(value).__qualname__} cannot be a part of a key")


def encode(rows: Rows, generations: Iterable[int]) -> bytes:
    """Return rows, and the generations of the tables they were read from, as JSON.

    Raises ``UnknownTypeError`` for a value of any other type than a driver's usual ones.
    """
    lines = [[_packed(value) for value in row] for row in rows.rows]
    described = [[_packed(value) for value in column] for column in rows.description]
    return json.dumps([_VERSION, list(generations), described, lines], separators=(",", ":")).encode()


def decode(data: bytes, generations: list[int]) -> Rows | None:
    """Return what ``encode`` was given; None when it was for other generations, or is of another version.

    Raises ``ValueError`` for anything else.
    """
    try:
        version, of, described, lines = json.loads(data)
        if version != _VERSION or of != generations:
            return None
        return Rows(
            tuple(tuple(_unpacked(value) for value in column) for column in described),
            [tuple([value if type(value) in _PLAIN else _unpacked(value) for value in row]) for row in lines],
        )
    except (TypeError, KeyError, ArithmeticError, LookupError) as error:
        raise ValueError("not a result as fedorm writes it") from error


def _packed(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list:
        return {"list": [_packed(one) for one in value]}
    if kind is tuple:
        return {"tuple": [_packed(one) for one in value]}
    if kind is dict:
        return {"dict": [[_packed(key), _packed(one)] for key, one in value.items()]}
    if kind is Decimal:
        return {"decimal": str(value)}
    if kind is datetime.datetime or kind is datetime.time:
        return {kind.__name__: [value.replace(tzinfo=None).isoformat(), value.fold, _zone(value)]}
    if kind is datetime.date:
        return {"date": value.isoformat()}
    if kind is datetime.timedelta:
        return {"timedelta": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, UUID):
        return {"uuid": value.hex}
    if kind in (bytes, bytearray, memoryview):
        return {"bytes": base64.b64encode(value).decode()}
    if kind.__name__ in ADDRESSES:
        return {kind.__name__: str(value)}
    raise UnknownTypeError(f"values of {kind.__qualname__} are not kept outside of the process")


def _zone(value: datetime.datetime | datetime.time) -> Any:
    """Return a value's time zone: None, a name, or its offset in seconds."""
    if value.tzinfo is None:
        return None
    if isinstance(value.tzinfo, ZoneInfo) and value.tzinfo.key is not None:
        return value.tzinfo.key
    offset = value.utcoffset()
    return None if offset is None else offset.total_seconds()


def _in_zone(value: Any, fold: int, zone: Any) -> Any:
    if zone is None:
        return value.replace(fold=fold)
    if isinstance(zone, str):
        return value.replace(fold=fold, tzinfo=ZoneInfo(zone))
    return value.replace(
        fold=fold, tzinfo=datetime.timezone(datetime.timedelta(seconds=zone)) if zone else datetime.UTC
    )


_UNPACK: dict[str, Callable[[Any], Any]] = {
    "list": lambda told: [_unpacked(one) for one in told],
    "tuple": lambda told: tuple(_unpacked(one) for one in told),
    "dict": lambda told: {_unpacked(key): _unpacked(one) for key, one in told},
    "decimal": Decimal,
    "datetime": lambda told: _in_zone(datetime.datetime.fromisoformat(told[0]), *told[1:]),
    "time": lambda told: _in_zone(datetime.time.fromisoformat(told[0]), *told[1:]),
    "date": datetime.date.fromisoformat,
    "timedelta": lambda told: datetime.timedelta(*told),
    "uuid": UUID,
    "bytes": base64.b64decode,
    **ADDRESSES,
}


def _unpacked(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    ((kind, told),) = value.items()
    return _UNPACK[kind](told)
