"""Federated relationships in joins and conditions: as SQLAlchemy's own are, over any number of services."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import ForeignKey, String, and_, exists, func, or_, select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Mapped, aliased, contains_eager, joinedload, mapped_column, selectinload

from fedorm import (
    AsyncFederatedSession,
    Federated,
    FederatedBase,
    FederatedDocument,
    Federation,
    RelationshipError,
    UnsupportedQueryError,
    federated_load,
    federated_relationship,
)
from tests.models import Card, Employee, Event, Item, Order, Parcel, Product, Review, Supplier, Tag, User, user_tags
from tests.models import wishes as wish_rows


@pytest.fixture
async def db(fed: Federation) -> Any:
    async with fed.session() as session:
        session.add_all([User(id=n, email=f"u{n}", country="FR" if n == 2 else "DE") for n in (1, 2, 3)])
        session.add_all(
            [
                Order(id=1, user_id=1, total=Decimal("10.50"), items=[Item(id=1, sku="a"), Item(id=2, sku="b")]),
                Order(id=2, user_id=1, total=Decimal("0.10"), items=[Item(id=3, sku="a")]),
                Order(id=3, user_id=2, total=Decimal("199.99"), items=[Item(id=4, sku="gone")]),
                Order(id=4, user_id=None, total=Decimal(7)),
                Order(id=5, user_id=404, total=Decimal(800)),
            ]
        )
        supplier = Supplier(name="acme")
        session.add_all([supplier, Supplier(name="idle")])
        session.add_all([Product(sku="a", price=1.5, supplier_id=supplier.id), Product(sku="b", price=2.5)])
        session.add_all([Review(user_id=1, stars=5), Review(user_id=2, stars=1), Card(id=1, user_id=2)])
        session.add_all([Tag(id=1, name="new"), Tag(id=2, name="loyal")])
        session.add_all([Parcel(user_id=1, order_id=1, weight=3), Parcel(user_id=2, order_id=1, weight=9)])
        session.add_all([Employee(id=1), Employee(id=2, boss_id=1), Employee(id=3, boss_id=2), Employee(id=4)])
        session.add_all([Event(id=1, user_id=1, kind="in"), Event(id=2, user_id=3, kind="out")])
        await session.flush()
        await session.execute(user_tags.insert(), [{"user_id": u, "tag_id": t} for u, t in ((1, 1), (1, 2), (3, 2))])
        await session.execute(wish_rows.insert(), [{"user_id": u, "sku": s} for u, s in ((2, "a"), (2, "b"), (3, "a"))])
        await session.commit()
        yield session


async def rows(session: AsyncFederatedSession, statement: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await session.execute(statement)]


async def ids(session: AsyncFederatedSession, statement: Any) -> list[Any]:
    """The primary keys of entities, in order."""
    return sorted([one.id for one in (await session.scalars(statement)).unique()])


async def test_inner_joins(db: AsyncFederatedSession) -> None:
    """From either side a join finds the pairs that the hand-written one does."""
    plain = text(
        "select o.id, u.email from orders.orders o join users.users u on u.id = o.user_id where u.country = 'DE'"
        " order by o.id"
    )
    expected = [(1, "u1"), (2, "u1")]
    assert await rows(db, plain) == expected
    statement = select(Order.id, User.email).join(Order.user).where(User.country == "DE").order_by(Order.id)
    assert await rows(db, statement) == expected
    back = select(Order.id, User.email).select_from(User).join(User.orders).where(User.country == "DE")
    assert await rows(db, back.order_by(Order.id)) == expected
    explicit = select(Order.id, User.email).join(User, Order.user).where(User.country == "DE").order_by(Order.id)
    assert await rows(db, explicit) == expected


async def test_entities(db: AsyncFederatedSession) -> None:
    """Entities are the session's own, and a load of the same relationship goes with the join."""
    kept = await db.get(Order, 1)
    statement = select(Order).join(Order.user).where(User.country == "DE").order_by(Order.id)
    found = (await db.scalars(statement)).all()
    assert [one.id for one in found] == [1, 2]
    assert found[0] is kept
    pairs = (await db.execute(select(Order, User).join(Order.user).order_by(Order.id))).all()
    assert [(order.id, user.email) for order, user in pairs] == [(1, "u1"), (2, "u1"), (3, "u2")]
    loaded = (await db.scalars(statement.options(federated_load(Order.user, User.orders)))).all()
    assert [order.user.email for order in loaded] == ["u1", "u1"]
    assert [order.id for order in loaded[0].user.orders] == [1, 2]


async def test_outer_joins(db: AsyncFederatedSession) -> None:
    """Orders without a user stay, those whose key points to nothing included."""
    expected = [(1, "u1"), (2, "u1"), (3, "u2"), (4, None), (5, None)]
    for statement in (
        select(Order.id, User.email).outerjoin(Order.user),
        select(Order.id, User.email).join(Order.user, isouter=True),
        select(Order.id, User.email).outerjoin(User, Order.user),
    ):
        assert await rows(db, statement.order_by(Order.id)) == expected
    full = select(Order.id, User.email).join(Order.user, full=True).order_by(Order.id, User.email)
    assert await rows(db, full) == [*expected, (None, "u3")]
    counted = select(User.id, func.count(Order.id)).outerjoin(User.orders).group_by(User.id).order_by(User.id)
    assert await rows(db, counted) == [(1, 2), (2, 1), (3, 0)]


async def test_more_conditions_in_the_join(db: AsyncFederatedSession) -> None:
    """and_() adds to the ON, which in an outer join is not the same as to the WHERE."""
    statement = select(User.id, Order.id).outerjoin(User.orders.and_(Order.total > 5)).order_by(User.id)
    assert await rows(db, statement) == [(1, 1), (2, 3), (3, None)]


async def test_chains_through_documents(db: AsyncFederatedSession) -> None:
    """Ordinary and federated relationships in one chain, rows and documents of four services."""
    statement = (
        select(Order.id, Product.c.price, Supplier.c.name, User.email)
        .join(Order.items)
        .join(Item.product)
        .outerjoin(Product.supplier)
        .join(Order.user)
        .order_by(Order.id, Product.c.price)
    )
    plain = text(
        "select o.id, p.price, s.name, u.email from orders.orders o join orders.items i on i.order_id = o.id "
        "join inventory.products p on p.sku = i.sku left join suppliers.suppliers s on s.id = p.supplier_id "
        "join users.users u on u.id = o.user_id order by o.id, p.price"
    )
    expected = [(1, 1.5, "acme", "u1"), (1, 2.5, None, "u1"), (2, 1.5, "acme", "u1")]
    assert await rows(db, statement) == expected
    assert await rows(db, plain) == expected
    orders = select(Order).join(Order.items).join(Item.product).where(Product.c.price > 2)
    assert await ids(db, orders) == [1]


async def test_documents_as_the_source(db: AsyncFederatedSession) -> None:
    """A document's relationships are joins, too: to rows, to documents, and through a table of rows."""
    sold = select(Product.c.sku, Item.id).join(Product.items).order_by(Item.id)
    assert await rows(db, sold) == [("a", 1), ("b", 2), ("a", 3)]
    supplied = select(Product.c.sku, Supplier.c.name).outerjoin(Product.supplier).order_by(Product.c.sku)
    assert await rows(db, supplied) == [("a", "acme"), ("b", None)]
    wanted = select(Product.c.sku, User.email).join(Product.wanted_by).order_by(Product.c.sku, User.email)
    assert await rows(db, wanted) == [("a", "u2"), ("a", "u3"), ("b", "u2")]
    reviewed = select(Review.c.stars, User.email).join(Review.user).order_by(Review.c.stars)
    assert await rows(db, reviewed) == [(1, "u2"), (5, "u1")]
    assert await rows(db, select(Supplier.c.name).where(~Supplier.products.any())) == [("idle",)]


async def test_through_an_association_table(db: AsyncFederatedSession) -> None:
    """Many-to-many over three services: people, their tags, and the table between them."""
    expected = [("u1", "loyal"), ("u1", "new"), ("u3", "loyal")]
    statement = select(User.email, Tag.name).join(User.tags).order_by(User.email, Tag.name)
    assert await rows(db, statement) == expected
    back = select(User.email, Tag.name).select_from(Tag).join(Tag.users).order_by(User.email, Tag.name)
    assert await rows(db, back) == expected
    plain = text(
        "select u.email, t.name from users.users u join orders.user_tags ut on ut.user_id = u.id "
        "join payments.tags t on t.id = ut.tag_id order by u.email, t.name"
    )
    assert await rows(db, plain) == expected
    wished = select(User.email, Product.c.price).join(User.wishes).order_by(User.email, Product.c.price)
    assert await rows(db, wished) == [("u2", 1.5), ("u2", 2.5), ("u3", 1.5)]
    assert await ids(db, select(User).where(User.tags.any(Tag.name == "new"))) == [1]
    assert await ids(db, select(User).where(~User.tags.any())) == [2]
    assert await ids(db, select(User).where(User.wishes.any(Product.c.price > 2))) == [2]
    tag = await db.get_one(Tag, 2)
    assert await ids(db, select(User).where(User.tags.contains(tag))) == [1, 3]
    assert await ids(db, select(User).where(~User.tags.contains(tag))) == [2]


async def test_outer_joins_through_an_association_table(db: AsyncFederatedSession) -> None:
    """A row of the table that leads to nothing is no match: that user stays once, without a tag."""
    await db.execute(user_tags.insert(), [{"user_id": 2, "tag_id": 404}])
    statement = select(User.email, Tag.name).outerjoin(User.tags)
    expected = [("u1", "loyal"), ("u1", "new"), ("u2", None), ("u3", "loyal")]
    assert await rows(db, statement.order_by(User.email, Tag.name)) == expected
    assert await rows(db, statement.where(Tag.id.is_(None))) == [("u2", None)]
    assert await rows(db, statement.where(Tag.name == "new")) == [("u1", "new")]
    chained = select(Order.id, Tag.name).join(Order.user).outerjoin(User.tags).where(Order.id > 1).order_by(Order.id)
    assert await rows(db, chained.order_by(Tag.name)) == [(2, "loyal"), (2, "new"), (3, None)]


async def test_aliases(db: AsyncFederatedSession) -> None:
    """The target as an alias, the source as one, and a document's table as one."""
    buyer, order = aliased(User), aliased(Order)
    product = Product.__clause_element__().alias()
    expected = [(1, "u1"), (2, "u1"), (3, "u2")]
    for statement in (
        select(Order.id, buyer.email).join(Order.user.of_type(buyer)).order_by(Order.id),
        select(Order.id, buyer.email).join(buyer, Order.user).order_by(Order.id),
        select(order.id, User.email).join(order.user).order_by(order.id),
        select(order.id, buyer.email).join(order.user.of_type(buyer)).order_by(order.id),
    ):
        assert await rows(db, statement) == expected
    assert await ids(db, select(order).where(order.user.has(country="FR"))) == [3]
    assert await ids(db, select(Order).where(Order.user.of_type(buyer).has(buyer.country == "FR"))) == [3]
    priced = select(Item.id, product.c.price).join(Item.product.of_type(product)).order_by(Item.id)
    assert await rows(db, priced) == [(1, 1.5), (2, 2.5), (3, 1.5)]
    loaded = (await db.scalars(select(order).join(order.user).options(federated_load(order.user)))).all()
    assert sorted(one.user.email for one in loaded) == ["u1", "u1", "u2"]


async def test_self_referential(db: AsyncFederatedSession) -> None:
    """A relationship from a table to itself needs an alias to join, and none for a condition."""
    boss = aliased(Employee)
    expected = [(2, 1), (3, 2)]
    for statement in (
        select(Employee.id, boss.id).join(Employee.boss.of_type(boss)),
        select(Employee.id, boss.id).join(boss, Employee.boss),
        select(Employee.id, boss.id).select_from(boss).join(Employee, boss.reports),
    ):
        assert await rows(db, statement.order_by(Employee.id)) == expected
    assert await ids(db, select(Employee).where(Employee.reports.any())) == [1, 2]
    assert await ids(db, select(Employee).where(Employee.reports.any(Employee.id > 2))) == [2]
    assert await ids(db, select(Employee).where(~Employee.boss.has())) == [1, 4]
    assert await ids(db, select(Employee).where(Employee.boss.has(Employee.boss.has()))) == [3]


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


async def test_no_other_statement_is_changed(db: AsyncFederatedSession) -> None:
    """The mappers know nothing of it: no relationship of SQLAlchemy's has been added to any."""
    await rows(db, select(Order.id).join(Order.user))
    assert set(Order.__mapper__.relationships.keys()) == {"items"}
    assert set(User.__mapper__.relationships.keys()) == {"profile"}
    assert await rows(db, select(Order.id).where(Order.id == 1)) == [(1,)]


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


class Good(FederatedDocument):
    __service__ = "inventory"
    code: int
    price: float

    class Settings:
        name = "goods"


class Shelf(FederatedBase):
    """Keys that meet their text: numbers here, texts there."""

    __service__ = "users"
    __tablename__ = "shelves"
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]
    good_code: Mapped[str | None]
    notes: Federated[list[Note]] = federated_relationship(remote_key="shelf")
    good: Federated[Good] = federated_relationship(local_key="good_code", remote_key="code")
    dear: Federated[list[Good]] = federated_relationship(
        local_key="good_code", remote_key="code", where=lambda good: good.price > 5
    )
    cheap: Federated[list[Good]] = federated_relationship(
        local_key="good_code", remote_key="code", where=lambda good: {"price": {"$lt": 5}}
    )


class Note(FederatedBase):
    __service__ = "orders"
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf: Mapped[str]
    of: Federated[Shelf] = federated_relationship(local_key="shelf")


async def test_keys_of_two_types(fed: Federation) -> None:
    """A number equals its text, in its canonical form alone, as when the relationship is loaded."""
    async with fed.session() as db:
        db.add_all([Shelf(id=1, label="x", good_code="7"), Shelf(id=2, label="y", good_code="8")])
        db.add_all([Note(id=1, shelf="1"), Note(id=2, shelf="2"), Note(id=3, shelf="01")])
        db.add_all([Good(code=7, price=2.0), Good(code=8, price=9.0)])
        await db.flush()
        joined = select(Note.id, Shelf.label).outerjoin(Note.of).order_by(Note.id)
        assert await rows(db, joined) == [(1, "x"), (2, "y"), (3, None)]
        back = select(Shelf.label, Note.id).join(Shelf.notes).order_by(Note.id)
        assert await rows(db, back) == [("x", 1), ("y", 2)]
        assert await rows(db, select(Shelf.id, Good.c.price).join(Shelf.good).order_by(Shelf.id)) == [
            (1, 2.0),
            (2, 9.0),
        ]
        assert await ids(db, select(Shelf).where(Shelf.good.has(Good.c.price > 5))) == [2]
        assert await rows(db, select(Shelf.id, Good.c.code).join(Shelf.dear)) == [(2, 8)]
        assert await ids(db, select(Note).where(Note.of == await db.get_one(Shelf, 2))) == [2]
        assert await ids(db, select(Shelf).where(Shelf.notes.contains(await db.get_one(Note, 1)))) == [1]


class Account(FederatedBase):
    __service__ = "users"
    __tablename__ = "accounts"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    visits: Federated[list[Visit]] = federated_relationship(remote_key="account")
    parent_text: Mapped[str | None]
    parent: Federated[Account] = federated_relationship(local_key="parent_text")


class Visit(FederatedBase):
    __service__ = "payments"
    __tablename__ = "visits"
    id: Mapped[int] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(String(50))
    supplier_text: Mapped[str] = mapped_column(String(50))
    token: Mapped[UUID | None]
    by: Federated[Account] = federated_relationship(local_key="account")
    supplier: Federated[Supplier] = federated_relationship(local_key="supplier_text")
    same: Federated[Visit] = federated_relationship(local_key="account", remote_key="token")


async def test_texts_of_uuids_and_object_ids(fed: Federation) -> None:
    """A UUID equals its canonical text, and an ObjectId its digits."""
    one, two = UUID(int=0xABC), UUID(int=2)
    async with fed.session() as db:
        supplier = Supplier(name="acme")
        db.add_all([Account(id=one), Account(id=two, parent_text=str(one)), supplier])
        await db.flush()
        db.add(Visit(id=1, account=str(one), supplier_text=str(supplier.id)))
        db.add(Visit(id=2, account=str(one).upper(), supplier_text="none"))
        await db.flush()
        assert await rows(db, select(Visit.id, Account.id).outerjoin(Visit.by).order_by(Visit.id)) == [
            (1, one),
            (2, None),
        ]
        assert await ids(db, select(Account).where(Account.visits.any())) == [one]
        assert await rows(db, select(Visit.id, Supplier.c.name).join(Visit.supplier)) == [(1, "acme")]
        assert await ids(db, select(Account).where(Account.parent.has())) == [two]
        with pytest.raises(UnsupportedQueryError, match="keeps no canonical text of a UUID"):
            await db.execute(select(Visit).where(Visit.same.has()))


class Office(FederatedBase):
    __service__ = "users"
    __tablename__ = "offices"
    id: Mapped[int] = mapped_column(primary_key=True)
    people: Federated[list[Person]] = federated_relationship(remote_key="office_id")
    managers: Federated[list[Manager]] = federated_relationship(remote_key="office_id")
    guests: Federated[list[Guest]] = federated_relationship(remote_key="office_id")


class Person(FederatedBase):
    """A hierarchy over two tables; some of its classes have none of their own."""

    __service__ = "orders"
    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    office_id: Mapped[int]
    office: Federated[Office] = federated_relationship(local_key="office_id")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Manager(Person):
    __service__ = "orders"
    __tablename__ = "managers"
    id: Mapped[int] = mapped_column(ForeignKey("people.id"), primary_key=True)
    grade: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "manager"}


class Guest(Person):
    __service__ = "orders"
    __mapper_args__ = {"polymorphic_identity": "guest"}


async def test_hierarchies(fed: Federation) -> None:
    """A class of a hierarchy joins its own rows alone, from either side, whether it has a table or not."""
    async with fed.session() as db:
        db.add_all([Office(id=1), Office(id=2), Office(id=3)])
        db.add_all([Manager(id=1, office_id=1, grade=5), Manager(id=2, office_id=2, grade=1), Guest(id=3, office_id=2)])
        await db.flush()
        assert await ids(db, select(Office).join(Office.people)) == [1, 2]
        assert await ids(db, select(Office).join(Office.managers).where(Manager.grade > 3)) == [1]
        assert await ids(db, select(Office).join(Office.guests)) == [2]
        outer = select(Office.id, Manager.grade).outerjoin(Office.managers).order_by(Office.id)
        assert await rows(db, outer) == [(1, 5), (2, 1), (3, None)]
        assert await rows(db, outer.where(Manager.id.is_(None))) == [(3, None)]
        assert await ids(db, select(Office).where(Office.managers.any(Manager.grade > 3))) == [1]
        assert await ids(db, select(Office).where(~Office.guests.any())) == [1, 3]
        assert await ids(db, select(Office).where(Office.people.of_type(Manager).any(Manager.grade < 3))) == [2]
        assert await ids(db, select(Manager).join(Manager.office).where(Office.id == 2)) == [2]
        assert await ids(db, select(Guest).where(Guest.office.has(id=2))) == [3]
        manager = aliased(Manager)
        assert await ids(db, select(manager).join(manager.office).where(manager.grade > 3)) == [1]
        joined = select(Office.id, manager.grade).join(Office.people.of_type(manager)).order_by(Office.id)
        assert await rows(db, joined) == [(1, 5), (2, 1)]


async def test_plans_are_kept(db: AsyncFederatedSession, fed: Federation) -> None:
    """Two statements that differ in a value or an object are one plan."""
    for country in ("DE", "FR"):
        await ids(db, select(Order).where(Order.user.has(country=country)))
    queries = db.sync_session.queries
    assert queries is not None
    planned = queries.planned
    await ids(db, select(Order).where(Order.user.has(country="IT")))
    assert queries.planned == planned


def test_without_async(urls: dict[str, str]) -> None:
    """The same in code that is not async."""
    with Federation(urls) as fed, fed.sync_session() as session:
        for name in ("users", "orders"):
            User.metadata_of(name).create_all(fed.stores[name].sync_engine)  # type: ignore[attr-defined]
        session.add_all([User(id=1, email="x"), Order(id=1, user_id=1), Order(id=2, user_id=9)])
        session.commit()
        assert [tuple(row) for row in session.execute(select(User.email, Order.id).join(Order.user))] == [("x", 1)]
        assert [one.id for one in session.scalars(select(Order).where(~Order.user.has()))] == [2]


Fresh = Callable[[str], str]


async def test_inside_one_service(fresh_database: Fresh) -> None:
    """Both sides in one service: the statement goes there as it is."""
    async with Federation({"users": fresh_database("postgresql")}) as fed:
        await fed.create_all()
        async with fed.session() as db:
            db.add_all([Employee(id=1), Employee(id=2, boss_id=1)])
            await db.flush()
            boss = aliased(Employee)
            assert await rows(db, select(Employee.id, boss.id).join(Employee.boss.of_type(boss))) == [(2, 1)]
            assert await ids(db, select(Employee).where(Employee.reports.any())) == [1]
            assert db.sync_session.queries is not None
            assert db.sync_session.queries.planned == 0
