"""A document model's collection as a table: ``Product.c.price`` in a select."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import PurePath
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from beanie import BackLink, Link
from bson import ObjectId
from pydantic import AnyUrl, BaseModel, EmailStr, SecretStr
from sqlalchemy import ARRAY, Column, ColumnClause, MetaData, Table, types
from sqlalchemy.dialects import postgresql

from fedorm.catalog import SERVICE, catalog
from fedorm.stores.base import collection_name
from fedorm.stores.bson_types import field_name

COLLECTION = "fedorm.collection"
"""The key in a table's ``info`` of the collection that holds its documents."""
MODEL = "fedorm.model"
"""The key in a table's ``info`` of the class whose documents are its rows."""
FIELD = "fedorm.field"
"""The key in a column's ``info`` of what the database calls its field."""


LINK = ".$id"
"""The end of the path to what a link holds; a link as a whole is read without it."""


TARGET = "fedorm.target"
"""The key in the ``info`` of a column of links: the collection that they lead to."""


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


class DocumentJSON(postgresql.JSON):
    """A document within a document, or what has no type of its own; ``->``, ``->>`` and ``.astext`` as in PostgreSQL.

    The fields of a model within a document are columns, too: ``Product.c.address.city`` is
    ``Product.c["address.city"]``.
    """

    cache_ok = True

    class Comparator(postgresql.JSON.Comparator[Any]):
        """Finds the fields of the model within."""

        def __getattr__(self, name: str) -> Any:
            column: Any = self.expr
            if name.startswith("_") or not isinstance(column, ColumnClause) or column.table is None:
                raise AttributeError(name)
            path = f"{column.name}.{name}"
            if path not in column.table.c:
                raise AttributeError(name)
            return column.table.c[path]

    comparator_factory = Comparator


def document_table(model: type[Any]) -> Table:
    """Make the table of a document model; a column is called as its field in Python is.

    The table has the collection's name. That of a class in a collection that others began has the class's, unless a
    collection is called so.
    """
    collection = collection_name(model)
    known = catalog.documents(model.__service__)
    others = [other for other in known if collection_name(other) == collection]
    name = collection
    if others and others[0] is not model:
        taken = model.__name__ in map(collection_name, known)
        name = f"{collection}_{model.__name__}" if taken else model.__name__
    info = {COLLECTION: collection, MODEL: model}
    return Table(name, MetaData(info={SERVICE: model.__service__}), *_columns(model), info=info)


def _columns(
    model: type[Any], within: tuple[tuple[str, str], ...] = (), seen: tuple[type, ...] = ()
) -> list[Column[Any]]:
    made: list[Column[Any]] = []
    for name, field in model.model_fields.items():
        link = _linked(field.annotation)
        if link is not None and link[0] is BackLink:
            continue  # Not in the database.
        is_key = name == "id" and not within
        stored_as = "_id" if is_key else field_name(model, name)
        path = (*within, (name, f"{stored_as}{LINK}" if link is not None else stored_as))
        called, stored = (".".join(names) for names in zip(*path, strict=True))
        made.append(Column(called, column_type(field.annotation), primary_key=is_key, info={FIELD: stored}))
        if link is not None:
            made[-1].info[TARGET] = collection_name(link[1])
        # SELECT * and select(Product) have the document within as a whole.
        made[-1]._omit_from_statements = bool(within)
        inner = _inner_model(field.annotation)
        if inner is not None and inner not in (model, *seen):
            made += _columns(inner, path, (model, *seen))
    return made


def _linked(annotation: Any) -> tuple[Any, Any] | None:
    """Return ``Link`` or ``BackLink`` and the class it leads to, for a field of one or of many; None for others."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Link, BackLink):
        return origin, arguments[0]
    if origin is Annotated or origin in _ARRAYS or origin in (Union, UnionType):
        inner = arguments[:1] if origin is Annotated else arguments
        return next((found for one in inner if (found := _linked(one)) is not None), None)
    return None


def _inner_model(annotation: Any) -> type[Any] | None:
    """Return the model of a field that holds one document within the document."""
    if get_origin(annotation) is Annotated:
        return _inner_model(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        members = [one for one in get_args(annotation) if one is not type(None)]
        return _inner_model(members[0]) if len(members) == 1 else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def column_type(annotation: Any) -> types.TypeEngine[Any]:
    """Return the type of a field's values; documents within documents, and what is not plain, are JSON."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return column_type(arguments[0])
    if origin is Link:  # What is known of the other document is its id.
        fields = getattr(arguments[0], "model_fields", {})
        return column_type(fields["id"].annotation) if "id" in fields else ObjectIdText()
    if origin is Literal:
        kinds = {type(value) for value in arguments}
        return column_type(kinds.pop()) if len(kinds) == 1 else DocumentJSON()
    if origin in (Union, UnionType):
        members = [one for one in arguments if one is not type(None)]
        return column_type(members[0]) if len(members) == 1 else DocumentJSON()
    if origin in _ARRAYS or annotation in _ARRAYS:
        items = set(arguments) - {...}
        inner = column_type(items.pop()) if len(items) == 1 else DocumentJSON()
        return ARRAY(DocumentJSON() if isinstance(inner, ARRAY) else inner)
    return _plain_type(annotation) if isinstance(annotation, type) else DocumentJSON()


_ARRAYS = (list, set, frozenset, tuple, Sequence, AbstractSet)
_TEXTS = (str, AnyUrl, EmailStr, SecretStr, PurePath, IPv4Address, IPv4Network, IPv6Address, IPv6Network)
"""What Beanie writes as text."""


def _plain_type(kind: type[Any]) -> types.TypeEngine[Any]:
    if issubclass(kind, ObjectId):
        return ObjectIdText()
    if issubclass(kind, enum.Enum):
        values = [str(member.value) for member in kind]
        return types.Enum(kind, values_callable=lambda _: values, native_enum=False)
    if issubclass(kind, _TEXTS):
        return types.Text()
    for python, made in (
        (bool, types.Boolean()),
        (int, types.BigInteger()),
        (float, types.Float()),
        (bytes, types.LargeBinary()),
        (datetime.datetime, types.DateTime(timezone=True)),
        (datetime.date, types.Date()),
        (Decimal, types.Numeric()),
        (UUID, types.Uuid()),
    ):
        if issubclass(kind, python):
            return made
    return DocumentJSON()
