"""The session: SQLAlchemy's own ways, routing, code that is not async, and schemas."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from sqlalchemy import delete, event, func, insert, select, text, update
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from fedorm import (
    AsyncFederatedSession,
    CrossServiceStatementError,
    Federation,
    UnknownServiceError,
    UnroutedStatementError,
    UnsupportedOperationError,
    federated_load,
)
from tests.models import Event, Item, Order, Payment, Product, User, user_tags
from tests.support import stored

# -- what a user of one service does


async def test_get_scalars_execute_merge_refresh(session: AsyncFederatedSession) -> None:
    """The everyday methods behave as in a plain AsyncSession."""
    session.add_all([User(id=n, email=f"{n}") for n in (1, 2)])
    await session.flush()
    assert (await session.get(User, 1)) is (await session.get(User, 1))
    assert (await session.execute(select(func.count()).select_from(User))).scalar_one() == 2
    merged = await session.merge(User(id=1, email="merged", country="FR"))
    assert merged.email == "merged"
    await session.flush()
    await session.execute(update(User).where(User.id == 1).values(email="bulk"))
    await session.refresh(merged)
    assert merged.email == "bulk"
    await session.execute(delete(User).where(User.id == 2))
    assert (await session.scalars(select(User.id))).all() == [1]


async def test_streaming(session: AsyncFederatedSession) -> None:
    """Rows arrive while the statement runs, over each SQL driver."""
    await session.execute(insert(User), [{"id": n, "email": str(n), "country": "DE"} for n in range(50)])
    await session.execute(insert(Payment), [{"order_id": n, "amount": Decimal(n)} for n in range(50)])
    for column in (User.id, Payment.order_id):
        result = await session.stream_scalars(select(column).order_by(column))
        assert [number async for number in result] == list(range(50))


async def test_savepoints(session: AsyncFederatedSession) -> None:
    """A savepoint undoes rows of two services and documents, and keeps what was before."""
    kept = Product(sku="kept", price=1)
    session.add_all([User(id=1, email="kept"), kept])
    try:
        async with session.begin_nested():
            session.add_all([User(id=2, email="no"), Payment(order_id=2, amount=1), Product(sku="no", price=2)])
            kept.price = 99
            await session.flush()
            raise KeyError
    except KeyError:
        pass
    assert kept.price == 1
    await session.commit()
    assert (await session.scalars(select(User.id))).all() == [1]
    assert (await session.scalars(select(Payment))).all() == []
    assert [product.sku for product in await session.find(Product).to_list()] == ["kept"]


async def test_events_fire(session: AsyncFederatedSession) -> None:
    """Session events reach listeners as always."""
    heard: list[str] = []
    event.listen(session.sync_session, "before_flush", lambda *_: heard.append("flush"))
    event.listen(session.sync_session, "after_commit", lambda _: heard.append("commit"))
    session.add(User(id=1, email="x"))
    await session.commit()
    assert heard == ["flush", "commit"]


async def test_text_and_tables_without_a_class(session: AsyncFederatedSession) -> None:
    """A table in a service's MetaData routes by itself; text() needs to be told."""
    await session.execute(insert(user_tags), [{"user_id": 1, "tag_id": 2}])
    assert (await session.execute(select(user_tags))).all() == [(1, 2)]
    counted = await session.execute(text("select count(*) from user_tags"), bind_arguments={"service": "orders"})
    assert counted.scalar_one() == 1


# -- routing


async def test_get_bind_routes_models_tables_and_mappers(session: AsyncFederatedSession, urls: dict[str, str]) -> None:
    """Each goes to the database of its service."""
    for routed, service in ((User, "users"), (Order.__table__, "orders"), (Payment.__mapper__, "payments")):
        assert session.get_bind(routed).url.database == urls[service].rpartition("/")[2]  # type: ignore[arg-type]


async def test_routing_never_guesses(session: AsyncFederatedSession, urls: dict[str, str]) -> None:
    """No service, an unknown one, or one that holds documents: each is refused by name."""
    with pytest.raises(UnroutedStatementError, match="which service"):
        await session.execute(text("select 1"))
    with pytest.raises(UnknownServiceError, match=r"unknown service 'nowhere'.*'orders'"):
        await session.execute(text("select 1"), bind_arguments={"service": "nowhere"})
    with pytest.raises(UnsupportedOperationError, match="holds documents"):
        await session.execute(text("select 1"), bind_arguments={"service": "inventory"})


async def test_a_write_over_two_services_is_refused(session: AsyncFederatedSession) -> None:
    """It names both services before anything is sent."""
    change = update(User).where(User.id.in_(select(Order.user_id))).values(country="FR")
    with pytest.raises(CrossServiceStatementError) as raised:
        await session.execute(change, execution_options={"synchronize_session": False})
    assert raised.value.services == ["orders", "users"]


async def test_models_of_services_that_are_not_open(postgresql_url: str) -> None:
    """A federation opens its own services; only using another's model raises."""
    async with Federation({"users": postgresql_url}) as fed:
        await fed.create_all()
        async with fed.session() as session:
            session.add(User(id=1, email="x"))
            await session.commit()
            with pytest.raises(UnknownServiceError, match=r"'orders'.*used by Order"):
                session.add(Order(id=1))
            with pytest.raises(UnknownServiceError, match="'inventory'"):
                session.find(Product)


# -- without async


def test_sync_sessions_do_the_same(urls: dict[str, str]) -> None:
    """Rows, documents and relationships from plain code; unloaded attributes load by themselves there."""
    fed = Federation(urls)

    async def prepare() -> None:
        async with fed:
            await fed.create_all()

    asyncio.run(prepare())
    with fed, fed.sync_session() as session:
        assert isinstance(session, Session)
        session.add_all([User(id=1, email="x"), Order(id=1, user_id=1, items=[Item(id=1, sku="a")])])
        session.add_all([Product(sku="a", price=3), Event(id=1, user_id=1, kind="k"), Payment(order_id=1, amount=2)])
        session.commit()
        order = session.scalars(
            select(Order).options(federated_load(Order.user, User.events), federated_load(Order.items, Item.product))
        ).one()
        assert (order.user.events[0].kind, order.items[0].product.price) == ("k", 3)
        product = session.find(Product, Product.price > 2).first_or_none()
        product.price = 4
        session.commit()
        assert [p.price for p in session.find(Product)] == [4]
        session.find(Product).update({"$set": {"price": 8}})
        session.rollback()
        assert session.get(Product, product.id).price == 4
        payment = session.scalars(select(Payment)).one()
        assert payment.order.user.email == "x"


async def test_a_sync_session_beside_an_async_one(fed: Federation) -> None:
    """One federation, open for both: each side has its own connections."""

    def work() -> int:
        with fed, fed.sync_session() as session:
            session.add(Product(sku="t", price=1))
            session.commit()
            return int(session.find(Product).count())

    assert await asyncio.to_thread(work) == 1
    assert await stored(fed) == {"t": 1}


# -- schema


async def test_create_all_and_drop_all(fed: Federation) -> None:
    """Tables, collections and indexes of every service come and go; both may be called again."""
    await fed.create_all()
    async with fed.session() as session:
        session.add_all([User(id=1, email="x"), Product(sku="a", price=1)])
        await session.commit()
    await fed.drop_all()
    await fed.drop_all()
    async with fed.session() as session:
        with pytest.raises(ProgrammingError, match="users"):
            await session.scalars(select(User))
        await session.rollback()
    assert await stored(fed) == {}
    await fed.create_all()
    async with fed.session() as session:
        assert (await session.scalars(select(User))).all() == []
