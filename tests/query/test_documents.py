"""Documents inside a select over several services: nested fields, arrays, classes, links."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest
from sqlalchemy import any_, func, select, text, true

from fedorm import AsyncFederatedSession
from tests.query.articles import MAKER, UTC, Article, Comic, Novel, Sale, Shop, db, rows

__all__ = ["db"]


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
