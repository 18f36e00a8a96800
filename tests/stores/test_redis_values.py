"""Ids and values of records that are not as most are, and what a session refuses before it would bend them."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, JsonValue, SecretBytes, SecretStr
from redis import Redis
from sqlalchemy import literal, select

from fedorm import FederatedRecord, Federation, ModelError, UnsupportedOperationError
from fedorm.exc import RowError
from fedorm.stores.rows import Block, RowShape


class ShelfBytes(FederatedRecord):
    __service__ = "shelves"
    id: bytes
    number: int = 0


class ShelfDecimal(FederatedRecord):
    __service__ = "shelves"
    id: Decimal


class ShelfPart(BaseModel):
    model_config = ConfigDict(strict=True)
    at: datetime.date


class ShelfStrict(FederatedRecord):
    __service__ = "shelves"
    model_config = ConfigDict(strict=True)
    id: int
    number: int = 1
    price: Decimal = Decimal("1.5")
    at: datetime.datetime = datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC)
    key: UUID = UUID(int=7)
    flag: bool = True
    names: set[str] = {"a"}
    part: ShelfPart = ShelfPart(at=datetime.date(2024, 5, 1))


class ShelfNone(FederatedRecord):
    __service__ = "shelves"
    id: int
    said: Literal["x", None]
    more: JsonValue


class ShelfLock(BaseModel):
    code: SecretStr
    number: int = Field(default=1, serialization_alias="n")


class ShelfSafe(FederatedRecord):
    __service__ = "shelves"
    id: int
    code: SecretStr | None = None
    key: SecretBytes | None = None
    lock: ShelfLock | None = None
    locks: list[ShelfLock] = []


class ShelfSafeText(ShelfSafe):
    class Settings:
        format = "json"


class ShelfText(FederatedRecord):
    __service__ = "shelves"
    id: int
    number: int = 0

    class Settings:
        format = "json"


@pytest.fixture
def kept(empty_redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(empty_redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def fed(empty_redis_url: str, no_stray_tasks: None) -> AsyncIterator[Federation]:
    async with Federation({"shelves": empty_redis_url}) as federation:
        yield federation


async def add(fed: Federation, *records: FederatedRecord) -> None:
    async with fed.session() as session:
        session.add_all(records)
        await session.commit()


async def test_ids_of_bytes(fed: Federation) -> None:
    """Those that are no text are found like all others."""
    await add(fed, ShelfBytes(id=b"\xff\0:*", number=1), ShelfBytes(id=b"a", number=2))
    async with fed.session() as session:
        assert sorted(one.id for one in await session.find(ShelfBytes).to_list()) == [b"a", b"\xff\0:*"]
        assert (await session.execute(select(ShelfBytes.c.id).where(ShelfBytes.c.number == 1))).all() == [
            (b"\xff\0:*",)
        ]


async def test_ids_that_are_equal(fed: Federation, kept: Redis) -> None:
    """They are one record, however many zeros they end with."""
    await add(fed, ShelfDecimal(id=Decimal("1.50")), ShelfDecimal(id=Decimal("10")), ShelfDecimal(id=Decimal("-0.0")))
    assert sorted(kept.keys()) == ["ShelfDecimal:0", "ShelfDecimal:1.5", "ShelfDecimal:10"]
    async with fed.session() as session:
        assert await session.get(ShelfDecimal, Decimal("1.5")) == ShelfDecimal(id=Decimal("1.500"))
        assert await session.find(ShelfDecimal, {"id": {Decimal("1E+1"), Decimal(0)}}).count() == 2


async def test_classes_that_take_no_texts(fed: Federation) -> None:
    """A strict class gets values of its own types; None is there where only pydantic knows that it can be."""
    await add(fed, ShelfStrict(id=1), ShelfNone(id=1, said=None, more=None), ShelfNone(id=2, said="x", more=[None]))
    async with fed.session() as session:
        assert await session.get(ShelfStrict, 1) == ShelfStrict(id=1)
        assert await session.find(ShelfNone).sort("id").to_list() == [
            ShelfNone(id=1, said=None, more=None), ShelfNone(id=2, said="x", more=[None]),
        ]  # fmt: skip


@pytest.mark.parametrize("kind", [ShelfSafe, ShelfSafeText])
async def test_secrets_and_other_names(fed: Federation, kind: type[ShelfSafe]) -> None:
    """What pydantic would write as stars, or by a name that it does not read, comes back; a condition sees it."""
    lock = ShelfLock(code=SecretStr("b"), number=2)
    await add(fed, kind(id=1, code=SecretStr("ü"), key=SecretBytes(b"k"), lock=lock, locks=[lock]), kind(id=2))
    async with fed.session() as session:
        found = await session.get(kind, 1)
        assert (found.code.get_secret_value(), found.key.get_secret_value()) == ("ü", b"k")
        assert [(one.code.get_secret_value(), one.number) for one in (found.lock, *found.locks)] == [("b", 2)] * 2
        assert (await session.scalars(select(kind.c.id).where(kind.c.code == "ü"))).all() == [1]


async def test_a_text_that_is_no_record(fed: Federation, kept: Redis) -> None:
    """A rule that fills some of the fields is told of it as of a row that does not fit, and writes nothing."""
    shape = RowShape("shelves", "Safe", ("id",), ("id",), document=ShelfSafeText)
    access = fed.stores["shelves"].row_access(shape)
    for text in ("[1]", "no JSON", ""):
        kept.set("ShelfSafeText:1", text)
        handle = await access.begin()
        with pytest.raises(RowError, match=r"'shelves'.*the key 'ShelfSafeText:1' holds no JSON object"):
            await access.write(handle, Block(upserts=[{"id": 1}, {"id": 2}]), version=1)
        await access.rollback(handle)
        assert (kept.get("ShelfSafeText:1"), kept.exists("ShelfSafeText:2")) == (text, 0)


async def test_integers_beside_floats(fed: Federation) -> None:
    """They are compared as floats, in which the large ones have neighbours that are equal."""
    await add(fed, *(ShelfText(id=n, number=2**53 + n) for n in range(3)))
    async with fed.session() as session:
        statement = select(ShelfText.c.id).where(ShelfText.c.number == literal(float(2**53))).order_by(ShelfText.c.id)
        assert (await session.scalars(statement)).all() == [0, 1]


async def test_an_id_that_is_changed(fed: Federation, kept: Redis) -> None:
    """It is refused, as is everything that is to be written with it; a rollback gives the id back."""
    await add(fed, ShelfText(id=1), ShelfBytes(id=b"a"))
    async with fed.session() as session:
        for record, other in ((await session.get(ShelfText, 1), 2), (await session.get(ShelfBytes, b"a"), b"b")):
            before = record.id
            record.id, record.number = other, 5
            with pytest.raises(UnsupportedOperationError, match=f"'shelves'.*the id of Shelf.* {before!r} was changed"):
                await session.commit()
            await session.rollback()
            assert (record.id, record.number) == (before, 0)
    assert (kept.get("ShelfText:1"), kept.hget("ShelfBytes:a", "number")) == ('{"id":1,"number":0}', "0")


async def test_a_time_to_live_is_undone(fed: Federation, kept: Redis) -> None:
    """With a rollback, also that of a savepoint; one that Redis would refuse half-way is not taken."""
    await add(fed, ShelfText(id=1))
    async with fed.session() as session:
        record = await session.get(ShelfText, 1)
        record.expire_in(100)
        await session.rollback()
        record.number = 1
        await session.commit()
        savepoint = await session.begin_nested()
        record.expire_in(100)
        await savepoint.rollback()
        record.number = 2
        await session.commit()
        assert (kept.get("ShelfText:1"), kept.pttl("ShelfText:1")) == ('{"id":1,"number":2}', -1)
        for odd in (1e16, float("inf"), float("nan")):
            with pytest.raises(ModelError, match="is no time to live"):
                record.expire_in(odd)


async def test_ids_outside_of_a_sample(fed: Federation, kept: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that no class declares are not left out for an id that is of another kind than the sample's."""
    monkeypatch.setattr("fedorm.stores.redis_reflection.random.sample", lambda keys, size: sorted(keys)[:size])
    monkeypatch.setattr("fedorm.stores.redis_reflection.SAMPLE", 2)
    kept.hset("found:0.5", "n", "1")
    kept.hset("found:1.5", "n", "1")
    await fed.reflect("shelves")
    async with fed.session() as session:
        statement = select(fed.tables["shelves.found"].c.id)
        assert sorted(await session.scalars(statement)) == [0.5, 1.5]
        kept.hset("found:x", "n", "1")
        with pytest.raises(UnsupportedOperationError, match=r"found: the id in b'found:x' is not what the others"):
            await session.scalars(statement)
