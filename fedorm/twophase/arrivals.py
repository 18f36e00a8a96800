"""Rows of a service without transactions, by which is told whether it has been sent them.

Such a service can be the last to commit, as it takes one block of one table as a whole; but it has no log that could
say so in the same moment. So one row of the block is named, in the log of the service that decides, before it is sent.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, column, func, inspect, select, table

MOST = 1_048_576
"""So many rows ClickHouse takes as one block, its ``max_insert_block_size``."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A row by its primary key, of whole numbers and texts."""

    table: str
    key: tuple[tuple[str, int | str], ...]

    def written(self) -> str:
        """Return it as the text that stands in a log."""
        return json.dumps([self.table, dict(self.key)], separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def read(cls, written: str) -> Arrival | None:
        """Return what was written; None for the token of a log."""
        if not written.startswith("["):
            return None
        name, key = json.loads(written)
        return cls(name, tuple(key.items()))

    def has_come(self, connection: Connection) -> bool:
        """Ask the service whether it has the row."""
        named = table(self.table, *(column(name) for name, _ in self.key))
        wanted = select(func.count()).select_from(named).where(*(named.c[name] == value for name, value in self.key))
        return bool(connection.scalar(wanted))


def arrival_of(instances: Sequence[Any]) -> Arrival:
    """Return the row that stands for all of ``instances``. Raises ``ValueError`` where no single row can."""
    mapper = inspect(type(instances[0]))
    if any(inspect(type(one)) is not mapper for one in instances):
        raise ValueError("rows of several tables are sent one table after the other: write to one alone")
    if len(instances) > MOST:
        raise ValueError(f"{len(instances):,} rows are more than one block: write at most {MOST:,}")
    columns, values = mapper.primary_key, mapper.primary_key_from_instance(instances[0])
    if not all(isinstance(value, int | str) and not isinstance(value, bool) for value in values):
        raise ValueError("its primary key, by which a recovery finds its rows, has to be given, in numbers or texts")
    owner = mapper.local_table
    assert isinstance(owner, Table)
    arrival = Arrival(owner.name, tuple((one.name, value) for one, value in zip(columns, values, strict=True)))
    if len(arrival.written()) > 180:
        raise ValueError("its primary key is too long to be written down")
    return arrival
