"""A document model's collection as a table: ``Product.c.price`` in a select."""

from __future__ import annotations

import datetime
import enum
from decimal import Decimal
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin
from uuid import UUID

from bson import ObjectId
from sqlalchemy import ARRAY, Column, MetaData, Table, types

from fedorm.catalog import SERVICE
from fedorm.stores.base import collection_name
from fedorm.stores.bson_types import field_name

FIELD = "fedorm.field"
"""The key in a column's ``info`` of what the database calls its field."""


class ObjectIdText(types.TypeDecorator[Any]):
    """An ``ObjectId``, as its 24 hexadecimal digits on the way."""

    impl = types.String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        """Return the digits."""
        return None if value is None else str(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        """Return the ``ObjectId``."""
        from beanie import PydanticObjectId

        return None if value is None else PydanticObjectId(value)


def document_table(model: type[Any]) -> Table:
    """Make the table of a document model; a column is called as its field in Python is."""
    columns: list[Column[Any]] = []
    for name, field in model.model_fields.items():
        stored = "_id" if name == "id" else field_name(model, name)
        kind = column_type(field.annotation)
        columns.append(Column(name, kind, primary_key=name == "id", info={FIELD: stored}))
    return Table(collection_name(model), MetaData(info={SERVICE: model.__service__}), *columns)


def column_type(annotation: Any) -> types.TypeEngine[Any]:
    """Return the type of a field's values; documents within documents, and what is not plain, are JSON."""
    if get_origin(annotation) is Annotated:
        return column_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        members = [one for one in get_args(annotation) if one is not type(None)]
        return column_type(members[0]) if len(members) == 1 else types.JSON(none_as_null=True)
    if get_origin(annotation) is list and get_args(annotation):
        inner = column_type(get_args(annotation)[0])
        return types.JSON(none_as_null=True) if isinstance(inner, types.JSON | ARRAY) else ARRAY(inner)
    return _plain_type(annotation) if isinstance(annotation, type) else types.JSON(none_as_null=True)


def _plain_type(kind: type[Any]) -> types.TypeEngine[Any]:
    if issubclass(kind, ObjectId):
        return ObjectIdText()
    if issubclass(kind, enum.Enum):
        values = [str(member.value) for member in kind]
        return types.Enum(kind, values_callable=lambda _: values, native_enum=False)
    for python, made in (
        (bool, types.Boolean()),
        (int, types.BigInteger()),
        (float, types.Float()),
        (str, types.Text()),
        (bytes, types.LargeBinary()),
        (datetime.datetime, types.DateTime(timezone=True)),
        (datetime.date, types.Date()),
        (Decimal, types.Numeric()),
        (UUID, types.Uuid()),
    ):
        if issubclass(kind, python):
            return made
    return types.JSON(none_as_null=True)
