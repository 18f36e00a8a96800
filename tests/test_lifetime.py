"""Opening, closing, cancelling, and many users of one federation at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.pool import NullPool

from fedorm import (
    AsyncFederatedSession,
    ConfigurationError,
    Federation,
    FedormError,
    PartialCommitError,
    RelationshipError,
    federated_load,
)
from fedorm.stores.mongodb import MongoDBStore
from tests.models import Event, Order, Payment, Product, User
from tests.support import stored


@pytest.fixture
def services(fresh_database: Callable[[str], str]) -> dict[str, str]:
    """One of each kind that the machinery differs for."""
    kinds = {"users": "postgresql", "orders": "postgresql", "payments": "mysql", "inventory": "mongodb"}
    return {name: fresh_database(kind) for name, kind in kinds.items()}


@pytest.fixture
async def shop(services: dict[str, str], no_stray_tasks: None) -> AsyncIterator[Federation]:
    async with Federation(services) as federation:
        await federation.create_all()
        yield federation


def left_open(fed: Federation) -> list[str]:
    """The services that hold an engine or a client."""
    return [name for name, store in fed.stores.items() if getattr(store, "_engine", None) or getattr(store, "sides", 0)]


# -- opening and closing


async def test_a_cancelled_open_leaves_nothing(services: dict[str, str], no_stray_tasks: None) -> None:
    """Neither the services that were still connecting nor those that were through."""
    fed = Federation(services)
    for after in (0.002, 0.01, 0.02, 0.03):
        try:
            async with asyncio.timeout(after):
                await fed.open()
        except TimeoutError:
            assert left_open(fed) == []
        await fed.close()


async def test_tasks_that_open_it_together_share_it(services: dict[str, str], no_stray_tasks: None) -> None:
    """Each enters and leaves as it likes; the last one closes it."""
    fed = Federation(services)
    async with fed:
        await fed.create_all()

    async def work(number: int) -> None:
        for turn in range(3):
            async with fed, fed.session() as session:
                session.add_all([User(id=10 * number + turn, email="x"), Product(sku=f"{number}-{turn}", price=1)])
                await session.commit()

    await asyncio.gather(*map(work, range(1, 6)))
    await asyncio.gather(fed.open(), fed.open())
    assert len(await stored(fed)) == 15
    await fed.close()
    assert left_open(fed) == []


def test_threads_that_open_it_together_share_it(services: dict[str, str]) -> None:
    """The same for functions with a  with  of their own, called from several threads."""
    fed = Federation(services)

    async def prepare() -> None:
        async with fed:
            await fed.create_all()

    asyncio.run(prepare())

    def work(number: int) -> list[str]:
        for turn in range(3):
            with fed, fed.sync_session() as session:
                key = 10 * number + turn
                session.add_all([User(id=key, email=f"u{key}"), Order(id=key, user_id=key), Product(sku="x", price=1)])
                session.commit()
        with fed, fed.sync_session() as session:
            mine = session.scalars(select(Order).where(Order.id.between(10 * number, 10 * number + 9)))
            return sorted(order.user.email for order in mine)

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(work, range(1, 7)))
    assert found == [[f"u{10 * number + turn}" for turn in range(3)] for number in range(1, 7)]


async def test_a_closed_federation_says_so(services: dict[str, str]) -> None:
    """And opens nothing by the way."""
    fed = Federation(services)
    for use in (fed.health, fed.create_all, fed.drop_all):
        with pytest.raises(FedormError, match="not open"):
            await use()
    assert left_open(fed) == []


async def test_a_sync_session_in_the_event_loops_own_thread(shop: Federation) -> None:
    """It blocks the loop, and works."""
    with shop, shop.sync_session() as session:
        session.add_all([User(id=1, email="x"), Order(id=1, user_id=1), Product(sku="a", price=1)])
        session.commit()
        assert session.scalars(select(Order)).one().user.email == "x"
        assert [product.sku for product in session.find(Product)] == ["a"]


async def test_fifty_sessions_over_five_connections(services: dict[str, str], no_stray_tasks: None) -> None:
    """Each waits for its turn."""
    small = {name: {"url": url, "pool_size": 5, "max_overflow": 0} for name, url in services.items()}
    async with Federation(small) as fed:
        await fed.create_all()

        async def work(number: int) -> None:
            async with fed.session() as session:
                session.add_all([User(id=number, email="x"), Order(id=number, user_id=number)])
                session.add(Product(sku=str(number), price=number))
                await session.commit()
                statement = select(Order).where(Order.id == number).options(federated_load(Order.user))
                assert (await session.scalars(statement)).one().user.id == number

        await asyncio.gather(*map(work, range(1, 51)))
        assert await stored(fed) == {str(number): number for number in range(1, 51)}


async def test_two_federations_over_the_same_models(shop: Federation, fresh_database: Callable[[str], str]) -> None:
    """A document is bound to its session's service, whoever has bound its class last."""
    async with Federation({"inventory": fresh_database("mongodb")}) as other:
        await other.create_all()
        async with shop.session() as here, other.session() as there:
            here.add(Product(sku="here", price=1))
            there.add(Product(sku="there", price=2))
            await here.commit()
            await there.commit()
            assert [one.sku for one in await here.find(Product, Product.price > 0).to_list()] == ["here"]
        assert [await stored(shop), await stored(other)] == [{"here": 1}, {"there": 2}]


async def test_engine_options(postgresql_url: str) -> None:
    """A pool of one's own is taken; an option that the engine does not have is a mistake in the settings."""
    async with Federation({"users": {"url": postgresql_url, "options": {"poolclass": NullPool}}}) as fed:
        assert (await fed.health())["users"].state == "up"
    with pytest.raises(ConfigurationError, match=r"service 'users'.*pool_pre_pign"):
        await Federation({"users": {"url": postgresql_url, "options": {"pool_pre_pign": True}}}).open()


async def test_orphans_wants_a_federated_relationship(shop: Federation) -> None:
    """An ordinary one has a foreign key."""
    with pytest.raises(RelationshipError, match=r"Order\.items"):
        await shop.orphans(Order.items)


# -- cancelling


async def of_everything(session: AsyncFederatedSession) -> set[str]:
    """The services that have something."""
    tables = {"users": User, "orders": Order, "payments": Payment}
    found = {name for name, model in tables.items() if await session.scalar(select(func.count()).select_from(model))}
    return found | ({"inventory"} if await session.find(Product).count() else set())


EVERYTHING = {"users", "orders", "payments", "inventory"}


def fill(session: AsyncFederatedSession) -> None:
    session.add_all([User(id=1, email="x"), Order(id=1, user_id=1), Payment(order_id=1, amount=1)])
    session.add(Product(sku="a", price=1))


async def test_cancelling_between_the_commits_of_two_services(shop: Federation, monkeypatch: Any) -> None:
    """Once one service has been told to commit, the others follow; then the cancellation is raised."""
    commit = MongoDBStore.commit

    async def slowly(self: MongoDBStore, transaction: Any) -> None:
        await commit(self, transaction)
        asyncio.get_running_loop().call_soon(committing.cancel)
        await asyncio.sleep(0.01)

    monkeypatch.setattr(MongoDBStore, "commit", slowly)
    async with shop.session() as session:
        fill(session)
        committing = asyncio.create_task(session.commit())
        with pytest.raises(asyncio.CancelledError):
            await committing
        assert await of_everything(session) == EVERYTHING


async def test_cancelling_a_commit_at_any_moment(shop: Federation) -> None:
    """All services have it or none has, and no connection stays in use."""
    for milliseconds in (1, 2, 3, 4, 5, 6, 8, 12):
        async with shop.session() as session:
            fill(session)
            try:
                async with asyncio.timeout(milliseconds / 1000):
                    await session.commit()
            except TimeoutError:
                await session.rollback()
            found = await of_everything(session)
            assert found in (set(), EVERYTHING)
            if found:
                for model in (User, Order, Payment):
                    await session.delete((await session.scalars(select(model))).one())
                await session.find(Product).delete()
                await session.commit()
    assert [shop.stores[name].engine.pool.checkedout() for name in ("users", "orders", "payments")] == [0, 0, 0]  # type: ignore[attr-defined]


@pytest.mark.clickhouse
async def test_cancelling_while_rows_are_sent_that_cannot_be_taken_back(fed: Federation) -> None:
    """The thread sends them to the end, and the error says who has what."""
    engine = fed.stores["analytics"].engine  # type: ignore[attr-defined]
    loop = asyncio.get_running_loop()

    @event.listens_for(engine, "before_cursor_execute")
    def cancel(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("INSERT"):
            loop.call_soon_threadsafe(committing.cancel)

    async with fed.session() as session:
        fill(session)
        session.add(Event(id=1, user_id=1, kind="x"))
        committing = asyncio.create_task(session.commit())
        with pytest.raises(PartialCommitError) as raised:
            await committing
        assert raised.value.committed == ["analytics"]
        await session.rollback()
        assert await of_everything(session) == set()
        assert (await session.scalars(select(Event.kind))).all() == ["x"]
