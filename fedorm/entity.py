"""What relationships need to know of a model, whether it maps a table or a collection."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Table, inspect
from sqlalchemy.orm import Mapper

from fedorm.exc import RelationshipError


def is_document(model: Any) -> bool:
    """Say whether a model class is a document."""
    return bool(getattr(model, "__document__", False))


def primary_key(model: type[Any]) -> tuple[str, ...]:
    """Return the attribute names of a model's primary key."""
    if is_document(model):
        return ("id",)
    mapper: Mapper[Any] = inspect(model)
    return tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)


def key_type(model: type[Any], name: str, *, what: str) -> type[Any] | None:
    """Return the Python type of a key attribute, None when it cannot be told.

    Raises ``RelationshipError`` when the model has no such attribute.
    """
    if is_document(model):
        field = model.model_fields.get(name)
        if field is None:
            raise RelationshipError(f"{what}: document {model.__name__} has no field {name!r}")
        return _plain_type(field.annotation)
    mapper: Mapper[Any] = inspect(model)
    if name not in mapper.column_attrs:
        raise RelationshipError(f"{what}: model {model.__name__} has no column attribute {name!r}")
    return column_type(mapper.column_attrs[name].columns[0])


def column_type(column: Column[Any] | Any) -> type[Any] | None:
    """Return the Python type of a column's values, None when its type does not say."""
    try:
        kind = column.type.python_type
    except NotImplementedError:
        return None
    return kind if isinstance(kind, type) and kind is not object else None


def columns_of(table: Table, names: Sequence[str | Column[Any]], *, what: str) -> tuple[Column[Any], ...]:
    """Return columns of ``table`` given by name or as themselves."""
    found = []
    for name in names:
        column = table.c.get(name if isinstance(name, str) else name.key)
        if column is None:
            raise RelationshipError(f"{what}: table {table.name!r} has no column {name!r}")
        found.append(column)
    return tuple(found)


def identity_of(model: type[Any], key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the identity-map key of a table model's instance with primary key ``key``."""
    mapper: Mapper[Any] = inspect(model)
    return mapper.identity_key_from_primary_key(key)


def _plain_type(annotation: Any) -> type[Any] | None:
    """Return the one class that an annotation such as ``Annotated[int | None, ...]`` stands for."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _plain_type(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        members = [arg for arg in typing.get_args(annotation) if arg is not type(None)]
        return _plain_type(members[0]) if len(members) == 1 else None
    return annotation if isinstance(annotation, type) else None
