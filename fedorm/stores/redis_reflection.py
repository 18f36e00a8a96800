"""Records that no model declares, as tables: by the names before the colon of keys, and a sample of what they hold."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from pydantic_core import from_json
from sqlalchemy import Column, MetaData, Table, types

from fedorm.stores.entity_table import COLLECTION, FIELD, MODEL, DocumentJSON
from fedorm.stores.redis_client import RedisClient, pack
from fedorm.stores.redis_codec import Keys, Raw
from fedorm.stores.reflecting import Wanted

SAMPLE = 500
"""How many records of a name are looked at."""
IS_JSON = "fedorm.redis.json"
"""The key in a table's ``info`` that says whether its records are JSON texts."""


class ReflectedKeys(Keys):
    """Records as a reflected table has them."""

    has_others = False

    def __init__(self, table: Table) -> None:
        names = [column.name for column in table.columns if column.name != "id"]
        super().__init__(str(table.info[COLLECTION]), names, is_json=bool(table.info[IS_JSON]))
        self._read = {column.name: _reader(column.type, is_text=not self.is_json) for column in table.columns}
        self._read_id = _reader(table.c.id.type, is_text=True)

    def typed(self, text: bytes) -> Any:
        """Make of it what all ids of the sample were."""
        return self._read_id(text)

    def parse(self, raw: Raw) -> Any:
        """Make each value what its column's type wants. Raises ``ValueError`` that names the field."""
        found = self.document(raw) if self.is_json else raw
        values: dict[str, Any] = {"id": raw["id"]}
        for name in self.fields:
            value = found.get(name)
            try:
                values[name] = None if value is None else self._read[name](value)
            except (ValueError, TypeError):
                raise ValueError(f"field {name!r} holds what the others of the sample did not") from None
        return SimpleNamespace(**values)


def _whole(value: Any) -> int:
    return int(value)


def _text(value: Any) -> str:
    return str(value.decode())


def _same(value: Any) -> Any:
    return value


def _of(kind: type | tuple[type, ...]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise TypeError
        return value

    return read


def _reader(kind: types.TypeEngine[Any], *, is_text: bool) -> Callable[[Any], Any]:
    if isinstance(kind, types.BigInteger):
        return _whole if is_text else _of(int)
    if isinstance(kind, types.Float):
        return float if is_text else lambda value: float(_of((int, float))(value))
    if isinstance(kind, types.Boolean):
        return _of(bool)
    if isinstance(kind, types.Text):
        return _text if is_text else _of(str)
    return _same


async def reflect_names(client: RedisClient, metadata: MetaData, wanted: Wanted) -> None:
    """Put the names that keys begin with into ``metadata``: those of hashes, and of texts that are JSON objects."""
    names: dict[str, list[bytes]] = {}
    async for keys in client.scan(b""):
        for key in keys:
            name, colon, _ = key.partition(b":")
            if colon and name != b"fedorm":
                names.setdefault(name.decode(errors="replace"), []).append(key)
    for called in sorted(names):
        some = names[called]
        if wanted(called):
            sample = some if len(some) <= SAMPLE else random.sample(some, SAMPLE)
            await _reflect(client, metadata, called, sample)


async def _reflect(client: RedisClient, metadata: MetaData, name: str, keys: Sequence[bytes]) -> None:
    kinds = await client.exchange([pack((b"TYPE", key)) for key in keys])
    hashes = [key for key, kind in zip(keys, kinds, strict=True) if kind == b"hash"]
    texts = [key for key, kind in zip(keys, kinds, strict=True) if kind == b"string"]
    if hashes:
        found = await client.exchange([pack((b"HGETALL", key)) for key in hashes])
        pairs = [dict(zip(one[::2], one[1::2], strict=True)) for one in found if isinstance(one, list)]
        _table(metadata, name, hashes, [{_name(field): one[field] for field in one} for one in pairs], is_json=False)
    elif texts:
        found = await client.exchange([pack((b"GET", key)) for key in texts])
        documents = [document for one in found if isinstance(document := _object(one), dict)]
        if documents:
            _table(metadata, name, texts, documents, is_json=True)


def _name(field: bytes) -> str:
    return field.decode(errors="replace")


def _object(text: Any) -> Any:
    try:
        return from_json(text)
    except (ValueError, TypeError):
        return None


def _table(
    metadata: MetaData, name: str, keys: Sequence[bytes], records: Sequence[Mapping[str, Any]], *, is_json: bool
) -> None:
    ids = [key.partition(b":")[2] for key in keys]
    columns = [Column("id", _text_type(ids), primary_key=True, info={FIELD: "id"})]
    for field in dict.fromkeys(field for one in records for field in one):
        if field != "id":
            values = [one[field] for one in records if one.get(field) is not None]
            kind = _json_type(values) if is_json else _text_type(values)
            columns.append(Column(field, kind, info={FIELD: field}))
    Table(name, metadata, *columns, info={COLLECTION: name, MODEL: None, IS_JSON: is_json})


def _text_type(values: Sequence[bytes]) -> types.TypeEngine[Any]:
    """Return what all texts are: numbers where each is written as such a number is, else texts, or bytes."""
    for kind, write in ((types.BigInteger(), lambda text: b"%d" % int(text)), (types.Float(), _float)):
        try:
            if values and all(write(value) == value for value in values):
                return kind
        except ValueError:
            continue
    try:
        for value in values:
            value.decode()
    except UnicodeDecodeError:
        return types.LargeBinary()
    return types.Text()


def _float(text: bytes) -> bytes:
    return repr(float(text)).encode()


def _json_type(values: Sequence[Any]) -> types.TypeEngine[Any]:
    kinds = {type(value) for value in values}
    for wanted, kind in (({bool}, types.Boolean()), ({int}, types.BigInteger()), ({int, float}, types.Float())):
        if kinds and kinds <= wanted:
            return kind
    return types.Text() if kinds == {str} else DocumentJSON()
