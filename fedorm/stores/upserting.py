"""``INSERT ... ON CONFLICT`` of the primary key, as PostgreSQL and SQLite have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Executable, Table


def upsert_on_conflict(
    made: Any, table: Table, names: Sequence[str], rows: Sequence[dict[str, Any]]
) -> list[tuple[Executable, list[dict[str, Any]]]]:
    """Return what a store's ``upsert`` does; ``made`` is the dialect's own ``insert(table)``."""
    keys = list(table.primary_key)
    changed = {name: made.excluded[name] for name in names if table.c[name] not in set(keys)}
    if changed:
        return [(made.on_conflict_do_update(index_elements=keys, set_=changed), list(rows))]
    return [(made.on_conflict_do_nothing(index_elements=keys), list(rows))]
