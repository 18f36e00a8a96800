"""A model's collection as a table, whatever store holds it: ``Product.c.price`` in a select."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import PurePath
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import AnyUrl, BaseModel, EmailStr, SecretStr
from sqlalchemy import ARRAY, Column, ColumnClause, MetaData, Table, types
from sqlalchemy.dialects import postgresql

from fedorm.catalog import SERVICE
from fedorm.stores.base import collection_name
from fedorm.stores.entity import siblings_of

COLLECTION = "fedorm.collection"
"""The key in a table's ``info`` of the collection that holds its documents."""
MODEL = "fedorm.model"
"""The key in a table's ``info`` of the class whose documents are its rows."""
FIELD = "fedorm.field"
"""The key in a column's ``info`` of what the database calls its field."""

Special = Callable[[Any], types.TypeEngine[Any] | None]
"""Returns the type of what a store alone has types for, None for everything else."""


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


def entity_table(model: type[Any]) -> Table:
    """Make the table of a model whose fields are stored under their own names: one column a field."""
    columns = [
        Column(name, column_type(field.annotation), primary_key=name == "id", info={FIELD: name})
        for name, field in model.model_fields.items()
    ]
    return table_of(model, columns)


def table_of(model: type[Any], columns: Sequence[Column[Any]]) -> Table:
    """Make the table of a model; a column is called as its field in Python is.

    The table has the collection's name. That of a class in a collection that others began has the class's, unless a
    collection is called so.
    """
    collection = collection_name(model)
    known = siblings_of(model)
    others = [other for other in known if collection_name(other) == collection]
    name = collection
    if others and others[0] is not model:
        taken = model.__name__ in map(collection_name, known)
        name = f"{collection}_{model.__name__}" if taken else model.__name__
    info = {COLLECTION: collection, MODEL: model}
    return Table(name, MetaData(info={SERVICE: model.__service__}), *columns, info=info)


def _no_special(annotation: Any) -> None:
    return None


def column_type(annotation: Any, special: Special = _no_special) -> types.TypeEngine[Any]:
    """Return the type of a field's values; documents within documents, and what is not plain, are JSON."""
    known = special(annotation)
    if known is not None:
        return known
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return column_type(arguments[0], special)
    if origin is Literal:
        kinds = {type(value) for value in arguments}
        return column_type(kinds.pop(), special) if len(kinds) == 1 else DocumentJSON()
    if origin in (Union, UnionType):
        members = [one for one in arguments if one is not type(None)]
        return column_type(members[0], special) if len(members) == 1 else DocumentJSON()
    if origin in ARRAYS or annotation in ARRAYS:
        items = set(arguments) - {...}
        inner = column_type(items.pop(), special) if len(items) == 1 else DocumentJSON()
        return ARRAY(DocumentJSON() if isinstance(inner, ARRAY) else inner)
    return _plain_type(annotation) if isinstance(annotation, type) else DocumentJSON()


def inner_model(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a field that holds one document within the document."""
    if get_origin(annotation) is Annotated:
        return inner_model(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        members = [one for one in get_args(annotation) if one is not type(None)]
        return inner_model(members[0]) if len(members) == 1 else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


ARRAYS = (list, set, frozenset, tuple, Sequence, AbstractSet)
_TEXTS = (str, AnyUrl, EmailStr, SecretStr, PurePath, IPv4Address, IPv4Network, IPv6Address, IPv6Network)
"""What is written as text."""


def _plain_type(kind: type[Any]) -> types.TypeEngine[Any]:
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
