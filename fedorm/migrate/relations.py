"""What no single service can see: whether the two sides of a relationship between services fit each other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import BigInteger, Index, Integer, SmallInteger, Table, UniqueConstraint, inspect
from sqlalchemy.orm import configure_mappers

from fedorm.catalog import catalog
from fedorm.entity import is_document, primary_key
from fedorm.exc import RelationshipError
from fedorm.migrate.base import Drift
from fedorm.relationship import FederatedAttribute, Hop, federated_attributes
from fedorm.stores.base import collection_name


def relation_drifts(known: Collection[str], services: Collection[str]) -> list[Drift]:
    """Return what is wrong with relationships that lead from one of these services to one of those ``known``."""
    configure_mappers()
    found: list[Drift] = []
    for service in services:
        for model in catalog.models(service):
            for attribute in federated_attributes(model).values():
                if attribute.owner is model:
                    found += _of(attribute, known)
    return found


def _of(attribute: FederatedAttribute, known: Collection[str]) -> Iterator[Drift]:
    owner = attribute.owner
    try:
        hop = attribute.hop  # Made with the types of both sides compared.
    except RelationshipError as error:
        yield Drift(owner.__service__, _place(owner), str(error))
        return
    if hop.service not in known:
        return
    yield from _types(attribute, hop)
    if not _has_index(hop.target, hop.remote):
        yield Drift(hop.service, _place(hop.target), _unindexed(attribute, hop.remote))
    if hop.secondary is not None and hop.secondary.service in known:
        columns = [column.name for column in hop.secondary.local]
        if not any(_begins(names, columns) for names in _indexes(hop.secondary.table)):
            yield Drift(hop.secondary.service, hop.secondary.table.fullname, _unindexed(attribute, columns))


def _unindexed(attribute: FederatedAttribute, keys: Iterable[str]) -> str:
    return (
        f"{attribute.name} finds its rows by {', '.join(keys)}, which no index begins with: each load reads all of them"
    )


def _types(attribute: FederatedAttribute, hop: Hop) -> Iterator[Drift]:
    """Find integers of two sizes; other types that do not fit are the relationship's own to refuse."""
    if hop.secondary is not None or is_document(hop.source) or is_document(hop.target):
        return
    for local, remote in zip(hop.local, hop.remote, strict=True):
        mine, its = (_column_type(model, name) for model, name in ((hop.source, local), (hop.target, remote)))
        sizes = _size(mine), _size(its)
        if None not in sizes and sizes[0] != sizes[1]:
            yield Drift(
                attribute.owner.__service__,
                _place(hop.source),
                f"{attribute.name} goes from {local}, {mine!r}, to {remote}, {its!r}: the keys have to be of one type",
            )


def _column_type(model: Any, name: str) -> Any:
    return inspect(model).column_attrs[name].columns[0].type


def _size(kind: Any) -> int | None:
    """Return how large the integers of a type of SQLAlchemy's are."""
    if not isinstance(kind, Integer) or not type(kind).__module__.startswith("sqlalchemy."):
        return None
    return 8 if isinstance(kind, BigInteger) else 2 if isinstance(kind, SmallInteger) else 4


def _place(model: Any) -> str:
    return collection_name(model) if is_document(model) else str(inspect(model).local_table)


def _has_index(model: Any, fields: Sequence[str]) -> bool:
    if set(fields) == set(primary_key(model)):
        return True
    if is_document(model):
        return any(_begins(names, fields) for names in _document_indexes(model))
    mapper = inspect(model)
    table = mapper.local_table
    if not isinstance(table, Table):
        return True
    columns = [mapper.column_attrs[name].columns[0].name for name in fields]
    return any(_begins(names, columns) for names in _indexes(table))


def _indexes(table: Table) -> Iterator[list[str]]:
    yield [column.name for column in table.primary_key]
    for index in table.indexes:
        if _is_partial(index):
            continue
        yield [getattr(one, "name", "") for one in index.expressions]
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield [column.name for column in constraint.columns]
    if (engine := getattr(table, "engine", None)) is not None:
        order = getattr(engine, "order_by", None)
        yield [getattr(one, "name", str(one)) for one in getattr(order, "expressions", None) or ()]


def _is_partial(index: Index) -> bool:
    """Say whether an index leaves rows out that a load may look for; those whose key is null it never does."""
    harmless = {f"{name} is not null".lower() for column in index.columns for name in (column.name, str(column))}
    conditions = (options.get("where") for options in index.dialect_options.values())
    return any(one is not None and str(one).strip().lower() not in harmless for one in conditions)


def _document_indexes(model: Any) -> Iterator[list[str]]:
    for name, field in model.model_fields.items():
        if any(getattr(one, "_indexed", None) for one in (field.annotation, *field.metadata)):
            yield [name]
    for index in getattr(getattr(model, "Settings", None), "indexes", ()):
        if isinstance(index, str):
            yield [index]
        elif isinstance(index, list | tuple):
            yield [one if isinstance(one, str) else one[0] for one in index]
        elif set(index.document.get("partialFilterExpression", ())) <= set(index.document["key"]):
            yield list(index.document["key"])  # Else it has some of the documents alone.


def _begins(index: Sequence[str], fields: Sequence[str]) -> bool:
    return set(index[: len(fields)]) == set(fields)
