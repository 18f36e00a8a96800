"""Federated relationships in conditions: has(), any(), contains() and comparisons with objects."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import and_, exists, func, or_, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import aliased, contains_eager, joinedload, selectinload

from fedorm import AsyncFederatedSession, RelationshipError, UnsupportedQueryError
from tests.models import Card, Employee, Event, Item, Order, Parcel, Product, Review, User
from tests.query.joined import Shelf, db, ids, rows

__all__ = ["db"]


async def test_has(db: AsyncFederatedSession) -> None:
    """An EXISTS over the other service, by expressions or by names."""
    by_hand = select(Order).where(exists().where(User.id == Order.user_id, User.country == "DE"))
    for statement in (
        by_hand,
        select(Order).where(Order.user.has(User.country == "DE")),
        select(Order).where(Order.user.has(country="DE")),
        select(Order).where(Order.user.has(and_(User.country == "DE", User.orders.any(Order.total < 1)))),
    ):
        assert await ids(db, statement) == [1, 2]
    assert await ids(db, select(Order).where(~Order.user.has())) == [4, 5]
    assert await ids(db, select(Order).where(or_(Order.user.has(country="FR"), Order.total == 7))) == [3, 4]
    assert await ids(db, select(Item).where(Item.product.has(Product.c.price > 2))) == [2]
    assert await ids(db, select(Item).where(Item.product.has(sku="a"))) == [1, 3]
    assert await ids(db, select(Item).where(~Item.product.has())) == [4]
    assert await ids(db, select(Event).where(Event.user.has(country="DE"))) == [1, 2]
    nested = select(Item).where(Item.product.has(Product.supplier.has(name="acme")))
    assert await ids(db, nested) == [1, 3]


async def test_any(db: AsyncFederatedSession) -> None:
    """Nested as deep as one likes, negated, and in a statement with joins."""
    assert await ids(db, select(User).where(User.orders.any(Order.total > 100))) == [2]
    assert await ids(db, select(User).where(~User.orders.any())) == [3]
    assert await ids(db, select(User).where(User.orders.any(Order.items.any(Item.sku == "a")))) == [1]
    deep = User.orders.any(Order.items.any(Item.product.has(Product.c.price > 2)))
    assert await ids(db, select(User).where(deep)) == [1]
    assert await ids(db, select(User).where(~deep)) == [2, 3]
    joined = select(Order.id, User.email).join(Order.user).where(User.events.any(Event.kind == "in"))
    assert await rows(db, joined.order_by(Order.id)) == [(1, "u1"), (2, "u1")]
    assert await rows(db, select(func.count()).select_from(User).where(User.reviews.any(Review.c.stars > 3))) == [(1,)]


async def test_a_condition_of_its_own(db: AsyncFederatedSession) -> None:
    """The relationship's where= is part of the join and of each condition."""
    joined = select(User.id, Order.id).join(User.large_orders)
    assert await rows(db, joined) == [(2, 3)]
    kept = select(User.id, Order.id).outerjoin(User.large_orders).order_by(User.id)
    assert await rows(db, kept) == [(1, None), (2, 3), (3, None)]
    assert await ids(db, select(User).where(User.large_orders.any())) == [2]
    small, large = await db.get_one(Order, 1), await db.get_one(Order, 3)
    assert await ids(db, select(User).where(User.large_orders.contains(small))) == []
    assert await ids(db, select(User).where(User.large_orders.contains(large))) == [2]
    order = aliased(Order)
    aliased_ = select(User.id, order.id).join(User.large_orders.of_type(order))
    assert await rows(db, aliased_) == [(2, 3)]


async def test_composite_keys(db: AsyncFederatedSession) -> None:
    """All columns of the key are compared."""
    statement = select(Order.id, Parcel.weight).outerjoin(Order.parcel).where(Order.id < 4).order_by(Order.id)
    assert await rows(db, statement) == [(1, 3), (2, None), (3, None)]
    assert await ids(db, select(Order).where(Order.parcel.has())) == [1]
    parcel = await db.get_one(Parcel, (1, 1))
    assert await ids(db, select(Order).where(Order.parcel == parcel)) == [1]
    assert await ids(db, select(Order).where(Order.parcel != parcel)) == [2, 3, 4, 5]
    assert await ids(db, select(Order).where(Order.parcel == None)) == [4]  # noqa: E711


async def test_equal_to_an_object(db: AsyncFederatedSession) -> None:
    """Compared by the key alone, so no other service is asked; NULL is another user than any."""
    user = await db.get_one(User, 1)
    assert await ids(db, select(Order).where(Order.user == user)) == [1, 2]
    assert await ids(db, select(Order).where(Order.user != user)) == [3, 4, 5]
    assert await ids(db, select(Order).where(Order.user == None)) == [4]  # noqa: E711
    assert await ids(db, select(Order).where(Order.user != None)) == [1, 2, 3, 5]  # noqa: E711
    order = aliased(Order)
    assert await ids(db, select(order).where(order.user == user)) == [1, 2]
    assert await ids(db, select(User).where(User.orders.contains(await db.get_one(Order, 3)))) == [2]
    assert await ids(db, select(User).where(User.orders.contains(await db.get_one(Order, 4)))) == []
    assert await ids(db, select(User).where(User.card == None)) == [1, 3]  # noqa: E711
    assert await ids(db, select(User).where(User.card != None)) == [2]  # noqa: E711
    assert await ids(db, select(User).where(User.card == await db.get_one(Card, 1))) == [2]
    product = await db.find(Product, Product.sku == "a").first_or_none()
    assert await ids(db, select(Item).where(Item.product == product)) == [1, 3]
    await db.commit()
    assert await ids(db, select(Order).where(Order.user == user)) == [1, 2], "an expired object's key is read again"
    statement = select(Order.id).where(Order.user == user).order_by(Order.id)
    assert await rows(db, statement) == [(1,), (2,)]
    assert await rows(db, select(Order.id).where(Order.user == await db.get_one(User, 2))) == [(3,)]


async def test_the_sessions_own_truth(db: AsyncFederatedSession) -> None:
    """What is pending is found by relationship, too."""
    db.add_all([User(id=7, email="u7"), Order(id=70, user_id=7, total=Decimal(1))])
    assert await ids(db, select(Order).where(Order.user.has(User.id == 7))) == [70]
    assert await rows(db, select(Order.id, User.email).join(Order.user).where(User.id == 7)) == [(70, "u7")]


async def test_what_is_refused(db: AsyncFederatedSession) -> None:
    """has() of a collection, any() of what is none, comparisons with the wrong thing."""
    with pytest.raises(InvalidRequestError, match=r"Use any\(\)"):
        User.orders.has()
    with pytest.raises(InvalidRequestError, match=r"Use has\(\)"):
        Order.user.any()
    with pytest.raises(RelationshipError, match=r"User\.orders is a collection: use contains\(\)"):
        User.orders == Order(id=1)  # noqa: B015
    with pytest.raises(RelationshipError, match=r"Order\.user is no collection: compare it with =="):
        Order.user.contains(User(id=1))
    with pytest.raises(RelationshipError, match=r"Order\.user is compared with User objects, not with int"):
        Order.user == 1  # noqa: B015
    with pytest.raises(UnsupportedQueryError, match=r"Shelf\.cheap cannot be joined: its where= makes no SQL of Good"):
        await db.execute(select(Shelf.id).join(Shelf.cheap))
    for loader in (joinedload, selectinload, contains_eager):
        with pytest.raises(RelationshipError, match=r"options\(federated_load\(Order\.user\)\)"):
            select(Order).options(loader(Order.user))
    with pytest.raises(InvalidRequestError, match="same entity"):
        await db.execute(select(Employee).join(Employee.boss))
