"""What a federated select reads of Redis: records by their ids or all of them, as rows of plain values."""

from __future__ import annotations

import datetime
import enum
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError
from pydantic_core import to_jsonable_python
from sqlalchemy import ARRAY, Table, types

from fedorm.exc import UnsupportedOperationError
from fedorm.stores.base import batches
from fedorm.stores.conditions import Both, Compare, Condition, DocumentScan, OneOf, Parameter
from fedorm.stores.entity_table import COLLECTION, MODEL
from fedorm.stores.matching import predicate_of
from fedorm.stores.redis_codec import Keys, codec_of
from fedorm.stores.redis_reflection import ReflectedKeys

if TYPE_CHECKING:
    from fedorm.stores.redis import RedisStore
    from fedorm.stores.redis_client import RedisClient

SAMPLE = 5_000
"""How many keys are looked at to estimate how many records there are of which name."""
Convert = Callable[[Any], Any]


async def read_rows(store: RedisStore, wanted: DocumentScan, transaction: Any, *, sync: bool) -> list[tuple[Any, ...]]:
    """Read columns of the records that may fulfil the conditions."""
    keys = _keys(wanted.table)
    ids, where = _ids(keys, wanted)
    if ids is None:
        ids = await store.identities(keys, transaction=transaction, sync=sync)
    fulfils = predicate_of(where)
    limit = wanted.limit if where == Both() and wanted.complete and not wanted.order else None
    rows: list[tuple[Any, ...]] = []
    for batch in batches(ids, store.batch_size if not isinstance(limit, int) else max(1, min(limit, store.batch_size))):
        for raw in await store.get_many(keys, batch, transaction=transaction, sync=sync):
            row = _Row(wanted.table, _parsed(store, keys, raw))
            if fulfils(row):
                rows.append(tuple([row[name] for name in wanted.columns]))
        if isinstance(limit, int) and len(rows) >= limit:
            break
    return rows


def _keys(table: Table) -> Keys:
    model = table.info[MODEL]
    return codec_of(model) if model is not None else ReflectedKeys(table)


def _parsed(store: RedisStore, keys: Keys, raw: dict[str, Any]) -> dict[str, Any]:
    try:
        values: dict[str, Any] = keys.parse(raw).__dict__
    except ValueError as error:
        problem = f"{keys.name}:{raw['id']} is not as its class has it" if isinstance(error, ValidationError) else error
        raise store.error(UnsupportedOperationError, f"{keys.name}: {problem}") from error
    return values


class _Row(dict[str, Any]):
    """The values of a record's columns, each made when it is asked for."""

    def __init__(self, table: Table, values: dict[str, Any]) -> None:
        super().__init__()
        self._table, self._values = table, values

    def __missing__(self, name: str) -> Any:
        value = self._values[name]
        made = self[name] = None if value is None else converter(self._table.c[name].type)(value)
        return made


def converter(kind: types.TypeEngine[Any]) -> Convert:
    """Return what makes a field's value one of its column."""
    if isinstance(kind, ARRAY):
        inner = converter(kind.item_type)
        return lambda value: [None if one is None else inner(one) for one in value]
    if isinstance(kind, types.JSON):
        return _json
    if isinstance(kind, types.Enum):
        return _enum
    if isinstance(kind, types.DateTime):
        return _moment
    return _text if isinstance(kind, types.String) else _same


def _same(value: Any) -> Any:
    return value


def _text(value: Any) -> str:
    return str(value.get_secret_value() if isinstance(value, SecretStr) else value)


def _json(value: Any) -> Any:
    return to_jsonable_python(value, fallback=str, bytes_mode="base64")


def _enum(value: Any) -> str:
    return str(value.value if isinstance(value, enum.Enum) else value)


def _moment(value: datetime.datetime) -> datetime.datetime:
    return value.replace(tzinfo=datetime.UTC) if value.utcoffset() is None else value


def _ids(keys: Keys, wanted: DocumentScan) -> tuple[list[Any] | None, Condition]:
    lists = [OneOf(column, tuple(values)) for column, values in wanted.keys]
    return known_ids(keys, Both((*lists, wanted.where)))


def known_ids(keys: Keys, where: Condition) -> tuple[list[Any] | None, Condition]:
    """Return the ids among which the records are, None where they can be any, and the conditions that are left."""
    chosen: list[Any] | None = None
    rest: list[Condition] = []
    for part in _flattened(where):
        values = _listed(part)
        ids = None if values is None or chosen is not None else _typed(keys, values)
        if ids is None:
            rest.append(part)
        else:
            chosen = ids
    return chosen, Both(tuple(rest))


def _flattened(where: Condition) -> Iterator[Condition]:
    if isinstance(where, Both):
        for part in where.parts:
            yield from _flattened(part)
    else:
        yield where


def _listed(part: Condition) -> Sequence[Any] | None:
    if isinstance(part, OneOf) and part.column == "id" and not part.negated:
        return part.values
    return (part.value,) if isinstance(part, Compare) and part.column == "id" and part.operator == "=" else None


def _typed(keys: Keys, values: Sequence[Any]) -> list[Any] | None:
    """Return values as ids; None if one of them is of another type, of which nobody can say here what equals it."""
    found: dict[Any, None] = {}
    for value in values:
        try:
            whole = isinstance(value, float | Decimal) and value == int(value)
            identity = keys.identity(keys.key(int(value) if whole else value))
        except (ValueError, OverflowError):
            return None
        if identity != value:
            return None
        found[identity] = None
    return list(found)


# -- figures, and as text


async def estimated(client: RedisClient, names: Sequence[str]) -> dict[str, float]:
    """Return about how many records there are of each name, by a sample of all keys."""
    size, seen = float(await client.ask(b"DBSIZE")), 0
    found: Counter[str] = Counter()
    async for keys in client.scan(b""):
        found.update(key.partition(b":")[0].decode(errors="replace") for key in keys)
        seen += len(keys)
        if seen >= SAMPLE:
            break
    share = size / seen if seen else 0.0
    return {name: found[name] * share for name in names}


def described(wanted: DocumentScan) -> str:
    """Return what is sent for a scan; a parameter shows as its name."""
    name, keys = str(wanted.table.info[COLLECTION]), _keys(wanted.table)
    lists = [*(OneOf(column, tuple(values)) for column, values in wanted.keys)]
    parts = (*lists, *_flattened(wanted.where))
    values = next((found for part in parts if (found := _listed(part)) is not None), None)
    fields = "" if keys.is_json else " " + " ".join(one.decode() for one in keys.asked)
    command = "MGET" if keys.is_json else "HMGET"
    if values is not None:
        told = ", ".join(f":{one.name}" if isinstance(one, Parameter) else str(one) for one in values)
        return f"{command} {name}:{{{told}}}{fields}"
    return f"SCAN MATCH {name}:*, then {command}{fields}"
