"""Values as text and as JSON, so that each can be read back whole."""

from __future__ import annotations

import base64
import datetime
import enum
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any


def as_json(value: Any) -> Any:
    """Return a value that JSON has.

    Integers, and floats that are finite, stay numbers; decimals are strings with all their digits, and so are the
    floats that JSON does not know ("NaN", "Infinity", "-Infinity"). Dates and times are in ISO 8601, with their zone
    where they have one, durations too; bytes are in Base64; mappings and lists stay what they are.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, enum.Enum):
        return as_json(value.value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _unusual(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return _duration(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return {str(key): as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(inner) for inner in value]
    return str(value)


def as_text(value: Any) -> str | None:
    """Return the same as text, None for NULL."""
    plain = as_json(value)
    if plain is None or isinstance(plain, str):
        return plain
    return dump(plain)


def dump(plain: Any) -> str:
    """Return JSON on one line."""
    return json.dumps(plain, ensure_ascii=False, allow_nan=False)


def is_number(value: Any) -> bool:
    """Say whether a table writes a value to the right."""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _unusual(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _duration(value: datetime.timedelta) -> str:
    """Return a duration in ISO 8601: days, seconds and their fraction, with one sign for all."""
    sign, rest = ("-", -value) if value < datetime.timedelta() else ("", value)
    seconds = f"{rest.seconds}.{rest.microseconds:06}".rstrip("0").rstrip(".") if rest.microseconds else rest.seconds
    return f"{sign}P{rest.days}DT{seconds}S"
