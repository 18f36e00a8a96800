"""A federated select over an index: what is sent there, and that the answer is PostgreSQL's."""

from __future__ import annotations

import datetime
import os
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import and_, any_, func, not_, or_, select, text

from fedorm import Federation, UnsupportedOperationError
from fedorm.stores.elasticsearch import ElasticsearchStore
from fedorm.testing.plugin import FreshDatabase
from tests.stores.searched import Place, Volume, VolumeText

UTC = datetime.UTC
IS_ELASTICS = "FEDORM_TEST_ELASTICSEARCH_URL" in os.environ
"""Whether the tests were given a server; noida-db does not know whether the keyword beside a text is there."""
KEY = UUID("0b5c8e0e-6d0f-4a41-9d3c-2f6f0c1f2a3c")
C = VolumeText.c


def at(microsecond: int) -> datetime.datetime:
    return datetime.datetime(2024, 5, 1, 12, 0, 0, microsecond, tzinfo=UTC)


VOLUMES = [
    VolumeText(id=1, title="The Shoe", note="plain", isbn="b", pages=10, price=Decimal("1.50"), rating=0.1, sold=True),
    VolumeText(id=2, title="Shoe", note="The Shoe", isbn="B", pages=20, price=Decimal("1.5"), rating=-2.5, sold=False),
    VolumeText(
        id=3, title="shoe", note="", isbn="", price=Decimal("0.1000000000000000055"), rating=-0.0, tags=["a", "b"]
    ),
    VolumeText(id=4, title="x" * 9000, note="y" * 9000 + "*?", isbn="a*c?", pages=-(2**31), printed=at(123_456)),
    VolumeText(id=5, title="five", printed=at(123_999), batch=KEY, place=Place(city="Bonn", opened="2024-05-01")),
    VolumeText(id=6, title="six", printed=at(124_000), tags=[], place=Place(city="bonn")),
    VolumeText(id=7, title="seven", isbn="abc", extra={"a": [1, {"b": None}]}, publisher_id=2**40),
]


@pytest.fixture
async def fed(fresh_database: FreshDatabase, no_stray_tasks: None) -> AsyncIterator[Federation]:
    urls = {"search_rows": fresh_database("postgresql"), "search_index": fresh_database("elasticsearch")}
    async with Federation(urls) as fed:
        await fed.create_all()
        async with fed.session() as session:
            session.add_all([one.model_copy(deep=True) for one in VOLUMES])
            session.add_all([Volume(id=number, stock=number % 3) for number in range(1, 9)])
            await session.commit()
        yield fed


async def answer(fed: Federation, condition: Any) -> tuple[list[int], int]:
    """Return which documents fulfil a condition, and how many came from the index."""
    statement = select(C.id).where(condition).order_by(C.id)
    async with fed.session() as session:
        found = list(await session.scalars(statement))
        (read,) = (await session.explain(statement, analyze=True)).to_dict()["children"]
        return found, read["measured"]["rows"]


CONDITIONS: dict[str, tuple[Any, list[int], int]] = {
    "a keyword": (C.isbn == "b", [1], 1),
    "an empty text": (C.isbn == "", [3], 1),
    "one of several": (C.isbn.in_(["b", "B", "z"]), [1, 2], 2),
    "a text as a whole": (C.note == "The Shoe", [2], 1),
    "a text of words alone": (C.title == "Shoe", [2], 7),
    "a text longer than a keyword": (C.note == "y" * 9000 + "*?", [4], 7),
    "not a value, nor NULL": (C.isbn != "b", [2, 3, 4, 7], 4),
    "none of several": (C.pages.not_in([10, 99]), [2, 4], 2),
    "NULL": (C.pages.is_(None), [3, 5, 6, 7], 4),
    "not NULL": (C.pages.is_not(None), [1, 2, 4], 3),
    "a text that is NULL": (C.note.is_(None), [5, 6, 7], 3),
    "a text that is not": (C.note.is_not(None), [1, 2, 3, 4], 4),
    "less": (C.pages < 20, [1, 4], 2),
    "between": (C.pages.between(10, 20), [1, 2], 2),
    "outside": (not_(C.pages.between(11, 20)), [1, 4], 2),
    "a decimal": (C.price == Decimal("1.500"), [1, 2], 2),
    "a float": (C.rating >= 0.1, [1], 1),
    "a zero below zero": (C.rating == 0, [3], 1),
    "from zero on": (C.rating >= 0, [1, 3], 2),
    "down to zero": (C.rating <= -0.0, [2, 3], 2),
    "true": (C.sold.is_(True), [1], 1),
    "not true": (C.sold.is_not(True), [2, 3, 4, 5, 6, 7], 6),
    "a time": (C.printed == at(123_999), [5], 2),
    "times after": (C.printed > at(123_456), [5, 6], 3),
    "not a time": (C.printed != at(123_999), [4, 6], 3),
    "a UUID": (C.batch == KEY, [5], 1),
    "a field within": (C["place.city"] == "Bonn", [5], 1),
    "a date within": (C["place.since"] == datetime.date(2024, 5, 1), [5], 1),
    "an element": (any_(C.tags) == "a", [3], 1),
    "a pattern": (C.isbn.like("a%c_"), [4], 1),
    "a pattern with its signs": (C.isbn.like("a*%"), [4], 2),
    "a pattern for long texts": (C.note.like("y%"), [4], 7 if not IS_ELASTICS else 4),
    "or": (or_(C.isbn == "b", C.pages == 20), [1, 2], 2),
    "and or not": (and_(not_(or_(C.isbn == "b", C.pages == 20)), C.isbn != ""), [4], 1),
    "never": (and_(C.pages == 1, C.pages.in_([])), [], 0),
    "what only the finish knows": (func.length(C.isbn) == 3, [7], 7),
}
"""What is asked, which documents that are, and how many of the seven the index returns."""


async def test_conditions(fed: Federation) -> None:
    """Each is sent as far as the index can check it, and means what it does in SQL."""
    wrong = {}
    for name, (condition, expected, read) in CONDITIONS.items():
        if (got := await answer(fed, condition)) != (expected, read):
            wrong[name] = got
    assert wrong == {}


async def test_columns_and_whole_documents(fed: Federation) -> None:
    """Values come as the fields' own types, from one index, from a join, and in plain SQL."""
    names = (C.price, C.printed, C.batch, C.tags, C["place.since"], C.extra)
    async with fed.session() as session:
        rows = (await session.execute(select(C.id, *names).where(C.id.in_([3, 4, 5, 7])).order_by(C.id))).all()
        assert [tuple(row) for row in rows] == [
            (3, Decimal("0.1000000000000000055"), None, None, ["a", "b"], None, None),
            (4, None, at(123_456), None, [], None, None),
            (5, None, at(123_999), KEY, [], datetime.date(2024, 5, 1), None),
            (7, None, None, None, [], None, {"a": [1, {"b": None}]}),
        ]
        plain = text(
            "select r.stock, count(*) as n, sum(v.pages) from search_index.volumes v "
            "join search_rows.volume_rows r on r.id = v.id where v.pages > 0 group by r.stock order by r.stock"
        )
        assert [tuple(row) for row in await session.execute(plain)] == [(1, 1, 10), (2, 1, 20)]


async def test_the_first_rows_alone(fed: Federation) -> None:
    """An order that the index has is sent with the limit; one by times is not, which it has to the millisecond."""
    async with fed.session() as session:
        for order, expected, is_sent in (
            ("pages desc nulls last, id", 2, True),
            ("pages asc nulls first, id", 3, True),
            ("printed, id", 4, False),
        ):
            statement = text(f"select id, pages from search_index.volumes where id < 7 order by {order} limit 1")
            found = list(await session.scalars(statement))
            (read,) = (await session.explain(statement, analyze=True)).to_dict()["children"]
            assert (found, read["measured"]["rows"]) == ([expected], 1 if is_sent else 6)
            assert ('"size": 1' in read["sent"]) == is_sent


async def test_more_documents_than_a_page_holds(fed: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read as they were at one moment, and long lists of keys in batches."""
    monkeypatch.setattr("fedorm.stores.elasticsearch_scan.PAGE", 3)
    monkeypatch.setattr(ElasticsearchStore, "batch_size", 2)
    async with fed.session() as session:
        statement = select(C.id, Volume.stock).join(Volume, Volume.id == C.id).order_by(C.id)
        assert [row[0] for row in await session.execute(statement)] == [1, 2, 3, 4, 5, 6, 7]
        lookup = statement.where(Volume.stock == 1).execution_options(join_strategy="lookup")
        assert [row[0] for row in await session.execute(lookup)] == [1, 4, 7]


async def test_what_the_server_maps_counts(fed: Federation) -> None:
    """A field that is indexed otherwise than its class says is read whole, and a value of another type refused."""
    store = fed.stores["search_index"]
    assert isinstance(store, ElasticsearchStore)
    client, index = store.client(sync=False), store.index_of(VolumeText)
    await client.indices.delete(index=index)
    mapping = {"id": {"type": "long"}, "isbn": {"type": "text"}, "pages": {"type": "keyword"}}
    await client.indices.create(index=index, mappings={"properties": mapping})
    await client.index(index=index, id="1", document={"id": 1, "isbn": "A B", "pages": 5}, refresh=True)
    await client.index(index=index, id="2", document={"id": 2, "isbn": "A", "pages": "many"}, refresh=True)
    store.forget_indices()
    assert await answer(fed, C.isbn == "A B") == ([1], 2)
    async with fed.session() as session:
        with pytest.raises(UnsupportedOperationError, match=r"search_index.*field 'pages' holds a value of type str"):
            await session.execute(select(C.id).where(C.pages > 3))


async def test_an_index_that_no_class_declares(fed: Federation, fresh_database: FreshDatabase) -> None:
    """It is read by its mapping; fields with several values are known by a sample."""
    store = fed.stores["search_index"]
    assert isinstance(store, ElasticsearchStore)
    await store.client(sync=False).index(
        index=f"{store.prefix}logs", id="a", refresh=True, document={"n": 1, "words": ["x", "y"], "at": "2024-05-01"}
    )
    async with Federation({"search_logs": fed.settings.services["search_index"]}) as other:
        await other.reflect("search_logs")
        logs = other.tables["search_logs.logs"]
        async with other.session() as session:
            row = (await session.execute(select(logs))).one()._asdict()
    assert row == {"_id": "a", "n": 1, "words": ["x", "y"], "at": datetime.datetime(2024, 5, 1, tzinfo=UTC)}
