"""Documents inside a select over several services: nested fields, arrays, classes, and what is sent to MongoDB."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from beanie import Link, PydanticObjectId
from pydantic import BaseModel, Field
from sqlalchemy import any_, func, select, text, true
from sqlalchemy.orm import Mapped, mapped_column
from sqlglot import exp, parse_one

from fedorm import AsyncFederatedSession, FederatedBase, FederatedDocument, Federation
from fedorm.query.document_scans import describe_documents, read_documents
from fedorm.query.plan import Order, Scan
from fedorm.stores.base import DocumentStore

UTC = datetime.UTC
KEY = UUID("0b5c8e0e-6d0f-4a41-9d3c-2f6f0c1f2a3b")
MAKER = PydanticObjectId("6b062ff74376d7e4463f5a70")


class Grade(StrEnum):
    NEW = "new"
    USED = "used"


class Geo(BaseModel):
    lat: float
    height: int | None = None


class Origin(BaseModel):
    city: str
    name: str | None = None
    geo: Geo | None = None
    since: datetime.date | None = Field(default=None, alias="opened")


class Line(BaseModel):
    sku: str
    amount: Decimal


class Article(FederatedDocument):
    __service__ = "shelf"
    sku: str
    price: float
    cost: Decimal | None = None
    grade: Grade | None = None
    batch: UUID | None = None
    maker: PydanticObjectId | None = None
    seen: datetime.datetime | None = None
    tags: list[str] = []
    amounts: list[Decimal] = []
    visits: list[datetime.datetime] = []
    makers: list[PydanticObjectId] = []
    lines: list[Line] = []
    origin: Origin | None = None
    extra: dict[str, Any] = {}

    class Settings:
        name = "articles"
        is_root = True


class Shop(FederatedDocument):
    __service__ = "shelf"
    id: int
    name: str
    best: Link[Article] | None = None
    others: list[Link[Article]] = []
    near: Link[Shop] | None = None

    class Settings:
        name = "shops"


class Novel(Article):
    pages: int


class Comic(Novel):
    artist: str


class Sale(FederatedBase):
    __service__ = "till"
    __tablename__ = "sales"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    city: Mapped[str]


@pytest.fixture
async def db(fresh_database: Callable[[str], str]) -> AsyncIterator[AsyncFederatedSession]:
    async with Federation({"shelf": fresh_database("mongodb"), "till": fresh_database("postgresql")}) as fed:
        await fed.create_all()
        async with fed.session() as session:
            session.add_all(
                [
                    Article(
                        sku="a", price=1.5, cost=Decimal("1.10"), grade=Grade.NEW, batch=KEY, maker=MAKER,
                        tags=["x", "y"],
                        amounts=[Decimal("1.10"), Decimal(2)], visits=[datetime.datetime(2024, 5, 1, 12, tzinfo=UTC)],
                        makers=[MAKER], seen=datetime.datetime(2024, 5, 1, tzinfo=UTC),
                        origin=Origin(city="Rome", geo=Geo(lat=41.9), opened=datetime.date(1999, 12, 31)),
                        extra={"depth": {"cm": 3}, "a.b": "dotted"},
                    ),
                    Article(
                        sku="b", price=2.5,
                        lines=[Line(sku="q", amount=Decimal("0.30")), Line(sku="r", amount=Decimal(7))],
                        origin=Origin(city="Oslo", name="Nord", geo=Geo(lat=59.9, height=12)),
                    ),
                    Novel(sku="c", price=3.5, tags=["x"], pages=10),
                    Comic(sku="d", price=4.5, pages=11, artist="ink", origin=Origin(city="Rome")),
                ]
            )  # fmt: skip
            session.add_all(
                [Sale(id=1, sku="a", city="Rome"), Sale(id=2, sku="d", city="Rome"), Sale(id=3, sku="z", city="Oslo")]
            )
            await session.commit()
            # As some other program may write it: without most of the fields.
            await (
                fed.stores["shelf"]
                .collection(Article, sync=False)
                .insert_one(  # type: ignore[attr-defined]
                    {"sku": "e", "price": 9, "_class_id": "Article"}
                )
            )
        async with fed.session() as session:
            yield session


async def rows(session: AsyncFederatedSession, statement: Any, *parameters: Any) -> list[tuple[Any, ...]]:
    if isinstance(statement, str):
        statement = text(statement)
    return sorted((tuple(row) for row in await session.execute(statement, *parameters)), key=repr)


# -- nested fields


async def test_fields_by_path(db: AsyncFederatedSession) -> None:
    """A field of a model within is a column of its own type; a document without it has NULL there."""
    c = Article.c
    found = await rows(db, select(c.sku, c.origin.city, c["origin.geo.lat"], c.origin.geo.height, c.origin.since))
    assert found == [
        ("a", "Rome", 41.9, None, datetime.date(1999, 12, 31)),
        ("b", "Oslo", 59.9, 12, None),
        ("c", None, None, None, None),
        ("d", "Rome", None, None, None),
        ("e", None, None, None, None),
    ]
    assert await rows(db, 'select p."origin.city", p."origin.geo.lat" from shelf.articles p where p.sku = \'a\'') == [
        ("Rome", 41.9)
    ]
    # A name that every column has is taken by its whole path.
    assert await rows(db, select(c["origin.name"]).where(c["origin.name"].is_not(None))) == [("Nord",)]


async def test_paths_in_conditions_joins_and_aliases(db: AsyncFederatedSession) -> None:
    """They are columns like any other: compared, joined with another service's, grouped by, of an alias."""
    c = Article.c
    assert await rows(db, select(c.sku).where(c.origin.city == "Rome", c.origin.geo.lat > 40)) == [("a",)]
    assert await rows(db, select(c.sku).where(c.origin.city.in_(["Oslo", "Rome"]))) == [("a",), ("b",), ("d",)]
    assert await rows(db, select(c.sku).where(c.origin.since < datetime.date(2000, 1, 1))) == [("a",)]
    joined = select(Sale.id, c.sku).join(Article, c.origin.city == Sale.city).where(Sale.id > 1)
    assert await rows(db, joined) == [(2, "a"), (2, "d"), (3, "b")]
    assert await rows(db, select(c.origin.city, func.count()).group_by(c.origin.city)) == [
        ("Oslo", 1), ("Rome", 2), (None, 2),
    ]  # fmt: skip
    other = Article.__clause_element__().alias("other")
    same = select(c.sku, other.c.sku).where(c.origin.city == other.c.origin.city, c.sku < other.c.sku)
    assert await rows(db, same) == [("a", "d")]


async def test_the_document_within_stays_whole(db: AsyncFederatedSession) -> None:
    """Selected as a whole it is a mapping, once: the columns of its fields are not part of SELECT *."""
    whole = {"city": "Oslo", "name": "Nord", "geo": {"lat": 59.9, "height": 12}, "opened": None}
    assert await rows(db, select(Article.c.origin).where(Article.c.sku == "b")) == [(whole,)]
    names = [column.name for column in Article.c if "." not in column.name]
    result = await db.execute(select(Article).where(Article.c.sku == "b"))
    assert list(result.keys()) == names
    result = await db.execute(text("select * from shelf.articles where sku = 'b'"))
    assert list(result.keys()) == names


async def test_a_path_that_is_not_there() -> None:
    """It is no attribute, and no column."""
    with pytest.raises(AttributeError, match="'town'"):
        Article.c.origin.town  # noqa: B018
    with pytest.raises(KeyError, match=r"origin\.town"):
        Article.c["origin.town"]


async def test_json_operators(db: AsyncFederatedSession) -> None:
    """As SQLAlchemy's JSON columns and PostgreSQL have them, over what is declared and what is not."""
    c = Article.c
    deep = select(c.sku, c.extra["depth"]["cm"].as_integer()).where(c.extra["depth"]["cm"].astext == "3")
    assert await rows(db, deep) == [("a", 3)]
    assert await rows(db, select(c.extra["depth"]).where(c.sku == "a")) == [({"cm": 3},)]
    assert await rows(db, select(c.origin["city"].astext).where(c.origin["city"].as_string() == "Oslo")) == [("Oslo",)]
    plain = "select p.origin ->> 'city' from shelf.articles p where p.origin -> 'geo' ->> 'height' = '12'"
    assert await rows(db, plain) == [("Oslo",)]


# -- arrays


@pytest.mark.parametrize(
    "source",
    [
        "shelf.articles p, unnest(p.tags) as t(tag)",
        "shelf.articles p cross join unnest(p.tags) as t(tag)",
        "shelf.articles p, unnest(p.tags) as tag",
        "shelf.articles p cross join lateral unnest(p.tags) as t(tag)",
    ],
)
async def test_unnest_in_text(db: AsyncFederatedSession, source: str) -> None:
    """A row for each element; arrays that are empty or missing have none."""
    assert await rows(db, f"select p.sku, tag from {source}") == [("a", "x"), ("a", "y"), ("c", "x")]


async def test_unnest_keeps_documents_without_elements_when_asked(db: AsyncFederatedSession) -> None:
    """A left join does; and the elements' positions can be had."""
    left = "select p.sku, t.tag from shelf.articles p left join lateral unnest(p.tags) as t(tag) on true"
    assert await rows(db, left) == [("a", "x"), ("a", "y"), ("b", None), ("c", "x"), ("d", None), ("e", None)]
    counted = "select p.sku, t.tag, t.n from shelf.articles p, unnest(p.tags) with ordinality as t(tag, n)"
    assert await rows(db, counted) == [("a", "x", 1), ("a", "y", 2), ("c", "x", 1)]


async def test_unnest_in_a_select(db: AsyncFederatedSession) -> None:
    """A function's column, joined and grouped like others; elements keep their types."""
    c = Article.c
    tag = func.unnest(c.tags).column_valued("tag")
    assert await rows(db, select(c.sku, tag).where(tag == "x")) == [("a", "x"), ("c", "x")]
    assert await rows(db, select(tag, func.count()).select_from(Article).group_by(tag)) == [("x", 2), ("y", 1)]
    tags = func.unnest(c.tags).table_valued("value").render_derived(name="tags")
    sold = select(Sale.id, tags.c.value).join_from(Sale, Article, c.sku == Sale.sku).join(tags, true())
    assert await rows(db, sold) == [(1, "x"), (1, "y")]
    amount = func.unnest(c.amounts).column_valued("amount")
    assert await rows(db, select(amount * 2).select_from(Article)) == [(Decimal("2.20"),), (Decimal("4.00"),)]
    visit = func.unnest(c.visits).column_valued("visit")
    assert await rows(db, select(visit).select_from(Article)) == [(datetime.datetime(2024, 5, 1, 12, tzinfo=UTC),)]


async def test_arrays_of_documents(db: AsyncFederatedSession) -> None:
    """Their elements are JSON, and their fields are read from them."""
    fields = (
        "select p.sku, l.line ->> 'sku', cast(l.line ->> 'amount' as numeric(9, 2)) "
        "from shelf.articles p, unnest(p.lines) as l(line)"
    )
    assert await rows(db, fields) == [("b", "q", Decimal("0.30")), ("b", "r", Decimal("7.00"))]
    line = func.unnest(Article.c.lines, type_=Article.c.lines.type.item_type).column_valued("line")
    assert await rows(db, select(line["sku"].astext).select_from(Article)) == [("q",), ("r",)]
    assert await rows(db, select(line).select_from(Article).where(line["sku"].astext == "q")) == [
        ({"sku": "q", "amount": "0.30"},)
    ]


async def test_elements_in_conditions(db: AsyncFederatedSession) -> None:
    """ANY, as text and as SQLAlchemy's arrays have it; a position, counted from one."""
    c = Article.c
    assert await rows(db, "select p.sku from shelf.articles p where 'x' = ANY(p.tags)") == [("a",), ("c",)]
    assert await rows(db, select(c.sku).where(any_(c.tags) == "y")) == [("a",)]
    assert await rows(db, select(c.tags[1]).where(c.sku == "a")) == [("x",)]


async def test_arrays_come_back_whole(db: AsyncFederatedSession) -> None:
    """Each in the type of its elements, empty ones as well."""
    c = Article.c
    found = await rows(db, select(c.sku, c.tags, c.amounts, c.makers, c.lines).where(c.sku.in_(["a", "b", "e"])))
    lines = [{"sku": "q", "amount": "0.30"}, {"sku": "r", "amount": "7"}]
    assert found == [
        ("a", ["x", "y"], [Decimal("1.10"), Decimal("2.00")], [MAKER], []),
        ("b", [], [], [], lines),
        ("e", None, None, None, None),
    ]


# -- classes that share a collection


async def test_a_class_is_its_documents(db: AsyncFederatedSession) -> None:
    """The first class has all, another its own and those below it; it is a table by its name."""
    assert await rows(db, select(Article.c.sku)) == [("a",), ("b",), ("c",), ("d",), ("e",)]
    assert await rows(db, select(Novel.c.sku, Novel.c.pages)) == [("c", 10), ("d", 11)]
    assert await rows(db, select(Comic.c.sku, Comic.c.artist, Comic.c.origin.city)) == [("d", "ink", "Rome")]
    assert await rows(db, "select sku from shelf.Novel where pages > 10") == [("d",)]
    joined = select(Sale.id, Novel.c.pages).join(Novel, Novel.c.sku == Sale.sku)
    assert await rows(db, joined) == [(2, 11)]


# -- links


async def test_a_link_is_the_id_of_the_other_document(db: AsyncFederatedSession) -> None:
    """In the type of that id, so that it can be joined by; many links are an array of ids."""
    articles = {article.sku: article for article in await db.find(Article).to_list()}
    lamp, cup = articles["a"], articles["b"]
    near = Shop(id=7, name="near", best=lamp, others=[lamp, cup])
    db.add(near)
    await db.flush()
    db.add(Shop(id=8, name="far", near=near))
    await db.commit()
    c = Shop.c
    found = await rows(db, select(c.id, c.best, c.others, c.near))
    assert found == [(7, lamp.id, [lamp.id, cup.id], None), (8, None, [], 7)]
    assert await rows(db, select(c.name, Article.c.sku).join(Article, Article.c.id == c.best)) == [("near", "a")]
    assert await rows(db, select(c.name).where(c.best == lamp.id)) == [("near",)]
    assert await rows(db, select(c.name).where(any_(c.others) == cup.id)) == [("near",)]
    assert await rows(db, select(c.name).where(c.near == 7)) == [("far",)]
    assert await rows(db, select(c.name).where(c.near.is_(None))) == [("near",)]
    assert await rows(db, select(c.name).where(c.best.in_([lamp.id, cup.id]))) == [("near",)]
    assert await rows(db, select(c.name).where(c.best != cup.id)) == [("near",)]
    other = func.unnest(c.others).table_valued("id").render_derived(name="other")
    joined = select(Article.c.sku).select_from(Shop).join(other, true()).join(Article, Article.c.id == other.c.id)
    assert await rows(db, joined) == [("a",), ("b",)]


# -- what is sent


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
