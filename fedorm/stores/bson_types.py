"""Between the types of documents' fields and those of BSON."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fedorm.stores.plain_types import is_plain


def field_name(model: type[Any], name: str) -> str:
    """Return what the database calls a field: its alias, or its own name."""
    field = model.model_fields.get(name)
    return str(field.alias or name) if field is not None else name


def class_filter(model: type[Any]) -> dict[str, Any]:
    """Return the filter for a class and those below it, where its collection also holds others."""
    if getattr(model, "_parent", None) is None:
        return {}  # The root of a collection, or the only class in it.
    return {model.get_settings().class_id: {"$in": [model._class_id, *model._children]}}


def thawed(model: type[Any], raw: dict[str, Any]) -> dict[str, Any]:
    """Return ``raw`` with Python's own numbers in place of BSON's, which a document's fields would not take or keep."""
    rigid = _rigid_fields(model)  # type: ignore[arg-type] # mypy does not take a class for hashable
    return {name: value if name in rigid else _thaw(value) for name, value in raw.items()}


@lru_cache(maxsize=1024)
def _rigid_fields(model: type[Any]) -> frozenset[str]:
    """Return the fields that need no look: pydantic makes their values what they have to be."""
    return frozenset(
        field_name(model, name)
        for name, field in model.model_fields.items()
        if (is_plain(field.annotation) and "Decimal" not in str(field.annotation)) or "Decimal128" in str(field)
    ) | {"_id"}


def _thaw(value: Any) -> Any:
    from bson import Decimal128, Int64

    if isinstance(value, dict):
        return {name: _thaw(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_thaw(inner) for inner in value]
    if isinstance(value, Decimal128):
        return value.to_decimal()
    return int(value) if isinstance(value, Int64) else value
