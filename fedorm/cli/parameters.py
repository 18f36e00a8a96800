"""``--param name=value``: values of the type that they look like, or of the one that is named."""

from __future__ import annotations

import base64
import datetime
import json
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any
from uuid import UUID

from fedorm.cli.setup import UsageError

_GIVEN = re.compile(r"(?P<name>\w+)(?::(?P<type>\w+))?=(?P<value>.*)", re.DOTALL)
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d*)")
_DECIMAL = re.compile(r"[+-]?(0|[1-9]\d*)\.\d+")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_DATETIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*")


def _bool(text: str) -> bool:
    words = {"true": True, "false": False}
    if text.lower() not in words:
        raise ValueError("true or false is expected")
    return words[text.lower()]


def _null(text: str) -> None:
    if text.lower() not in ("", "null"):
        raise ValueError("nothing is expected, or null")


TYPES: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "decimal": Decimal,
    "bool": _bool,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "datetime": datetime.datetime.fromisoformat,
    "uuid": UUID,
    "bytes": lambda text: base64.b64decode(text, validate=True),
    "json": json.loads,
    "null": _null,
}


def parse_parameters(given: Iterable[str]) -> dict[str, Any]:
    """Return the values of parameters by name; a name that is given several times has the list of its values.

    Raises ``UsageError`` for what is neither ``name=value`` nor ``name:type=value``, and for a value not of its type.
    """
    values: dict[str, Any] = {}
    several: set[str] = set()
    for one in given:
        match = _GIVEN.fullmatch(one)
        if match is None:
            raise UsageError(f"--param {one.partition('=')[0]}: write  --param name=value  or  --param name:type=value")
        name, kind = match["name"], match["type"]
        value = _typed(name, kind, match["value"])
        if name in several:
            values[name].append(value)
        elif name in values:
            values[name] = [values[name], value]
            several.add(name)
        else:
            values[name] = value
    return values


def _typed(name: str, kind: str | None, text: str) -> Any:
    if kind is None:
        return _guessed(text)
    if kind not in TYPES:
        raise UsageError(f"--param {name}: there is no type {kind!r}; there are {', '.join(TYPES)}")
    try:
        return TYPES[kind](text)
    except (ValueError, ArithmeticError) as error:
        raise UsageError(f"--param {name}: this is no {kind}: {str(error) or type(error).__name__}") from error


def _guessed(text: str) -> Any:
    """Return what a text looks like; it stays text where that is nothing else."""
    lower = text.lower()
    if lower in ("true", "false"):
        return lower == "true"
    if lower == "null":
        return None
    for pattern, kind in ((_INTEGER, "int"), (_DECIMAL, "decimal"), (_DATE, "date"), (_DATETIME, "datetime")):
        if pattern.fullmatch(text):
            try:
                return TYPES[kind](text)
            except ValueError:
                break  # As 2026-02-30, which is no date.
    return text
