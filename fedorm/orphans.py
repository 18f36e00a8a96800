"""Keys of a relationship that point to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, inspect, select

from fedorm.async_session import AsyncFederatedSession
from fedorm.entity import is_document, primary_key
from fedorm.exc import RelationshipError
from fedorm.relationship import FederatedAttribute, convert_key
from fedorm.stores.base import DocumentStore, batches
from fedorm.stores.sql import SQLStore


@dataclass(frozen=True, slots=True)
class Orphans:
    """Keys of a relationship that point nowhere: how many ``rows`` hold them, how many ``keys`` they are, a sample."""

    rows: int
    keys: int
    sample: list[Any]


async def find_orphans(session: AsyncFederatedSession, attribute: Any, sample: int) -> Orphans:
    """Count the keys of a relationship that point to nothing; see ``Federation.orphans()``."""
    if not isinstance(attribute, FederatedAttribute):
        raise RelationshipError(f"orphans({attribute}): this is not a federated relationship")
    hop = attribute.hop
    if hop.secondary is not None:
        raise RelationshipError(f"{hop.name} goes through a table: ask for the orphans of a relationship of its model")
    if hop.uselist or hop.local == primary_key(hop.source):
        holder, holding, pointed, keys = hop.target, hop.remote, hop.source, hop.local
    else:
        holder, holding, pointed, keys = hop.source, hop.local, hop.target, hop.remote
    rows = missing = 0
    found: list[Any] = []
    counts = await _count_keys(session, holder, holding)
    store = session.sync_session.store_of(pointed)
    for batch in batches(counts.items(), store.keys_per_statement(len(keys))):
        asked = {
            convert_key(hop, key, hop.convert) if holder is hop.source else attribute.to_source(key): (
                key,
                number,
            )
            for key, number in batch
        }
        there = await _existing(session, pointed, keys, list(asked))
        for key, (held, number) in asked.items():
            if key in there:
                continue
            rows, missing = rows + number, missing + 1
            if len(found) < sample:
                found.append(held[0] if len(held) == 1 else held)
    return Orphans(rows, missing, found)


async def _count_keys(
    session: AsyncFederatedSession, model: type[Any], names: tuple[str, ...]
) -> dict[tuple[Any, ...], int]:
    if is_document(model):
        documents = session.sync_session.documents
        store = documents.store_of(model)
        transaction = await documents.before_reading(store)
        keys = await store.count_keys(model, names, transaction=transaction)
        return {key: number for key, number in keys.items() if None not in key}
    columns = [getattr(model, name) for name in names]
    statement = select(*columns, func.count()).where(*(column.is_not(None) for column in columns)).group_by(*columns)
    counts: dict[tuple[Any, ...], int] = {}
    async for row in await session.stream(statement, execution_options={"yield_per": 10_000}):
        counts[tuple(row[:-1])] = row[-1]
    return counts


async def _existing(
    session: AsyncFederatedSession, model: type[Any], names: tuple[str, ...], keys: list[tuple[Any, ...]]
) -> set[tuple[Any, ...]]:
    store = session.sync_session.store_of(model)
    if isinstance(store, DocumentStore):
        raw = await store.find_keys(model, names, keys)
        return {store.key_of(model, one, names) for one in raw}
    assert isinstance(store, SQLStore)
    mapper = inspect(model)
    columns: list[Any] = [mapper.column_attrs[name].columns[0] for name in names]
    rows = await session.execute(select(*columns).where(store.key_filter(columns, keys)))
    return {tuple(row) for row in rows}
