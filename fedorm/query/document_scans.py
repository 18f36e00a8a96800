"""Reads a step over documents, in the session's own document transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from fedorm.query.document_conditions import condition_of
from fedorm.query.plan import Scan
from fedorm.stores.base import DocumentStore
from fedorm.stores.conditions import Both, Compare, Condition, DocumentScan, Order, Parameter

if TYPE_CHECKING:
    from fedorm.session import FederatedSession

Ends = tuple[str, tuple[Any, Any]]
"""A column, and the least and the greatest value that it may have."""


def read_documents(
    session: FederatedSession,
    store: DocumentStore,
    scan: Scan,
    parameters: Mapping[str, Any],
    *,
    lists: Sequence[tuple[str, Sequence[Any]]] = (),
    ranges: Sequence[Ends] = (),
    limit: int | None = None,
) -> list[tuple[Any, ...]]:
    """Return the columns of a scan, of the documents whose columns are among ``lists`` and within ``ranges``."""
    wanted = _wanted(scan, parameters.__getitem__, lists, ranges, limit)
    transaction = session.documents.transactions.get(store.service)
    return session.bridge.run(store.read(wanted, transaction=transaction, sync=session.uses_threads))


def describe_documents(store: DocumentStore, scan: Scan) -> str:
    """Return what would be sent for a scan; parameters and keys show as their names."""
    keys = [(key.column, [Parameter(f"{key.source}.{key.source_column}")]) for key in scan.key_filters]
    limit: int | Parameter | None = None
    if isinstance(scan.limit, exp.Literal):
        limit = int(scan.limit.to_py())
    elif scan.limit is not None:
        limit = Parameter(scan.limit.sql(dialect="duckdb").removeprefix("$").replace("$", ":"))
    return store.describe(_wanted(scan, Parameter, keys, (), limit))


def _wanted(
    scan: Scan,
    value_of: Callable[[str], Any],
    lists: Sequence[tuple[str, Sequence[Any]]],
    ranges: Sequence[Ends],
    limit: int | Parameter | None,
) -> DocumentScan:
    made = [condition_of(predicate, value_of) for predicate in scan.predicates]
    parts: list[Condition] = [condition for condition, _ in made]
    for column, (low, high) in ranges:
        parts += [Compare(column, ">=", low), Compare(column, "<=", high)]
    where = Both(tuple(part for part in parts if part != Both()))
    order = tuple(Order(one.column, one.descending, one.nulls_first) for one in scan.order)
    complete = all(whole for _, whole in made)
    return DocumentScan(scan.table, scan.columns, where, complete, tuple(lists), order, limit)
