"""Objects and columns of two databases, against one database and against code by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy import ARRAY, Integer, any_, insert, literal, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import selectinload

from benchmarks.measure import Pair, pair
from benchmarks.models import OneBase, OneOrder, OneUser, Order, TwoOrder, TwoUser, User
from fedorm import Federation, federated_load
from fedorm.testing.servers import PostgreSQLServer

ORDERS, USERS = 20_000, 5_000


@dataclass(frozen=True)
class Bench:
    """A federation of two PostgreSQL databases, the same rows in a third one, and plain ways to all three."""

    fed: Federation
    one: AsyncEngine
    users: AsyncEngine
    orders: AsyncEngine
    raw_users: asyncpg.Connection
    raw_orders: asyncpg.Connection


def rows() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the users and the orders."""
    users = [{"id": n, "email": f"user{n}@example.com", "country": ("DE", "FR", "US")[n % 3]} for n in range(USERS)]
    orders = [{"id": n, "user_id": n * 7 % USERS, "status": "paid", "total": n % 1000} for n in range(ORDERS)]
    return users, orders


@asynccontextmanager
async def opened(server: PostgreSQLServer) -> AsyncIterator[Bench]:
    """Make the databases and fill them."""
    for name in ("users", "orders", "single"):
        server.create_database(name)
    users, orders = rows()
    async with AsyncExitStack() as stack:
        services = {"users": server.url("users"), "orders": server.url("orders")}
        fed = await stack.enter_async_context(Federation(services))
        await fed.create_all()
        engines = {name: create_async_engine(server.url(name)) for name in ("single", "users", "orders")}
        for engine in engines.values():
            stack.push_async_callback(engine.dispose)
        async with engines["single"].begin() as connection:
            await connection.run_sync(OneBase.metadata.create_all)
            await connection.execute(insert(OneUser), users)
            await connection.execute(insert(OneOrder), orders)
        async with fed.session() as session:
            await session.execute(insert(User), users)
            await session.execute(insert(Order), orders)
            await session.commit()
        raw = {}
        for name, url in services.items():
            raw[name] = await asyncpg.connect(url.replace("+asyncpg", ""))
            stack.push_async_callback(raw[name].close)
        for name in ("single", "users", "orders"):
            vacuum = await asyncpg.connect(server.url(name).replace("+asyncpg", ""))
            await vacuum.execute("VACUUM ANALYZE")
            await vacuum.close()
        yield Bench(fed, engines["single"], engines["users"], engines["orders"], raw["users"], raw["orders"])


async def objects_against_one_database(bench: Bench, rounds: int) -> Pair:
    """``federated_load`` over two databases and ``selectinload`` inside one."""

    async def federated() -> None:
        async with bench.fed.session() as session:
            orders = (await session.scalars(select(Order).options(federated_load(Order.user)))).all()
            assert len(orders) == ORDERS
            assert orders[-1].user.id == orders[-1].user_id

    async def inside_one() -> None:
        async with AsyncSession(bench.one) as session:
            orders = (await session.scalars(select(OneOrder).options(selectinload(OneOrder.user)))).all()
            assert len(orders) == ORDERS
            assert orders[-1].user.id == orders[-1].user_id

    return await pair(federated, inside_one, rounds=rounds)


def _two_binds(bench: Bench) -> AsyncSession:
    return AsyncSession(binds={TwoUser: bench.users, TwoOrder: bench.orders})


async def objects_against_two_binds(bench: Bench, rounds: int) -> Pair:
    """``federated_load`` and ``selectinload`` of a ``relationship()`` whose sides have two binds: many-to-one."""

    async def federated() -> None:
        async with bench.fed.session() as session:
            orders = (await session.scalars(select(Order).options(federated_load(Order.user)))).all()
            assert orders[-1].user.id == orders[-1].user_id

    async def two_binds() -> None:
        async with _two_binds(bench) as session:
            orders = (await session.scalars(select(TwoOrder).options(selectinload(TwoOrder.user)))).all()
            assert orders[-1].user.id == orders[-1].user_id

    return await pair(federated, two_binds, rounds=rounds)


async def collections_against_two_binds(bench: Bench, rounds: int) -> Pair:
    """The same from the other side: each user's list of orders."""

    async def federated() -> None:
        async with bench.fed.session() as session:
            users = (await session.scalars(select(User).options(federated_load(User.orders)))).all()
            assert sum(len(user.orders) for user in users) == ORDERS

    async def two_binds() -> None:
        async with _two_binds(bench) as session:
            users = (await session.scalars(select(TwoUser).options(selectinload(TwoUser.orders)))).all()
            assert sum(len(user.orders) for user in users) == ORDERS

    return await pair(federated, two_binds, rounds=rounds)


async def columns_against_asyncpg(bench: Bench, rounds: int) -> Pair:
    """Columns through the federated session, and through asyncpg alone; both are joined in a dictionary."""

    async def federated() -> None:
        async with bench.fed.session() as session:
            orders = (await session.execute(select(Order.id, Order.user_id, Order.total))).all()
            keys = literal(list({user for _, user, _ in orders}), ARRAY(Integer))
            wanted = select(User.id, User.email).where(User.id == any_(keys))
            users: Any = (await session.execute(wanted)).all()
            emails: dict[int, str] = dict(users)
            joined = [(number, total, emails[user]) for number, user, total in orders]
            assert len(joined) == ORDERS

    async def by_hand() -> None:
        orders = await bench.raw_orders.fetch("SELECT id, user_id, total FROM orders")
        keys = list({user for _, user, _ in orders})
        users = await bench.raw_users.fetch("SELECT id, email FROM users WHERE id = ANY($1)", keys)
        emails = dict(users)
        joined = [(number, total, emails[user]) for number, user, total in orders]
        assert len(joined) == ORDERS

    return await pair(federated, by_hand, rounds=rounds)


async def one_service(bench: Bench, limit: int, rounds: int, repeat: int) -> Pair:
    """``repeat`` times a select of ``limit`` rows through the federated session, and through a plain one."""
    wanted, plain = select(Order).where(Order.id < limit), select(OneOrder).where(OneOrder.id < limit)

    async def federated() -> None:
        for _ in range(repeat):
            async with bench.fed.session() as session:
                assert len((await session.scalars(wanted)).all()) == limit

    async def alone() -> None:
        for _ in range(repeat):
            async with AsyncSession(bench.one) as session:
                assert len((await session.scalars(plain)).all()) == limit

    return await pair(federated, alone, rounds=rounds)
