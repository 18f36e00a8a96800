"""Reading what is in source and target without the engine's help, and waiting until they agree."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable, Iterable
from decimal import Decimal
from typing import Any

from sqlalchemy import select

from fedorm import Federation
from fedorm.entity import is_document
from fedorm.exc import StoreError

Rows = dict[Any, dict[str, Any]]
PATIENCE = 45.0
"""Seconds until something that has to come counts as missing."""


async def rows_of(fed: Federation, model: Any, *, key: str = "id") -> Rows:
    """What a model's rows are, by key: of rows that are only appended those that count. No key may be there twice."""
    if is_document(model):
        async with fed.session() as session:
            found = [one.model_dump(exclude={"revision_id"}) for one in await session.find(model).to_list()]
        return _by_key(found, key)
    table = model.__table__
    columns = {attribute.key: attribute.columns[0] for attribute in model.__mapper__.column_attrs}
    async with fed.session() as session:
        result = await session.execute(select(*(column.label(name) for name, column in columns.items())))
        found = [dict(row) for row in result.mappings()]
    return _by_key(_last(found, key) if "sync_version" in table.c else found, key)


def _by_key(found: Iterable[dict[str, Any]], key: str) -> Rows:
    rows: Rows = {}
    for row in found:
        assert row[key] not in rows, f"{row[key]!r} is there twice"
        rows[row[key]] = row
    return rows


def _last(found: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """What FINAL makes of appended rows; of one version there must not be two that differ."""
    last: dict[Any, dict[str, Any]] = {}
    for row in found:
        other = last.get(row[key])
        if other is None or other["sync_version"] < row["sync_version"]:
            last[row[key]] = row
        elif other["sync_version"] == row["sync_version"]:
            assert other == row, f"which of these counts is not known: {other} {row}"
    rows = [row for row in last.values() if not row["sync_deleted"]]
    return [{name: value for name, value in row.items() if not name.startswith("sync_")} for row in rows]


def exact_to(seconds: float) -> Callable[[Any], Any]:
    """Values as they are in a database that keeps moments so exactly."""
    step = datetime.timedelta(seconds=seconds)

    def plain(value: Any) -> Any:
        if isinstance(value, datetime.datetime):
            if value.tzinfo is not None:
                value = value.astimezone(datetime.UTC).replace(tzinfo=None)
            return value - (value - datetime.datetime(1970, 1, 1)) % step
        if isinstance(value, bool):
            return int(value)
        if isinstance(value, Decimal):
            return value.normalize() + 0
        return value

    return plain


EXACT = {"clickhouse": 1.0, "mongodb": 0.001}
"""How many seconds moments are exact to, by kind; a microsecond elsewhere."""


def as_kept_by(kinds: Iterable[str], rows: Rows, fields: Iterable[str]) -> Rows:
    """Rows as databases of these kinds agree on them."""
    plain = exact_to(max(EXACT.get(kind, 1e-6) for kind in kinds))
    names = list(fields)
    return {key: {name: plain(row[name]) for name in names} for key, row in rows.items()}


async def until(holds: Callable[[], Awaitable[Any]], *, what: str = "", patience: float = PATIENCE) -> Any:
    """Wait until something holds, and return it."""
    try:
        async with asyncio.timeout(patience):
            pause = 0.02
            while not (found := await holds()):
                await asyncio.sleep(pause)
                pause = min(0.5, pause * 1.3)
            return found
    except TimeoutError:
        raise AssertionError(f"did not come: {what}") from None


def apart(one: Rows, other: Rows) -> dict[Any, tuple[Any, Any]]:
    """The rows in which two sides differ."""
    return {key: (one.get(key), other.get(key)) for key in [*one, *other] if one.get(key) != other.get(key)}


async def until_equal(
    source: Callable[[], Awaitable[Rows]], target: Callable[[], Awaitable[Rows]], *, patience: float = PATIENCE
) -> Rows:
    """Wait until a target has the rows of a source, which nobody writes to any more; return them."""
    wanted: Rows = {}

    async def read() -> bool:
        nonlocal wanted
        try:
            wanted = await source()
        except StoreError:
            return False
        return True

    await until(read)
    there: Rows = {}

    async def equal() -> bool:
        nonlocal there
        try:
            there = await target()
        except StoreError:  # Of a server that was restarted.
            return False
        return there == wanted

    try:
        await until(equal, patience=patience)
    except AssertionError:
        differing = apart(wanted, there)
        shown = "\n".join(f"  {key!r}: {pair[0]}\n   is {pair[1]}" for key, pair in list(differing.items())[:5])
        raise AssertionError(f"{len(differing)} of {len(wanted)} rows differ, such as\n{shown}") from None
    return wanted
