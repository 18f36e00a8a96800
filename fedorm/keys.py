"""Keys of the two sides of a relationship: their types, made equal or refused."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable
from typing import Any

from fedorm.exc import KeyTypeError

Converter = Callable[[Any], Any]

_NUMBERS = (int, decimal.Decimal)


def converter(source: type[Any] | None, target: type[Any] | None, *, what: str) -> Converter | None:
    """Return what turns a key of type ``source`` into one of type ``target``; None when they compare as they are.

    ``None`` as a type means unknown, and is taken to match. Text stands for an int, a UUID or an ObjectId only in
    its canonical form, so that two spellings of one key are refused rather than silently unequal. Raises
    ``KeyTypeError`` for types that can never be equal; the returned function raises ``ValueError``.
    """
    if source is None or target is None or source is target:
        return None
    if _is_object_id(source) and _is_object_id(target):
        return None
    if source in _NUMBERS and target in _NUMBERS:
        return None
    if issubclass(source, target) or issubclass(target, source):
        if bool in (source, target):
            raise KeyTypeError(f"{what}: {_names(source, target)} keys cannot match")
        if not {source, target} & {datetime.datetime}:
            return None
    if target is str and (source in (int, uuid.UUID) or _is_object_id(source)):
        return str
    if source is str and (target in (int, uuid.UUID) or _is_object_id(target)):
        return _parser(target)
    raise KeyTypeError(
        f"{what}: a key of type {source.__name__} can never equal one of type {target.__name__}; "
        f"int, UUID and ObjectId match themselves and their text"
    )


def _parser(target: type[Any]) -> Converter:
    def parse(text: str) -> Any:
        value = target(text)
        if str(value) != text:
            raise ValueError(f"{text!r} is not the canonical form of the {target.__name__} {value}")
        return value

    return parse


def _is_object_id(kind: type[Any]) -> bool:
    # By name: this module is below the stores and must not need the document driver.
    return any(base.__name__ == "ObjectId" for base in kind.__mro__)


def _names(source: type[Any], target: type[Any]) -> str:
    return f"{source.__name__} and {target.__name__}"
