"""What tests of change feeds share: shapes, and reading a stream up to a point."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from sqlalchemy import Table, inspect
from sqlalchemy.orm import Mapper

from fedorm.stores.feeds import Change, ChangeFeed, Chunk
from fedorm.stores.rows import RowShape


def shape_of(model: Any) -> RowShape:
    """Return the shape of a table or of a mapped class, with all of its columns."""
    if isinstance(model, Table):
        columns = {column.name: column for column in model.columns}
        key = tuple(column.name for column in model.primary_key)
        return RowShape("feeds", model.name, key, tuple(columns), model, columns)
    mapper: Mapper[Any] = inspect(model)
    columns = {attribute.key: attribute.columns[0] for attribute in mapper.column_attrs}
    key = tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)
    assert isinstance(mapper.local_table, Table)
    return RowShape(model.__service__, model.__name__, key, tuple(columns), mapper.local_table, columns)


async def read_chunks(
    feed: ChangeFeed, position: str, enough: Callable[[list[Chunk]], bool], *, seconds: float = 30
) -> list[Chunk]:
    """Return what a stream yields, until there is enough."""
    chunks: list[Chunk] = []
    async with asyncio.timeout(seconds), aclosing(feed.stream(position)) as stream:  # type: ignore[type-var]
        async for chunk in stream:
            chunks.append(chunk)
            if enough(chunks):
                return chunks
    raise AssertionError("the stream has ended")


async def read_changes(feed: ChangeFeed, position: str, number: int) -> list[Change]:
    """Return the first changes of a stream, and fail if more come with them."""
    chunks = await read_chunks(feed, position, lambda chunks: sum(len(one.changes) for one in chunks) >= number)
    changes = [change for chunk in chunks for change in chunk.changes]
    assert len(changes) == number, [told(change) for change in changes[:20]]
    return changes


def told(change: Change) -> tuple[Any, ...]:
    """Return a change without its shape."""
    return change.kind, change.key, change.values, change.before


def apply(rows: dict[Any, Any], changes: list[Change]) -> None:
    """Do to rows by key what a target would."""
    for change in changes:
        if change.kind == "truncate":
            rows.clear()
            continue
        if change.before is not None:
            old = tuple(change.before.get(name) for name in change.shape.key)
            if old != change.key:
                rows.pop(old, None)
        if change.kind == "delete":
            rows.pop(change.key, None)
        else:
            rows[change.key] = {**rows.get(change.key, {}), **(change.values or {})}
