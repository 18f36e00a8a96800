"""``FederatedSearchDocument``: a document of an Elasticsearch index that says which service owns it."""

from __future__ import annotations

from typing import Any, ClassVar

from elasticsearch import dsl
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Column, Table

from fedorm.stores.base import collection_name
from fedorm.stores.elasticsearch_mapping import fields_of, settings_of
from fedorm.stores.entity import Entity, EntityMeta
from fedorm.stores.entity_table import FIELD, column_type, inner_model, table_of


class SearchDocumentMeta(EntityMeta):
    """Takes ``class Index``, as ``elasticsearch.dsl`` has it, for what other documents call ``Settings``."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> Any:
        """Make the class."""
        if "Index" in namespace:
            namespace.setdefault("Settings", namespace["Index"])
        return super().__new__(mcs, name, bases, namespace, **kwargs)

    @property
    def dsl(cls) -> Any:
        """The class as a document of ``elasticsearch.dsl``: ``Product.dsl.name`` in queries, ``Product.dsl.search()``.

        Its searches know no connection and no prefix: ``session.search()`` gives them both.
        """
        made = cls.__dict__.get("__search_document__")
        if made is None:
            index = type("Index", (), {"name": collection_name(cls), "settings": settings_of(cls)})
            metaclass: Any = type(dsl.AsyncDocument)
            made = metaclass(cls.__name__, (dsl.AsyncDocument,), {**fields_of(cls), "Index": index})
            type.__setattr__(cls, "__search_document__", made)
        return made


def _columns(
    model: type[BaseModel], within: tuple[tuple[str, str], ...] = (), seen: tuple[type, ...] = ()
) -> list[Column[Any]]:
    made: list[Column[Any]] = []
    for name, field in model.model_fields.items():
        path = (*within, (name, field.alias or name))
        called, stored = (".".join(names) for names in zip(*path, strict=True))
        is_key = name == "id" and not within
        made.append(Column(called, column_type(field.annotation), primary_key=is_key, info={FIELD: stored}))
        # SELECT * and select(Product) have the document within as a whole.
        made[-1]._omit_from_statements = bool(within)
        inner = inner_model(field.annotation)
        if inner is not None and inner not in (model, *seen):
            made += _columns(inner, path, (model, *seen))
    return made


class FederatedSearchDocument(Entity, BaseModel, metaclass=SearchDocumentMeta):
    """The base of every model of a search index; ``__service__`` names the owner, ``Index.name`` the index.

    A field is mapped by its type, or as it is annotated: ``Annotated[str, Text(analyzer="english")]``.
    """

    __abstract__: ClassVar[bool] = True
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    @classmethod
    def _entity_table(cls) -> Table:
        """Make a column of each field, and of those within."""
        return table_of(cls, _columns(cls))
