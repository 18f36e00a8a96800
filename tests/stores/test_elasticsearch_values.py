"""Ids, names and values of search documents that are not as most are, and what a session refuses to bend."""

from __future__ import annotations

import asyncio
import datetime
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

import pytest
from elasticsearch.dsl import DateNanos, Keyword
from pydantic import ConfigDict, SecretBytes
from sqlalchemy import select

from fedorm import FederatedSearchDocument, Federation, UnsupportedOperationError
from fedorm.migrate.indices import changes
from fedorm.stores.conditions import Compare, OneOf
from fedorm.stores.elasticsearch import ElasticsearchStore
from fedorm.stores.elasticsearch_mapping import properties_of
from fedorm.stores.elasticsearch_query import ALL, match_query
from fedorm.stores.elasticsearch_schema import create_index, declared, present
from fedorm.stores.findings import Needs
from fedorm.testing.plugin import FreshDatabase

NOON = datetime.datetime(2024, 5, 1, 12, 0, 0, 123_456, tzinfo=datetime.UTC)
LATER = NOON.astimezone(datetime.timezone(datetime.timedelta(hours=2)))


class ShelfMoment(FederatedSearchDocument):
    """Its index is named as it is, which has capitals."""

    __service__ = "shelf_texts"
    model_config = ConfigDict(strict=True)
    id: datetime.datetime
    price: Decimal = Decimal("1.5")
    at: Annotated[datetime.datetime, DateNanos()] = NOON
    names: set[str] = {"a"}
    data: bytes = b"\xff"


@dataclass
class ShelfSize:
    width: int
    since: datetime.date


class ShelfLabel(FederatedSearchDocument):
    __service__ = "shelf_texts"
    id: int
    text: str | None = None
    word: Annotated[str | None, Keyword(ignore_above=10)] = None
    pattern: re.Pattern[str] | None = None
    size: ShelfSize | None = None
    key: SecretBytes | None = None

    class Index:
        name = "shelf_labels"


@pytest.fixture
async def fed(fresh_database: FreshDatabase, no_stray_tasks: None) -> AsyncIterator[Federation]:
    async with Federation({"shelf_texts": fresh_database("elasticsearch").replace("/test", "/Test")}) as federation:
        await federation.create_all()
        yield federation


def store_of(fed: Federation) -> ElasticsearchStore:
    store = fed.stores["shelf_texts"]
    assert isinstance(store, ElasticsearchStore)
    return store


async def add(fed: Federation, *documents: FederatedSearchDocument) -> None:
    async with fed.session() as session:
        session.add_all(documents)
        await session.commit()


async def test_a_strict_class_known_by_a_moment(fed: Federation) -> None:
    """A moment is one id in whichever zone it is told, and values come in the types that the class takes."""
    await add(fed, ShelfMoment(id=LATER))
    async with fed.session() as session:
        assert await session.get(ShelfMoment, NOON) == ShelfMoment(id=NOON)
        assert await session.get(ShelfMoment, LATER) == ShelfMoment(id=NOON)
        assert (await session.scalars(select(ShelfMoment.c.names).where(ShelfMoment.c.at == NOON))).all() == [["a"]]


async def test_values_that_have_no_mapping(fed: Federation) -> None:
    """They are kept as pydantic writes them, and secrets as they are."""
    size = ShelfSize(3, datetime.date(2024, 5, 1))
    await add(fed, ShelfLabel(id=1, pattern=re.compile("a+"), size=size, key=SecretBytes(b"\xff")))
    async with fed.session() as session:
        found = await session.get(ShelfLabel, 1)
        assert (found.pattern, found.size, found.key.get_secret_value()) == (re.compile("a+"), size, b"\xff")


async def test_names_with_capitals(fed: Federation) -> None:
    """An index has none, in whatever compares: nothing is to be made or dropped that is there, and drift is seen."""
    store = store_of(fed)
    client, needs = store.client(sync=False), Needs(documents=[ShelfMoment])
    there = await present(client, store.prefix)
    assert sorted(there) == ["shelf_labels", "shelfmoment"]
    assert changes(there, declared(store.models(), store.prefix)) == []
    assert await store.findings(needs) == []
    await client.indices.put_mapping(index=store.index_of(ShelfMoment), properties={"x": {"type": "long"}})
    assert [one.problem for one in await store.findings(needs)] == ["index shelfmoment: no model declares field x"]


async def test_an_id_that_is_changed(fed: Federation) -> None:
    """It is refused: what the index knows by the old one would say that it is another."""
    await add(fed, ShelfLabel(id=1))
    async with fed.session() as session:
        label = await session.get(ShelfLabel, 1)
        label.id = 2
        with pytest.raises(UnsupportedOperationError, match=r"'shelf_texts'.*the id of ShelfLabel 1 was changed to 2"):
            await session.commit()
        await session.rollback()
        assert (label.id, await session.find(ShelfLabel).to_list()) == (1, [label])


async def test_letters_that_are_two_to_java(fed: Federation) -> None:
    """A text that is short enough by its letters alone may still be too long to be looked for."""
    await add(fed, ShelfLabel(id=1, text="😀" * 200, word="😀" * 5), ShelfLabel(id=2, text="a" * 256))
    async with fed.session() as session:
        for text, expected in (("😀" * 200, [1]), ("a" * 256, [2])):
            assert (await session.scalars(select(ShelfLabel.c.id).where(ShelfLabel.c.text == text))).all() == expected
    table, mapped = ShelfLabel.__clause_element__(), properties_of(ShelfLabel)
    assert match_query(table, Compare("word", "=", "😀" * 6), mapped) == ALL
    assert match_query(table, Compare("word", "=", "😀" * 5), mapped) == {"terms": {"word": ["😀" * 5]}}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Compare("at", "=", NOON), {"gte": "2024-05-01T12:00:00.123Z", "lt": "2024-05-01T12:00:00.124Z"}),
        (Compare("at", "<=", NOON), {"lt": "2024-05-01T12:00:00.124Z"}),
        (Compare("at", ">", NOON), {"gte": "2024-05-01T12:00:00.123Z"}),
        (Compare("at", "<", datetime.datetime.max), None),
        (OneOf("at", tuple(NOON + datetime.timedelta(days=n) for n in range(1001))), None),
    ],
)
def test_what_is_sent_for_times(condition: Any, expected: dict[str, str] | None) -> None:
    """All of a bound's millisecond, of which an index of nanoseconds has a million; nothing that it would refuse."""
    query = match_query(ShelfMoment.__clause_element__(), condition, properties_of(ShelfMoment))
    sent = None if query == ALL else {k: v for k, v in query["range"]["at"].items() if k != "format"}
    assert sent == expected


async def test_an_index_that_many_make(fed: Federation) -> None:
    """Whoever comes second finds it there, and nobody an error."""
    await fed.drop_all()
    store = store_of(fed)
    index = declared([ShelfLabel], store.prefix)["shelf_labels"]
    client = store.client(sync=False)
    await asyncio.gather(*(client.info() for _ in range(12)))  # All connections are there.
    await asyncio.gather(*(create_index(client, index) for _ in range(12)))
    assert "shelf_labels" in await present(client, store.prefix)


async def test_none_of_several(fed: Federation) -> None:
    """NULL among them makes it unknown of all others, as in SQL."""
    await add(fed, ShelfLabel(id=1, word="a"), ShelfLabel(id=2, word="b"))
    async with fed.session() as session:
        for values, expected in ((("a",), [2]), (("a", None), [])):
            found = await session.find(ShelfLabel, OneOf("word", values, negated=True)).to_list()
            assert [one.id for one in found] == expected
