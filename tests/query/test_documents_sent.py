"""What is sent to MongoDB of a select over several services: conditions, first documents, keys."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, text
from sqlglot import exp, parse_one

from fedorm import AsyncFederatedSession, Federation
from fedorm.query.document_scans import describe_documents, read_documents
from fedorm.query.plan import Order, Scan
from fedorm.stores.base import DocumentStore
from tests.query.articles import KEY, MAKER, UTC, Article, Grade, Novel, Origin, db, rows

__all__ = ["db"]


async def sent(session: AsyncFederatedSession, statement: Any) -> str:
    lines = str(await session.explain(text(statement) if isinstance(statement, str) else statement)).splitlines()
    return next(line.strip() for line in lines if ".find(" in line)


async def test_conditions_are_sent(db: AsyncFederatedSession) -> None:
    """As a filter; a value that is not known when the plan is made shows as its parameter."""
    c = Article.c
    assert await sent(db, "select sku from shelf.articles where sku = 'a' and seen is not null") == (
        'articles.find({"seen": {"$ne": null}, "sku": "a"}, {"seen": 1, "sku": 1, "_id": 0})'
    )
    narrow = select(c.sku).where(c.seen >= datetime.datetime(2024, 1, 1, tzinfo=UTC), c.grade == Grade.NEW)
    assert await sent(db, narrow) == (
        'articles.find({"grade": :grade_1, "seen": {"$gte": :seen_1}}, {"grade": 1, "seen": 1, "sku": 1, "_id": 0})'
    )
    assert await rows(db, narrow) == [("a",)]
    assert await sent(db, select(Novel.c.sku)) == (
        'articles.find({"_class_id": {"$in": ["Article.Novel", "Article.Novel.Comic"]}}, {"sku": 1, "_id": 0})'
    )


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("sku in ('a', 'b', 'nobody')", ["a", "b"]),
        ("price between 2 and 4", ["b", "c"]),
        ("price > 4", ["d", "e"]),
        ("not (price > 4)", ["a", "b", "c"]),
        ("cost = 1.1", ["a"]),
        ("cost <> 1.1", []),
        ("cost is null", ["b", "c", "d", "e"]),
        ("seen = timestamptz '2024-05-01 00:00:00+00'", ["a"]),
        ("seen < '2024-05-02'", ["a"]),
        ("\"origin.since\" = date '1999-12-31'", ["a"]),
        ("grade = 'new'", ["a"]),
        (f"batch = '{KEY}'", ["a"]),
        (f"maker = '{MAKER}'", ["a"]),
        ("sku = 'a' or price > 4", ["a", "d", "e"]),
        ("sku like 'a%'", ["a"]),
        ("tags is null", ["e"]),
    ],
)
async def test_conditions_find_what_they_should(db: AsyncFederatedSession, condition: str, expected: list[str]) -> None:
    """Whatever type a field has, and whatever a document lacks."""
    assert await rows(db, f"select sku from shelf.articles where {condition}") == [(sku,) for sku in expected]


async def test_parameters_of_all_types(db: AsyncFederatedSession) -> None:
    """They reach the filter in the type that the document has."""
    c = Article.c
    for condition in (
        c.batch == KEY,
        c.batch.in_([KEY, UUID(int=0)]),
        c.maker == MAKER,
        c.maker.in_([MAKER]),
        c.grade == Grade.NEW,
        c.grade.in_([Grade.NEW]),
        c.cost == Decimal("1.10"),
        c.price < 2,
        c.seen == datetime.datetime(2024, 5, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
        c.origin.since.in_([datetime.date(1999, 12, 31)]),
    ):
        assert await rows(db, select(c.sku).where(condition)) == [("a",)], str(condition)


async def test_uncommitted_documents_are_seen(db: AsyncFederatedSession) -> None:
    """A select flushes first, and reads in the session's transaction."""
    db.add(Novel(sku="f", price=1.0, pages=3, tags=["fresh"]))
    assert await rows(db, select(Novel.c.sku).where(Novel.c.pages < 5)) == [("f",)]
    tag = func.unnest(Article.c.tags).column_valued("tag")
    assert await rows(db, select(tag).select_from(Article).where(tag == "fresh")) == [("fresh",)]
    await db.rollback()
    assert await rows(db, select(Novel.c.sku).where(Novel.c.pages < 5)) == []


async def test_the_first_documents(db: AsyncFederatedSession) -> None:
    """ORDER BY and LIMIT are sent where MongoDB finds the same first ones; not around what makes or drops rows."""
    c = Article.c
    dearest = "select sku from shelf.articles order by price desc limit 2"
    assert [sku for (sku,) in await db.execute(text(dearest))] == ["e", "d"]
    assert await sent(db, dearest) == (
        'articles.find({}, {"price": 1, "sku": 1, "_id": 0}).sort({"price": -1}).limit(2)'
    )
    earlier = select(c.sku).order_by(c.seen.nulls_first(), c.sku).limit(2).offset(3)
    assert [sku for (sku,) in await db.execute(earlier)] == ["e", "a"]
    cheap = "select sku from shelf.articles where price < 4 order by price desc, sku limit 2"
    assert [sku for (sku,) in await db.execute(text(cheap))] == ["c", "b"]
    by_text = 'select sku from shelf.articles order by "origin.city" desc nulls last, sku limit 2'
    assert [sku for (sku,) in await db.execute(text(by_text))] == ["a", "d"]
    tags = "select unnest(tags) from shelf.articles order by price desc limit 1"
    assert [tag for (tag,) in await db.execute(text(tags))] == ["x"]
    tags = "select tag from shelf.articles p, unnest(p.tags) as tag order by p.price desc limit 1"
    assert [tag for (tag,) in await db.execute(text(tags))] == ["x"]


def test_keys_and_ranges(fresh_database: Callable[[str], str]) -> None:
    """The keys of a join travel as a list or, where they are too many, from the least to the greatest; in threads."""
    fed = Federation({"shelf": fresh_database("mongodb"), "till": fresh_database("postgresql")})
    with fed, fed.sync_session() as session:
        session.add_all(Article(sku=str(number), price=number, origin=Origin(city="Rome")) for number in range(9))
        session.commit()
        store = fed.stores["shelf"]
        assert isinstance(store, DocumentStore)
        scan = Scan("s0", "shelf", Article.__clause_element__(), ("sku", "price"))
        found = read_documents(session, store, scan, {}, ranges=[("price", (2.0, 4.0))])
        assert sorted(found) == [("2", 2.0), ("3", 3.0), ("4", 4.0)]
        lists = [("sku", ["1", "3", "77"]), ("price", [float(number) for number in range(2_000)])]
        assert sorted(read_documents(session, store, scan, {}, lists=lists)) == [("1", 1.0), ("3", 3.0)]
        cheap = parse_one("price < :most", read="postgres")
        few = replace(scan, predicates=(cheap,), order=(Order("price", descending=True, nulls_first=True),))
        assert read_documents(session, store, few, {"most": 6}, limit=2) == [("5", 5.0), ("4", 4.0)]
        named = replace(few, limit=exp.Placeholder(this="number"))
        assert describe_documents(store, named) == (
            'articles.find({"price": {"$lt": :most}}, {"price": 1, "sku": 1, "_id": 0})'
            '.sort({"price": -1}).limit(:number)'
        )
