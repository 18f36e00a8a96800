"""A commit drops what was read from the tables it changed, and a session never takes others' rows for its own."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.util import greenlet_spawn

from fedorm import AsyncFederatedSession, Federation
from fedorm.catalog import SERVICE
from tests.models import Event, Item, Order, Payment, Product, Review, User, wishes
from tests.test_cache import CACHED, ask, sent, shop

__all__ = ["shop"]

Change = Callable[[AsyncFederatedSession], Awaitable[Any]]


async def by_flush(session: AsyncFederatedSession) -> None:
    (await session.get_one(User, 1)).email = "changed"


async def by_delete(session: AsyncFederatedSession) -> None:
    await session.delete(await session.get_one(User, 1))


async def by_add(session: AsyncFederatedSession) -> None:
    session.add(User(id=3, email="new"))


async def by_bulk_insert(session: AsyncFederatedSession) -> None:
    await session.execute(insert(User), [{"id": 3, "email": "new"}, {"id": 4, "email": "newer"}])


async def by_core_insert(session: AsyncFederatedSession) -> None:
    await session.execute(insert(User.__table__).values(id=3, email="new", country="X"))


async def by_upsert(session: AsyncFederatedSession) -> None:
    upsert = postgresql.insert(User).values(id=1, email="changed", country="DE")
    await session.execute(upsert.on_conflict_do_update(index_elements=["id"], set_={"email": "changed"}))


async def by_orm_update(session: AsyncFederatedSession) -> None:
    await session.execute(update(User).where(User.id == 1).values(email="changed"))


async def by_bulk_update(session: AsyncFederatedSession) -> None:
    await session.execute(update(User), [{"id": 1, "email": "changed"}])


async def by_core_delete(session: AsyncFederatedSession) -> None:
    await session.execute(delete(User.__table__).where(User.__table__.c.id == bindparam("which")), {"which": 1})


async def by_cte(session: AsyncFederatedSession) -> None:
    gone = delete(User).where(User.id == 1).returning(User.id).cte("gone")
    await session.execute(select(func.count()).select_from(gone))


async def by_text(session: AsyncFederatedSession) -> None:
    await session.execute(text("UPDATE users SET email = 'changed' WHERE id = 1"), bind_arguments={"service": "users"})


async def by_text_insert(session: AsyncFederatedSession) -> None:
    sql = text("INSERT INTO users (id, email, country) SELECT 3, 'new', 'DE'")
    await session.execute(sql, bind_arguments={"service": "users"})


async def by_procedure(session: AsyncFederatedSession) -> None:
    sql = text("DO $$ BEGIN UPDATE users SET email = 'changed' WHERE id = 1; END $$")
    await session.execute(sql, bind_arguments={"service": "users"})


async def by_driver(session: AsyncFederatedSession) -> None:
    connection = await session.connection(bind_arguments={"service": "users"})
    await connection.exec_driver_sql("UPDATE users SET email = 'changed' WHERE id = 1")


CHANGES: list[Change] = [
    by_flush, by_delete, by_add, by_bulk_insert, by_core_insert, by_upsert, by_orm_update, by_bulk_update,
    by_core_delete, by_cte, by_text, by_text_insert, by_procedure, by_driver,
]  # fmt: skip

READS = [
    select(User.id, User.email).order_by(User.id),
    text("select id, email from users.users order by id"),
    select(User.id, User.email, Order.total).outerjoin(Order, Order.user_id == User.id).order_by(User.id),
    text("select id, email from users order by id").columns(User.id, User.email),
    select(literal_column("(select count(*) from users)"), User.id, User.email).order_by(User.id),
]


async def read_all(fed: Federation) -> list[list[Any]]:
    found = []
    for statement in READS:
        async with fed.session() as session:
            arguments = {"service": "users"} if statement is READS[3] else {}
            result = await session.execute(statement, bind_arguments=arguments, execution_options=CACHED)
            found.append([tuple(row) for row in result])
    return found


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_a_commit_drops_what_it_changed(shop: Federation, change: Change) -> None:
    """Whatever way a row is changed; until the commit, and after a rollback, the others' results stay."""
    before = await read_all(shop)
    async with shop.session() as session:
        await change(session)
        await session.flush()
        with sent(shop, "users", "orders") as others:
            assert await read_all(shop) == before
        assert others == [0, 0]
        own = {tuple(row)[:2] for row in await session.execute(READS[0], execution_options=CACHED)}
        assert own != set(before[0])
        await session.rollback()
    assert await read_all(shop) == before
    async with shop.session() as session:
        await change(session)
        await session.commit()
    after = await read_all(shop)
    assert [
        {row[:2] if len(row) < 3 or reading == 2 else row[1:] for row in rows} for reading, rows in enumerate(after)
    ] == [own] * 5
    assert await read_all(shop) == after


async def test_other_tables_stay(shop: Federation) -> None:
    """A commit drops what was read from its tables, and no more."""
    orders, users = select(Order.id), select(User.id)
    await ask(shop, orders), await ask(shop, users)
    async with shop.session() as session:
        session.add(Item(id=1, order_id=1, sku="a"))
        await session.commit()
    with sent(shop, "orders", "users") as counts:
        await ask(shop, orders), await ask(shop, users)
    assert counts == [0, 0]


async def test_text_of_unknown_tables_drops_all_of_its_service(shop: Federation) -> None:
    """Of its own service everything, of others nothing."""
    await ask(shop, select(Order.id)), await ask(shop, select(User.id))
    async with shop.session() as session:
        await session.execute(text("TRUNCATE items"), bind_arguments={"service": "orders"})
        await session.commit()
    with sent(shop, "orders", "users") as counts:
        await ask(shop, select(Order.id)), await ask(shop, select(User.id))
    assert counts == [1, 0]


async def test_what_the_database_deletes_itself(tmp_path: Path) -> None:
    """ON DELETE CASCADE reaches tables that the statement does not name."""
    metadata = MetaData(info={SERVICE: "tree"})
    parent = Table("parent", metadata, Column("id", Integer, primary_key=True))
    child = Table("child", metadata, Column("id", ForeignKey("parent.id", ondelete="CASCADE"), primary_key=True))
    leaf = Table("leaf", metadata, Column("id", ForeignKey("child.id", ondelete="CASCADE")), Column("x", String(9)))
    async with Federation({"tree": f"sqlite+aiosqlite:///{tmp_path / 'tree.db'}"}) as fed:
        engine = fed.stores["tree"].engine  # type: ignore[attr-defined]
        await greenlet_spawn(metadata.create_all, engine)
        async with fed.session() as session:
            for table in (parent, child, leaf):
                await session.execute(insert(table).values(id=1))
            await session.commit()
        assert await ask(fed, select(leaf.c.id)) == [(1,)]
        async with fed.session() as session:
            await session.execute(text("PRAGMA foreign_keys = ON"), bind_arguments={"service": "tree"})
            await session.commit()
            await session.execute(delete(parent))
            await session.commit()
        with sent(fed, "tree") as counts:
            await ask(fed, select(leaf.c.id))
        assert counts == [1]


async def test_association_rows(shop: Federation) -> None:
    """A table without a model is like any other."""
    statement = select(wishes.c.sku)
    assert await ask(shop, statement) == []
    async with shop.session() as session:
        await session.execute(insert(wishes).values(user_id=1, sku="a"))
        await session.commit()
    assert await ask(shop, statement) == [("a",)]


async def test_core_without_a_session(shop: Federation) -> None:
    """What goes by a store's engine is noticed, too."""
    statement = select(User.email).where(User.id == 1)
    assert await ask(shop, statement) == [("ada",)]

    def change() -> None:
        with shop.stores["users"].engine.begin() as connection:  # type: ignore[attr-defined]
            connection.execute(update(User).where(User.id == 1).values(email="changed"))

    await greenlet_spawn(change)
    assert await ask(shop, statement) == [("changed",)]


async def test_autocommit(shop: Federation) -> None:
    """There a change is for all to see when it is made."""
    statement = select(User.email).where(User.id == 1)
    assert await ask(shop, statement) == [("ada",)]
    async with shop.session() as session:
        arguments = {"service": "users"}
        await session.connection(bind_arguments=arguments, execution_options={"isolation_level": "AUTOCOMMIT"})
        await session.execute(update(User).where(User.id == 1).values(email="changed"))
        assert await ask(shop, statement) == [("changed",)]


async def test_documents_flushed_and_changed_in_bulk(shop: Federation) -> None:
    """A document's collection is a table, whether documents are flushed or changed by a query."""
    statement = select(Product.c.sku, Product.c.price).order_by(Product.c.sku)
    reviews = select(Review.c.stars)
    assert await ask(shop, statement) == [("a", 1.5), ("b", 2.5)]
    await ask(shop, reviews)
    async with shop.session() as session:
        session.add(Product(sku="c", price=3.5))
        await session.commit()
    assert await ask(shop, statement) == [("a", 1.5), ("b", 2.5), ("c", 3.5)]
    async with shop.session() as session:
        product = await session.find(Product, Product.sku == "c").first_or_none()
        product.price = 4.5
        await session.flush()
        assert [tuple(row) for row in await session.execute(statement, execution_options=CACHED)][2] == ("c", 4.5)
        assert (await ask(shop, statement))[2] == ("c", 3.5)
        await session.commit()
    assert (await ask(shop, statement))[2] == ("c", 4.5)
    async with shop.session() as session:
        await session.find(Product, Product.sku == "a").update({"$set": {"price": 9.0}})
        assert (await ask(shop, statement))[0] == ("a", 1.5)
        await session.commit()
    assert (await ask(shop, statement))[0] == ("a", 9.0)
    async with shop.session() as session:
        await session.find(Product, Product.sku == "a").delete()
        await session.commit()
    assert await ask(shop, statement) == [("b", 2.5), ("c", 4.5)]
    with sent(shop, "inventory") as counts:
        await ask(shop, reviews)
    assert counts == [0]


@pytest.mark.clickhouse
async def test_rows_released_at_the_commit(shop: Federation) -> None:
    """Rows for ClickHouse, held back or sent at once, drop what was read there."""
    statement, both = select(Event.id).order_by(Event.id), select(Event.id).join(User, User.id == Event.user_id)
    assert await ask(shop, statement) == await ask(shop, both) == []
    async with shop.session() as session:
        session.add(Event(id=1, user_id=1, kind="x", at=datetime.datetime(2026, 1, 1)))
        assert await ask(shop, statement) == []
        await session.commit()
    assert await ask(shop, statement) == await ask(shop, both) == [(1,)]
    async with shop.session() as session:
        await session.execute(insert(Event), [{"id": 2, "user_id": 1, "kind": "y", "at": None}])
        assert await ask(shop, statement) == [(1,), (2,)]


async def test_rows_read_before_a_commit_are_not_kept_after_it(shop: Federation) -> None:
    """The statement has begun before the commit and ends after it, with the old rows."""
    statement = select(User.email, literal_column("pg_sleep(0.6) is null")).where(User.id == 1)
    watching = text(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(0.6)%' AND wait_event = 'PgSleep'"
    )

    async def read() -> Any:
        return (await ask(shop, statement))[0][0]

    slow = asyncio.create_task(read())
    async with shop.session() as session:
        while not await session.scalar(watching, bind_arguments={"service": "users"}):
            await session.rollback()
        await session.rollback()
        (await session.get_one(User, 1)).email = "changed"
        await session.commit()
        after = asyncio.create_task(read())
    assert await slow == "ada"
    assert await after == "changed"
    assert await read() == "changed"


async def test_a_snapshot_older_than_a_commit_is_not_kept(shop: Federation) -> None:
    """MySQL's transactions go on reading what was there when they began."""
    statement = select(Payment.amount)
    both = select(Payment.amount, User.id).join(User, User.id == Payment.order_id)
    async with shop.session() as session:
        session.add(Payment(order_id=1, amount=Decimal(1)))
        await session.commit()
    async with shop.session() as old:
        await old.execute(select(Payment.order_id))
        async with shop.session() as session:
            await session.execute(update(Payment).values(amount=2))
            await session.commit()
        assert (await old.scalars(statement, execution_options=CACHED)).all() == [1]
        assert (await old.scalars(both, execution_options=CACHED)).all() == [1]
        assert await ask(shop, statement) == [(Decimal(2),)]
        assert await ask(shop, both) == [(Decimal(2), 1)]


async def test_own_changes_of_other_tables_do_not_matter(shop: Federation) -> None:
    """A session with changes takes from the cache what they do not touch."""
    await ask(shop, select(User.id))
    async with shop.session() as session:
        session.add(Order(id=9, user_id=1))
        await session.flush()
        with sent(shop, "users") as counts:
            await session.execute(select(User.id), execution_options=CACHED)
        assert counts == [0]


async def test_forgetting_by_hand(shop: Federation) -> None:
    """For changes that fedorm does not see."""
    statements = [select(User.id), select(Order.id), select(Product.c.sku)]
    for statement in statements:
        await ask(shop, statement)

    async def asked() -> list[int]:
        with sent(shop, "users", "orders", "inventory") as counts:
            for statement in statements:
                await ask(shop, statement)
        return counts

    assert await asked() == [0, 0, 0]
    await shop.forget(User, Product)
    assert await asked() == [1, 0, 1]
    await shop.forget("orders.orders", User.__table__)
    assert await asked() == [1, 1, 0]
    await shop.forget()
    assert await asked() == [1, 1, 1]
