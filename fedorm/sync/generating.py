"""Carrying over, with the rows, which keys their database has given out itself."""

from __future__ import annotations

from sqlalchemy import Column, func, select
from sqlalchemy.util import greenlet_spawn

from fedorm.stores.base import Capability, Store
from fedorm.stores.sql import SQLStore
from fedorm.sync.resolving import ResolvedRule
from fedorm.sync.shapes import Side


async def advance(rule: ResolvedRule, source: Store, target: Store) -> int | None:
    """Let the target's database give out no key that its own rows have, or that the source has given out before.

    Return the last key that is taken; None where the target's keys are not given out by its database.
    """
    there = _generated(rule.target)
    if there is None or not isinstance(target, SQLStore) or Capability.UPDATES not in target.capabilities:
        return None
    here = _generated(rule.source)
    taken = [await greenlet_spawn(_taken, target, there)]
    if here is not None and isinstance(source, SQLStore):
        taken.append(await greenlet_spawn(_taken, source, here))
    last = max((one for one in taken if one is not None), default=None)
    if last is not None and last > 0:  # Negative ones are nobody's counter's.
        await greenlet_spawn(_advance, target, there, last)
    return last


def _generated(side: Side) -> Column[int] | None:
    table = side.whole.table
    return None if table is None else table.autoincrement_column


def _taken(store: SQLStore, key: Column[int]) -> int | None:
    """Return the greatest key of rows, or that was given out to such that are gone."""
    with store.engine.connect() as connection:
        found = (connection.scalar(select(func.max(key))), store.generated_up_to(connection, key))
    return max((one for one in found if one is not None), default=None)


def _advance(store: SQLStore, key: Column[int], value: int) -> None:
    with store.engine.begin() as connection:
        store.generate_beyond(connection, key, value)
