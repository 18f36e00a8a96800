"""Commits over several services, and what ClickHouse takes part in them."""

from __future__ import annotations

import asyncio
import datetime
import time
from typing import Any

import pytest
from sqlalchemy import event, func, insert, select, text
from sqlalchemy.exc import IntegrityError

from fedorm import (
    AsyncFederatedSession,
    Federation,
    PartialCommitError,
    StoreError,
    UnsupportedOperationError,
)
from fedorm.hydration import collector_paused
from fedorm.stores.mongodb import MongoDBStore
from tests.models import Event, Item, Order, Payment, Product, User
from tests.support import stored

AT = datetime.datetime(2026, 1, 1)


async def late_constraint(session: AsyncFederatedSession) -> None:
    """Make the users' database refuse a second user with one email, and that at the commit."""
    constraint = "ALTER TABLE users ADD CONSTRAINT late UNIQUE (email) DEFERRABLE INITIALLY DEFERRED"
    await session.execute(text(constraint), bind_arguments={"service": "users"})
    await session.commit()


async def test_partial_commit_names_both_sides(fed: Federation) -> None:
    """A database that fails at its commit, after others have committed: the error says who has what."""
    async with fed.session() as session:
        await late_constraint(session)
        session.add_all([User(id=1, email="x"), User(id=2, email="x")])
        session.add_all([Payment(order_id=1, amount=1), Product(sku="a", price=1)])
        with pytest.raises(PartialCommitError, match="late") as raised:
            await session.commit()
        assert (raised.value.committed, raised.value.failed) == (["inventory", "payments"], ["users"])
        session.add(User(id=2, email="after"))
        await session.commit()
        assert (await session.scalars(select(User.id).order_by(User.id))).all() == [2]
        assert len((await session.scalars(select(Payment))).all()) == 1
    assert await stored(fed) == {"a": 1}


async def test_a_service_that_goes_away_at_its_commit_is_unknown(fed: Federation) -> None:
    """Whether it has committed nobody has said; the others roll back, and the session is usable again."""
    async with fed.session() as session, fed.session() as killer:
        session.add_all([User(id=1, email="x"), Payment(order_id=1, amount=1), Order(id=1, user_id=1)])
        await session.flush()
        orders = {"bind_arguments": {"service": "orders"}}
        process = await session.scalar(text("SELECT pg_backend_pid()"), **orders)
        await killer.execute(text("SELECT pg_terminate_backend(:process)"), {"process": process}, **orders)
        await asyncio.sleep(0.1)
        with pytest.raises(PartialCommitError, match="is unknown in orders") as raised:
            await session.commit()
        assert (raised.value.committed, raised.value.unknown) == ([], ["orders"])
        assert raised.value.failed == ["payments", "users"]
        session.add(User(id=1, email="again"))
        await session.commit()
        assert (await session.scalars(select(User.email))).all() == ["again"]
        assert (await session.scalars(select(Payment))).all() == []


async def test_documents_commit_first(fed: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is likeliest to refuse at its commit is asked first: then nothing is kept anywhere."""

    async def refuse(self: MongoDBStore, transaction: Any) -> None:
        await MongoDBStore.abort(self, transaction)
        raise ConnectionError("the cable is cut")

    async with fed.session() as session:
        session.add_all([User(id=1, email="x"), Payment(order_id=1, amount=1), Product(sku="a", price=1)])
        with monkeypatch.context() as patched:
            patched.setattr(MongoDBStore, "commit", refuse)
            with pytest.raises(ConnectionError):
                await session.commit()
        await session.rollback()
        assert (await session.scalars(select(User))).all() == []
        assert (await session.scalars(select(Payment))).all() == []
    assert await stored(fed) == {}


# -- ClickHouse


@pytest.mark.clickhouse
async def test_clickhouse_rows_go_out_in_one_block(fed: Federation) -> None:
    """10,000 objects are one INSERT, sent by the commit and not before."""
    sent: list[int] = []
    engine = fed.stores["analytics"].engine  # type: ignore[attr-defined]
    event.listen(engine, "before_cursor_execute", lambda c, cur, s, params, ctx, many: sent.append(len(params)))
    async with fed.session() as session:
        session.add_all([Event(id=n, user_id=n, kind="click") for n in range(10_000)])
        await session.flush()
        assert sent == []
        await session.commit()
        assert sent == [10_000]
        assert (await session.scalar(select(func.count()).select_from(Event))) == 10_000


@pytest.mark.clickhouse
async def test_clickhouse_rows_of_a_failed_commit_are_not_sent(fed: Federation) -> None:
    """They wait until all other services have taken theirs."""
    async with fed.session() as session:
        session.add_all([Event(id=1, user_id=1, kind="x"), User(id=1, email="x"), Product(sku="a", price=1)])
        session.add(Item(id=1, order_id=999, sku="x"))  # no such order
        with pytest.raises(IntegrityError):
            await session.commit()
        await session.rollback()
        assert (await session.scalars(select(Event))).all() == []


@pytest.mark.clickhouse
async def test_clickhouse_rows_before_a_failing_commit(fed: Federation) -> None:
    """They are sent before the others commit and cannot be taken back: the error says so."""
    async with fed.session() as session:
        await late_constraint(session)
        session.add_all([Event(id=1, user_id=1, kind="x"), User(id=1, email="x"), User(id=2, email="x")])
        with pytest.raises(PartialCommitError, match=r"holds in analytics but failed in users"):
            await session.commit()
        assert (await session.scalars(select(Event.kind))).all() == ["x"]
        assert (await session.scalars(select(User))).all() == []


@pytest.mark.clickhouse
async def test_a_bulk_insert_with_none_in_it_is_one_block(fed: Federation) -> None:
    """Rows with and without a value go out together, in the order they came in."""
    rows = [{"id": n, "user_id": n, "kind": "x", "at": None if n % 2 else AT} for n in range(1000)]
    sent: list[int] = []
    engine = fed.stores["analytics"].engine  # type: ignore[attr-defined]
    event.listen(engine, "before_cursor_execute", lambda c, cur, s, params, ctx, many: sent.append(len(params)))
    async with fed.session() as session:
        await session.execute(insert(Event), rows)
        assert sent == [1000]
        assert (await session.scalar(select(func.count(Event.at)))) == 500


@pytest.mark.clickhouse
async def test_clickhouse_cannot_take_its_rows(fed: Federation) -> None:
    """It gets them before anything is committed: nothing is kept anywhere."""
    async with fed.session() as session:
        session.add_all([User(id=1, email="x"), Event(id=1, user_id=1, kind="x"), Product(sku="a", price=1)])
        await session.execute(text("DROP TABLE events"), bind_arguments={"service": "analytics"})
        with pytest.raises(StoreError, match="service 'analytics'"):
            await session.commit()
        await session.rollback()
        assert (await session.scalars(select(User))).all() == []
    assert await stored(fed) == {}


@pytest.mark.clickhouse
async def test_clickhouse_rows_cannot_be_changed(session: AsyncFederatedSession) -> None:
    """The error says what the store cannot do."""
    session.add(Event(id=1, user_id=1, kind="x"))
    await session.commit()
    found = (await session.scalars(select(Event))).one()
    found.kind = "y"
    with pytest.raises(UnsupportedOperationError, match="can only be appended to"):
        await session.commit()
    await session.rollback()


@pytest.mark.clickhouse
async def test_the_loop_goes_on_while_a_blocking_driver_reads(fed: Federation) -> None:
    """100,000 rows over ClickHouse's native driver: the event loop keeps turning all the while."""
    async with fed.session() as session:
        rows = [{"id": n, "user_id": n, "kind": "k" * 20} for n in range(100_000)]
        await session.execute(insert(Event), rows)
        await session.commit()
        pauses: list[float] = []

        async def beat() -> None:
            last = time.perf_counter()
            while True:
                await asyncio.sleep(0.001)
                now = time.perf_counter()
                pauses.append(now - last)
                last = now

        del rows
        heart = asyncio.create_task(beat())
        # Its full runs hold up the loop, too, the longer the more objects all the tests have left.
        with collector_paused():
            started = time.perf_counter()
            result = await session.stream(select(Event.id, Event.kind).execution_options(yield_per=5000))
            count = 0
            async for part in result.partitions():
                count += len(part)
            took = time.perf_counter() - started
        heart.cancel()
    print(f"\n100,000 rows in {took * 1000:.0f} ms, worst pause {max(pauses) * 1000:.0f} ms")
    assert count == 100_000
    # A blocked loop would beat once: its pause would be all of the time that reading took.
    assert len(pauses) > 10
    assert max(pauses) < took / 2
