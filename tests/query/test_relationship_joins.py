"""Federated relationships in joins: as SQLAlchemy's own are, over any number of services."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import func, select, text
from sqlalchemy.orm import aliased

from fedorm import AsyncFederatedSession, Federation, federated_load
from tests.models import Employee, Item, Order, Product, Review, Supplier, Tag, User, user_tags
from tests.query.joined import db, ids, rows

__all__ = ["db"]


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


async def test_no_other_statement_is_changed(db: AsyncFederatedSession) -> None:
    """The mappers know nothing of it: no relationship of SQLAlchemy's has been added to any."""
    await rows(db, select(Order.id).join(Order.user))
    assert set(Order.__mapper__.relationships.keys()) == {"items"}
    assert set(User.__mapper__.relationships.keys()) == {"profile"}
    assert await rows(db, select(Order.id).where(Order.id == 1)) == [(1,)]


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
