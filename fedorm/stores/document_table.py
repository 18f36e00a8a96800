"""A document model's collection as a table: ``Product.c.price`` in a select."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from beanie import BackLink, Link
from bson import ObjectId
from sqlalchemy import Column, Table, types

from fedorm.stores.base import collection_name
from fedorm.stores.bson_types import field_name
from fedorm.stores.entity_table import ARRAYS, FIELD, column_type, inner_model, table_of

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


def document_table(model: type[Any]) -> Table:
    """Make the table of a document model; the fields of models within it are columns, too."""
    return table_of(model, _columns(model))


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
        made.append(Column(called, column_type(field.annotation, _special), primary_key=is_key, info={FIELD: stored}))
        if link is not None:
            made[-1].info[TARGET] = collection_name(link[1])
        # SELECT * and select(Product) have the document within as a whole.
        made[-1]._omit_from_statements = bool(within)
        inner = inner_model(field.annotation)
        if inner is not None and inner not in (model, *seen):
            made += _columns(inner, path, (model, *seen))
    return made


def _linked(annotation: Any) -> tuple[Any, Any] | None:
    """Return ``Link`` or ``BackLink`` and the class it leads to, for a field of one or of many; None for others."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Link, BackLink):
        return origin, arguments[0]
    if origin is Annotated or origin in ARRAYS or origin in (Union, UnionType):
        inner = arguments[:1] if origin is Annotated else arguments
        return next((found for one in inner if (found := _linked(one)) is not None), None)
    return None


def _special(annotation: Any) -> types.TypeEngine[Any] | None:
    if get_origin(annotation) is Link:  # What is known of the other document is its id.
        fields = getattr(get_args(annotation)[0], "model_fields", {})
        return column_type(fields["id"].annotation, _special) if "id" in fields else ObjectIdText()
    return ObjectIdText() if isinstance(annotation, type) and issubclass(annotation, ObjectId) else None
