"""Attributes of federated relationships: loaded, touched, assigned, refreshed and streamed; orphans."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from fedorm import (
    AsyncFederatedSession,
    DetachedError,
    FederatedLazyLoadError,
    Federation,
    MissingTargetError,
    RelationshipError,
    UnloadedKeyError,
    federated_load,
)
from tests.models import Event, Item, Order, Product, Review, User
from tests.relating import Statements, all_of, data, statements

__all__ = ["data", "statements"]

pytestmark = pytest.mark.usefixtures("data")


async def test_what_the_session_has_is_not_fetched_again(
    session: AsyncFederatedSession, statements: Statements
) -> None:
    """Targets in the identity map answer by themselves; only the missing key is asked for."""
    kept = await session.get(User, 1)
    orders = await all_of(session, Order, federated_load(Order.user))
    assert orders[0].user is kept
    assert statements.of("users") == 2  # get() and the one key that was missing
    statements.clear()
    await session.load(orders, Order.user)
    assert statements.of("users") == 0


async def test_awaitable_attrs_loads_all_siblings(session: AsyncFederatedSession, statements: Statements) -> None:
    """The first access loads for the whole result; the others find it there."""
    orders = await all_of(session, Order)
    statements.clear()
    assert (await orders[0].awaitable_attrs.user).id == 1
    assert orders[2].user.id == 2
    assert statements.of("users") == 1
    products = await session.find(Product).sort("sku").to_list()
    assert (await products[0].awaitable_attrs.supplier).name == "supplier 1"
    assert products[1].supplier.name == "supplier 2"


async def test_touching_an_unloaded_attribute_names_both_ways(session: AsyncFederatedSession) -> None:
    """The error says how to load with the query and how to load afterwards."""
    order = await session.get(Order, 1)
    assert order is not None
    with pytest.raises(FederatedLazyLoadError) as raised:
        order.user  # noqa: B018
    assert "federated_load(Order.user)" in str(raised.value)
    assert "awaitable_attrs.user" in str(raised.value)


async def test_detached_objects_say_so(fed: Federation) -> None:
    """Without a session there is nobody to ask."""
    async with fed.session() as session:
        order = await session.get(Order, 1)
    with pytest.raises(DetachedError, match="belongs to no session"):
        order.user  # noqa: B018


async def test_missing_raise(session: AsyncFederatedSession) -> None:
    """missing="raise" turns a key that points nowhere into an error with service and keys."""
    session.add(Order(id=9, user_id=999))
    with pytest.raises(MissingTargetError, match=r"Order.owner.*999") as raised:
        await all_of(session, Order, federated_load(Order.owner))
    assert raised.value.service == "users"
    assert raised.value.keys == [999]


async def test_own_uncommitted_rows_are_seen(session: AsyncFederatedSession) -> None:
    """The loader works on the session's own connections."""
    session.add_all([User(id=50, email="new@example.com"), Order(id=50, user_id=50)])
    product = Product(sku="new", price=1)
    session.add_all([product, Item(id=50, order_id=50, sku="new")])
    statement = select(Order).where(Order.id == 50)
    path = federated_load(Order.user), federated_load(Order.items, Item.product)
    order = (await session.scalars(statement.options(*path))).one()
    assert order.user.email == "new@example.com"
    assert order.items[0].product is product


async def test_assigning_sets_the_key(session: AsyncFederatedSession) -> None:
    """order.user = user writes user_id, and both sides know."""
    user, order = await session.get(User, 3), await session.get(Order, 4)
    assert user is not None
    assert order is not None
    await user.awaitable_attrs.orders
    order.user = user
    assert order.user_id == 3
    assert user.orders == [order]
    user.orders.append(Order(id=77))
    await session.commit()
    users = await all_of(session, User, federated_load(User.orders))
    assert [one.id for one in users[2].orders] == [4, 77]


async def test_assigning_an_unflushed_object_is_refused(session: AsyncFederatedSession) -> None:
    """Without a key there is nothing to point to."""
    with pytest.raises(UnloadedKeyError, match="flush it first"):
        Order(id=1).user = User(email="x")


async def test_refresh_loads_a_federated_attribute_anew(session: AsyncFederatedSession, fed: Federation) -> None:
    """refresh(order, ["user"]) forgets what was loaded."""
    order = (await all_of(session, Order, federated_load(Order.user)))[0]
    order.user_id = 2
    await session.flush()
    await session.refresh(order, ["user"])
    assert order.user.id == 2


async def test_streaming_loads_a_chunk_at_a_time(session: AsyncFederatedSession, statements: Statements) -> None:
    """With yield_per the relationships come with each chunk."""
    statement = select(Order).order_by(Order.id).options(federated_load(Order.user))
    result = await session.stream_scalars(statement, execution_options={"yield_per": 2})
    assert [order.user and order.user.id async for order in result] == [1, 1, 2, None]


async def test_rows_of_several_entities(session: AsyncFederatedSession) -> None:
    """Options reach their entity wherever it stands in the row."""
    statement = select(Order.id, Order).where(Order.id < 3).order_by(Order.id).options(federated_load(Order.user))
    rows = (await session.execute(statement)).all()
    assert [(number, order.user.id) for number, order in rows] == [(1, 1), (2, 1)]


async def test_orphans(fed: Federation) -> None:
    """Rows, distinct keys and a sample of those that point nowhere; from both ends, and for documents."""
    async with fed.session() as session:
        session.add_all([Order(id=20 + n, user_id=100 + n % 2) for n in range(3)])
        await session.commit()
    found = await fed.orphans(Order.user)
    assert (found.rows, found.keys, sorted(found.sample)) == (3, 2, [100, 101])
    found = await fed.orphans(User.orders)
    assert (found.rows, found.keys) == (3, 2)
    found = await fed.orphans(Item.product)
    assert (found.rows, found.sample) == (1, ["gone"])
    found = await fed.orphans(Review.user)
    assert (found.rows, found.sample) == (1, [9])


async def test_orphans_wants_a_relationship(fed: Federation) -> None:
    """Anything else, and one through a table, is refused with the reason."""
    with pytest.raises(RelationshipError):
        await fed.orphans(User.tags)


async def test_wrong_paths_are_refused() -> None:
    """A path must be made of relationships that follow one another."""
    with pytest.raises(RelationshipError, match="not a relationship"):
        federated_load(Order.id)
    with pytest.raises(RelationshipError, match="does not start there"):
        federated_load(Order.user, Item.product)


async def test_values_that_look_like_sql_stay_values(session: AsyncFederatedSession) -> None:
    """Keys go as bound values to every store."""
    nasty = "x'); DROP TABLE items; --"
    session.add_all([Item(id=60, order_id=1, sku=nasty), Product(sku=nasty, price=1)])
    session.add(Event(id=60, user_id=1, kind=nasty + '"\\'))
    await session.commit()
    item = (await session.scalars(select(Item).where(Item.sku == nasty).options(federated_load(Item.product)))).one()
    assert item.product.sku == nasty
    found = (await session.scalars(select(Event.kind).where(Event.kind == nasty + '"\\'))).all()
    assert found == [nasty + '"\\']
