"""The session: SQLAlchemy's own ways, documents in the unit of work, and commits over services."""

from __future__ import annotations

import asyncio
import datetime
import time
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import delete, event, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import Session

from fedorm import (
    AsyncFederatedSession,
    CrossServiceStatementError,
    DocumentValidationError,
    DuplicateKeyError,
    Federation,
    PartialCommitError,
    StaleDocumentError,
    StoreError,
    UnknownServiceError,
    UnroutedStatementError,
    UnsupportedOperationError,
    federated_load,
)
from fedorm.hydration import collector_paused
from fedorm.stores.mongodb import MongoDBStore
from tests.models import Event, Item, Order, Payment, Product, Supplier, User, user_tags

AT = datetime.datetime(2026, 1, 1)


async def stored(fed: Federation, model: Any = Product) -> dict[str, Any]:
    """What a fresh session finds."""
    async with fed.session() as session:
        return {document.sku: document.price for document in await session.find(model).to_list()}


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


async def test_a_statement_over_two_services_is_refused(session: AsyncFederatedSession) -> None:
    """It names both services before anything is sent."""
    with pytest.raises(CrossServiceStatementError) as raised:
        await session.execute(select(User.id).join(Order, Order.user_id == User.id))
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


# -- documents


async def test_documents_add_get_delete(fed: Federation) -> None:
    """A document is the same object wherever the session meets it."""
    async with fed.session() as session:
        product = Product(sku="a", price=1)
        session.add(product)
        assert product in session
        assert product in session.new
        await session.commit()
        assert await session.get(Product, product.id) is product
        assert await session.get(Product, str(product.id)) is product
        assert await session.find(Product, Product.sku == "a").first_or_none() is product
        await session.delete(product)
        assert product in session.deleted
        await session.commit()
        assert product not in session
        assert await session.get(Product, product.id) is None
    assert await stored(fed) == {}


async def test_documents_change_tracking(fed: Federation) -> None:
    """A changed field is written at commit, also one changed in place; what did not change is not."""
    async with fed.session() as session:
        session.add_all([Product(sku="a", price=1), Product(sku="b", price=1)])
        await session.commit()
    async with fed.session() as session:
        first, second = await session.find(Product).sort("sku").to_list()
        first.price = 5
        second.labels.append("new")
        assert list(session.dirty) == [first]
        await session.commit()
    async with fed.session() as session:
        first, second = await session.find(Product).sort("sku").to_list()
        assert (first.price, first.labels, second.price, second.labels) == (5, [], 1, ["new"])


async def test_only_changed_fields_are_written(fed: Federation) -> None:
    """Two sessions that change different fields of a document keep both changes."""
    async with fed.session() as session:
        session.add(Product(sku="a", price=1))
        await session.commit()
    async with fed.session() as one, fed.session() as two:
        mine, yours = [await s.find(Product).first_or_none() for s in (one, two)]
        mine.price = 7
        yours.labels = ["x"]
        await one.commit()
        await two.commit()
    async with fed.session() as session:
        product = await session.find(Product).first_or_none()
        assert (product.price, product.labels) == (7, ["x"])


async def test_autoflush_before_a_query(session: AsyncFederatedSession) -> None:
    """A query sees what is pending, and nobody else does before the commit."""
    session.add(Product(sku="a", price=1))
    assert await session.find(Product, Product.price > 0).count() == 1


async def test_rollback_restores_documents(fed: Federation) -> None:
    """New ones leave, deleted ones come back, changed ones have their old values; the database never saw any."""
    async with fed.session() as session:
        changed, deleted = Product(sku="changed", price=1), Product(sku="deleted", price=1)
        session.add_all([changed, deleted])
        await session.commit()
        changed.price = 9
        changed.labels.append("no")
        await session.delete(deleted)
        new = Product(sku="new", price=1)
        session.add(new)
        await session.flush()
        await session.rollback()
        assert (changed.price, changed.labels) == (1, [])
        assert (deleted in session, new in session) == (True, False)
        await session.commit()
    assert await stored(fed) == {"changed": 1, "deleted": 1}


async def test_a_failing_commit_writes_nothing_anywhere(fed: Federation) -> None:
    """An invalid document keeps rows and other documents from being written, too."""
    async with fed.session() as session:
        product = Product(sku="a", price=1)
        session.add_all([User(id=1, email="x"), Product(sku="b", price=1), product])
        product.price = "dear"  # type: ignore[assignment]
        with pytest.raises(DocumentValidationError, match=r"service 'inventory', document Product .*price") as raised:
            await session.commit()
        assert raised.value.model == "Product"
        await session.rollback()
    async with fed.session() as session:
        assert (await session.scalars(select(User))).all() == []
    assert await stored(fed) == {}


async def test_a_row_that_fails_keeps_documents_out(fed: Federation) -> None:
    """Rows are flushed first; documents and their transaction follow."""
    async with fed.session() as session:
        session.add_all([User(id=1, email="x"), Product(sku="a", price=1)])
        await session.commit()
    async with fed.session() as session:
        session.add_all([User(id=1, email="twice"), Product(sku="b", price=1)])
        with pytest.raises(IntegrityError):
            await session.commit()
        await session.rollback()
    assert await stored(fed) == {"a": 1}


async def test_duplicate_document_keys(fed: Federation) -> None:
    """The error is of fedorm's hierarchy and names the service."""
    async with fed.session() as session:
        product = Product(sku="a", price=1)
        session.add(product)
        await session.commit()
    async with fed.session() as session:
        session.add_all([User(id=5, email="x"), Product(id=product.id, sku="b", price=1)])
        with pytest.raises(DuplicateKeyError, match="service 'inventory'"):
            await session.commit()
        await session.rollback()
    async with fed.session() as session:
        assert (await session.scalars(select(User))).all() == []
    assert await stored(fed) == {"a": 1}


async def test_stale_documents(fed: Federation) -> None:
    """Changing a document that somebody has deleted is an error, not silence."""
    async with fed.session() as one, fed.session() as two:
        one.add(Product(sku="a", price=1))
        await one.commit()
        mine, yours = [await s.find(Product).first_or_none() for s in (one, two)]
        await one.delete(mine)
        await one.commit()
        yours.price = 3
        with pytest.raises(StaleDocumentError, match="service 'inventory'"):
            await two.commit()
        await two.rollback()


async def test_bulk_changes_of_documents_roll_back(fed: Federation) -> None:
    """A Beanie update or delete runs in the session's transaction."""
    async with fed.session() as session:
        session.add_all([Product(sku=str(n), price=n) for n in range(4)])
        await session.commit()
        await session.find(Product, Product.price > 1).update({"$set": {"price": 50}})
        assert sorted(p.price for p in await session.find(Product).to_list()) == [0, 1, 50, 50]
        await session.find(Product, Product.price == 0).delete()
        assert await session.find(Product).count() == 3
        await session.rollback()
    assert await stored(fed) == {"0": 0, "1": 1, "2": 2, "3": 3}


async def test_two_mongo_services_at_once(fed: Federation) -> None:
    """Documents of two services, each in its own database."""
    async with fed.session() as session:
        supplier = Supplier(name="s")
        session.add_all([supplier, Product(sku="a", price=1, supplier_id=supplier.id)])
        await session.commit()
        store = fed.stores["inventory"]
        assert isinstance(store, MongoDBStore)
        names = await store.collection(Product, sync=False).database.list_collection_names()
        assert "suppliers" not in names


async def test_merge_and_expunge_documents(fed: Federation) -> None:
    """merge() copies onto the session's own; expunge() lets go."""
    async with fed.session() as session:
        product = Product(sku="a", price=1)
        session.add(product)
        await session.commit()
        session.expunge(product)
        assert product not in session
        product.price = 4
        merged = await session.merge(product)
        assert merged is not product
        await session.commit()
    assert await stored(fed) == {"a": 4}


async def test_a_document_has_one_session(fed: Federation) -> None:
    """As with rows, a document cannot be in two sessions."""
    async with fed.session() as one, fed.session() as two:
        product = Product(sku="a", price=1)
        one.add(product)
        with pytest.raises(InvalidRequestError, match="already in another session"):
            two.add(product)


# -- commits over services


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
