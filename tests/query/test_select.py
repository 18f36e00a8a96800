"""One select over several services: as SQLAlchemy answers over one database."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Column, Integer, Table, and_, case, exists, func, literal, select, text, union_all
from sqlalchemy.orm import aliased

from fedorm import (
    AsyncFederatedSession,
    Federation,
    UnknownTableError,
    UnsupportedQueryError,
    federated_load,
)
from tests.models import Event, Item, Order, Payment, Product, Review, User

PAID = UUID("0b5c8e0e-6d0f-4a41-9d3c-2f6f0c1f2a3b")


@pytest.fixture
async def shop(fed: Federation) -> Federation:
    """Three users, five orders, products as documents, one payment, events."""
    async with fed.session() as session:
        session.add_all(
            [User(id=n, email=f"u{n}", country=country) for n, country in ((1, "DE"), (2, "FR"), (3, "DE"))]
        )
        session.add_all(
            [
                Order(id=1, user_id=1, total=Decimal("10.50"), items=[Item(id=1, sku="a"), Item(id=2, sku="b")]),
                Order(id=2, user_id=1, total=Decimal("0.10"), items=[Item(id=3, sku="a")]),
                Order(id=3, user_id=2, total=Decimal("99.99"), items=[Item(id=4, sku="gone")]),
                Order(id=4, user_id=None, total=Decimal(7)),
                Order(id=5, user_id=404, total=Decimal(8)),
            ]
        )
        session.add_all([Product(sku="a", price=1.5, labels=["new", "hot"]), Product(sku="b", price=2.5)])
        session.add_all([Payment(id=PAID, order_id=1, amount=Decimal("10.50")), Review(user_id=1, stars=5)])
        session.add_all([Event(id=n, user_id=1, kind="k", at=datetime.datetime(2026, 1, n)) for n in (1, 2)])
        await session.commit()
    return fed


@pytest.fixture
async def db(shop: Federation) -> Any:
    async with shop.session() as session:
        yield session


async def rows(session: AsyncFederatedSession, statement: Any, *parameters: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await session.execute(statement, *parameters)]


async def test_the_select_of_the_readme(db: AsyncFederatedSession) -> None:
    """Rows, association rows and documents of three services in one plain select."""
    statement = (
        select(User.email, Order.id, Product.c.price)
        .join(Order, Order.user_id == User.id)
        .join(Item, Item.order_id == Order.id)
        .join(Product, Product.c.sku == Item.sku)
        .where(User.country == "DE")
        .order_by(Order.id, Product.c.price)
        .limit(50)
    )
    assert await rows(db, statement) == [("u1", 1, 1.5), ("u1", 1, 2.5), ("u1", 2, 1.5)]


async def test_plain_sql(db: AsyncFederatedSession) -> None:
    """Tables are named service.table, or alone where just one service has such a table; columns as PostgreSQL would."""
    statement = text(
        "select u.email, count(*), sum(o.total) as spent from users.users u join cards c on true right join orders o "
        "on o.user_id = u.id where o.total > :least group by 1 order by 1"
    )
    plain = text(
        "select u.email, count(*), sum(o.total) as spent from users.users u join orders.orders o "
        "on o.user_id = u.id where o.total > :least group by 1 order by 1"
    )
    result = await db.execute(plain, {"least": 1})
    assert list(result.keys()) == ["email", "count", "spent"]
    assert [tuple(row) for row in result] == [("u1", 1, Decimal("10.50")), ("u2", 1, Decimal("99.99"))]
    assert await rows(db, statement, {"least": 50}) == [(None, 1, Decimal("99.99"))]


async def test_outer_joins_and_null_keys(db: AsyncFederatedSession) -> None:
    """What matches nothing stays, on the side that keeps it; NULL matches nothing."""
    left = select(Order.id, User.email).outerjoin(User, User.id == Order.user_id).order_by(Order.id)
    assert await rows(db, left) == [(1, "u1"), (2, "u1"), (3, "u2"), (4, None), (5, None)]
    full = select(Order.id, User.email).join(User, User.id == Order.user_id, full=True).order_by(Order.id, User.email)
    assert await rows(db, full) == [(1, "u1"), (2, "u1"), (3, "u2"), (4, None), (5, None), (None, "u3")]


async def test_semi_and_anti_joins(db: AsyncFederatedSession) -> None:
    """EXISTS, IN, and NOT IN, for which one NULL is enough to find nothing."""
    buyers = select(Order.user_id).where(Order.total > 5)
    assert await rows(db, select(User.id).where(User.id.in_(buyers)).order_by(User.id)) == [(1,), (2,)]
    assert await rows(db, select(User.id).where(User.id.not_in(buyers))) == []
    known = buyers.where(Order.user_id.is_not(None))
    assert await rows(db, select(User.id).where(User.id.not_in(known))) == [(3,)]
    has_none = ~exists().where(Order.user_id == User.id)
    assert await rows(db, select(User.id).where(has_none)) == [(3,)]


async def test_entities_are_the_sessions_own(db: AsyncFederatedSession) -> None:
    """Rows become objects of the identity map, and their relationships can be loaded with them."""
    kept = await db.get(Order, 1)
    statement = select(Order, User).join(User, User.id == Order.user_id).where(User.country == "DE").order_by(Order.id)
    found = (await db.execute(statement)).all()
    assert found[0][0] is kept
    assert [(order.id, user.email) for order, user in found] == [(1, "u1"), (2, "u1")]
    loaded = (await db.scalars(statement.options(federated_load(Order.user)))).all()
    assert [order.user.email for order in loaded] == ["u1", "u1"]
    assert loaded[0].user is found[0][1]


async def test_scalars_mappings_and_streams(db: AsyncFederatedSession) -> None:
    """Every way of reading a result."""
    statement = select(User.email, Order.id.label("number")).join(Order, Order.user_id == User.id).order_by(Order.id)
    assert (await db.scalars(statement)).all() == ["u1", "u1", "u2"]
    assert (await db.execute(statement)).mappings().all()[2] == {"email": "u2", "number": 3}
    stream = await db.stream(statement.execution_options(yield_per=2))
    assert [len(part) async for part in stream.partitions()] == [2, 1]
    assert await db.scalar(select(func.count()).select_from(User).join(Order, Order.user_id == User.id)) == 3


async def test_groups_windows_ctes_and_sets(db: AsyncFederatedSession) -> None:
    """The forms that a single database finishes by itself."""
    spent = (
        select(Order.user_id, func.sum(Order.total).label("spent"))
        .where(Order.user_id.is_not(None))
        .group_by(Order.user_id)
        .cte("spent")
    )
    ranked = select(User.email, spent.c.spent, func.rank().over(order_by=spent.c.spent.desc()).label("place")).join(
        spent, spent.c.user_id == User.id
    )
    assert await rows(db, ranked.order_by("place")) == [("u2", Decimal("99.99"), 1), ("u1", Decimal("10.60"), 2)]
    grouped = (
        select(User.country, func.count(Order.id), func.count(Order.id.distinct()).filter(Order.total > 1))
        .outerjoin(Order, Order.user_id == User.id)
        .group_by(User.country)
        .having(func.count(Order.id) > 0)
        .order_by(User.country)
    )
    assert await rows(db, grouped) == [("DE", 2, 1), ("FR", 1, 1)]
    both = union_all(select(User.id), select(Order.id).where(Order.id > 3), select(literal(0)))
    assert sorted(await rows(db, both)) == [(0,), (1,), (2,), (3,), (4,), (5,)]
    largest = (
        select(func.max(Order.total)).where(Order.user_id == User.id).correlate(User).scalar_subquery().label("most")
    )
    assert await rows(db, select(User.id, largest).order_by(User.id)) == [
        (1, Decimal("10.50")),
        (2, Decimal("99.99")),
        (3, None),
    ]


async def test_expressions(db: AsyncFederatedSession) -> None:
    """CASE, casts, arithmetic with PostgreSQL's integer division, NULL order and string functions."""
    kind = case((Order.total > 50, "large"), else_="small").label("kind")
    statement = select(Order.id, kind, Order.id // 2, func.upper(User.email)).join(User, User.id == Order.user_id)
    assert await rows(db, statement.order_by(Order.id.desc())) == [
        (3, "large", 1, "U2"),
        (2, "small", 1, "U1"),
        (1, "small", 0, "U1"),
    ]
    nulls = select(Order.id).outerjoin(User, User.id == Order.user_id).order_by(User.id, Order.id)
    assert (await db.scalars(nulls)).all() == [1, 2, 3, 4, 5]
    last = select(Order.id).outerjoin(User, User.id == Order.user_id).order_by(User.id.desc().nulls_last(), Order.id)
    assert (await db.scalars(last)).all() == [3, 1, 2, 4, 5]


async def test_aliases_and_self_joins(db: AsyncFederatedSession) -> None:
    """One table twice, and another service's beside it."""
    other = aliased(Order)
    statement = (
        select(Order.id, other.id, User.email)
        .join(other, and_(other.user_id == Order.user_id, other.id > Order.id))
        .join(User, User.id == Order.user_id)
    )
    assert await rows(db, statement) == [(1, 2, "u1")]


async def test_types_are_kept(db: AsyncFederatedSession) -> None:
    """UUIDs, decimals, datetimes, arrays of documents and NULL come as SQLAlchemy gives them."""
    statement = select(Payment.id, Payment.amount, Order.total).join(Order, Order.id == Payment.order_id)
    assert await rows(db, statement.where(Payment.id == PAID)) == [(PAID, Decimal("10.50"), Decimal("10.50"))]
    events = select(Event.at, User.email).join(User, User.id == Event.user_id).order_by(Event.at)
    assert (await rows(db, events))[0] == (datetime.datetime(2026, 1, 1), "u1")
    products = select(Product.c.id, Product.c.labels, Product.c.supplier_id).order_by(Product.c.sku)
    first = (await rows(db, products))[0]
    product = await db.find(Product, Product.sku == "a").first_or_none()
    assert first == (product.id, ["new", "hot"], None)
    assert type(first[0]) is type(product.id)


async def test_lists_of_values(db: AsyncFederatedSession) -> None:
    """IN with any number of values, none included, keeps one plan."""
    for wanted in ([1, 2], [3], [], [1, 2, 3, 4]):
        statement = select(Order.id).join(User, User.id == Order.user_id).where(Order.id.in_(wanted)).order_by(Order.id)
        assert (await db.scalars(statement)).all() == [one for one in wanted if one < 4]
    texts = select(User.email).join(Order, Order.user_id == User.id).where(User.email.not_in(["u1", "x'); --"]))
    assert (await db.scalars(texts)).all() == ["u2"]


async def test_the_sessions_own_truth(db: AsyncFederatedSession) -> None:
    """What is pending is flushed and seen, in rows and documents; nobody else sees it, and a rollback undoes it."""
    db.add_all([Order(id=50, user_id=3, total=Decimal(1), items=[Item(id=50, sku="new")]), Product(sku="new", price=9)])
    statement = (
        select(User.email, Product.c.price)
        .join(Order, Order.user_id == User.id)
        .join(Item, Item.order_id == Order.id)
        .join(Product, Product.c.sku == Item.sku)
        .where(Order.id == 50)
    )
    assert await rows(db, statement) == [("u3", 9.0)]
    await db.rollback()
    assert await rows(db, statement) == []


async def test_values_that_look_like_sql(db: AsyncFederatedSession) -> None:
    """Values stay values in every piece and in the finish."""
    nasty = "x'); DROP TABLE users; -- :a %s $1 ?"
    db.add(User(id=9, email=nasty))
    db.add(Order(id=90, user_id=9))
    found = await rows(
        db, select(User.email, Order.id).join(Order, Order.user_id == User.id).where(User.email == nasty)
    )
    assert found == [(nasty, 90)]
    found = await rows(
        db,
        text("select o.id from orders.orders o join users.users u on u.id = o.user_id where u.email = :e"),
        {"e": nasty},
    )
    assert found == [(90,)]


RECURSIVE = "with recursive r as (select 1 a union select a + 1 from r) select * from r, users.users"


@pytest.mark.parametrize(
    ("statement", "error", "match"),
    [
        ("select 1 from users.userz", UnknownTableError, r"'users.userz': did you mean users.users"),
        ("select 1 from user.users", UnknownTableError, "did you mean users.users"),
        ("select nothing from users.users", UnsupportedQueryError, "'nothing' could not be resolved"),
        ("select id from users.users u join orders.orders o on true", UnsupportedQueryError, "'id'"),
        (RECURSIVE, UnsupportedQueryError, "RECURSIVE"),
    ],
)
async def test_what_cannot_be_answered(db: AsyncFederatedSession, statement: str, error: Any, match: str) -> None:
    """Refused by name before anything is sent; the session goes on."""
    with pytest.raises(error, match=match):
        await db.execute(text(statement))
    assert await rows(db, select(User.id).where(User.id == 1)) == [(1,)]


for side in ("left_side", "third_side"):
    Table("twin", User.metadata_of(side), Column("id", Integer, primary_key=True))


async def test_bare_names(fed: Federation, urls: dict[str, str]) -> None:
    """One that no service has, and one that several have: the candidates are named."""
    async with fed.session() as session:
        with pytest.raises(UnknownTableError, match="no service of this federation has a table 'nowhere'"):
            await session.execute(text("select * from nowhere"))
    async with (
        Federation({"left_side": urls["users"], "third_side": urls["orders"]}) as two,
        two.session() as session,
    ):
        with pytest.raises(UnknownTableError, match=r"write left_side\.twin or third_side\.twin"):
            await session.execute(text("select * from twin"))


def test_without_async(urls: dict[str, str]) -> None:
    """The same select in code that is not async."""
    with Federation(urls) as fed, fed.sync_session() as session:
        for name in ("users", "orders"):
            User.metadata_of(name).create_all(fed.stores[name].sync_engine)  # type: ignore[attr-defined]
        session.add_all([User(id=1, email="x"), Order(id=1, user_id=1), Product(sku="a", price=1)])
        session.commit()
        statement = select(User.email, Order.id).join(Order, Order.user_id == User.id)
        assert [tuple(row) for row in session.execute(statement)] == [("x", 1)]
        assert [tuple(row) for row in session.execute(select(Product.c.sku))] == [("a",)]
