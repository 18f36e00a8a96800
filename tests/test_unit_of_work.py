"""The documents' unit of work: against a plain dictionary, by random sequences, and where it once went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import deepcopy
from typing import Annotated, Any

import pytest
from beanie import Indexed, Insert, Update, before_event
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from pydantic import Field
from sqlalchemy import event, select

from fedorm import (
    AsyncFederatedSession,
    DuplicateKeyError,
    FederatedDocument,
    Federation,
    PartialCommitError,
    StaleDocumentError,
    StoreError,
    UnsupportedOperationError,
)
from tests.models import Product, User
from tests.support import stored


class Page(FederatedDocument):
    __service__ = "pages"
    id: int  # type: ignore[assignment]
    price: int
    labels: list[str] = []

    class Settings:
        name = "pages"


class Sheet(FederatedDocument):
    """The same with revisions, and with a None that is not stored."""

    __service__ = "pages"
    id: int  # type: ignore[assignment]
    price: int | None
    labels: list[str] = []

    class Settings:
        name = "sheets"
        use_revision = True
        keep_nulls = False


class Counter(FederatedDocument):
    """A field that the database calls otherwise, and hooks."""

    __service__ = "pages"
    id: int  # type: ignore[assignment]
    amount: Annotated[int, Field(alias="n")]
    code: Annotated[str | None, Indexed(unique=True, sparse=True)] = None
    log: list[str] = []

    class Settings:
        name = "counters"
        keep_nulls = False

    @before_event(Insert)
    def inserting(self) -> None:
        self.log.append("insert")

    @before_event(Update)
    async def updating(self) -> None:
        self.log.append("update")


class Vehicle(FederatedDocument):
    """The root of a hierarchy in one collection."""

    __service__ = "pages"
    wheels: int = 4

    class Settings:
        name = "vehicles"
        is_root = True


class Car(Vehicle):
    doors: int = 4


class Bus(Vehicle):
    seats: int = 50


# -- against a model -------------------------------------------------------------------------------

IDS = st.integers(1, 4)
VALUES = st.integers(0, 9)


class UnitOfWork(RuleBasedStateMachine):
    """What a session's user may do, beside a dictionary of what has to come out."""

    fed: Federation
    model: Any

    def __init__(self) -> None:
        super().__init__()
        self.session = self.fed.sync_session()
        self.session.find(self.model).delete()
        self.session.commit()
        self.stored: dict[int, Any] = {}
        self.now: dict[int, Any] = {}
        self.held: dict[int, Any] = {}
        self.savepoints: list[Any] = []

    def teardown(self) -> None:
        self.session.close()

    @rule(key=IDS, price=VALUES)
    def add(self, key: int, price: int) -> None:
        if key not in self.now:
            self.held[key] = self.model(id=key, price=price)
            self.session.add(self.held[key])
            self.now[key] = (price, [])

    @rule(key=IDS, price=VALUES)
    def assign(self, key: int, price: int) -> None:
        if key in self.held:
            self.held[key].price = price
            self.now[key] = (price, self.now[key][1])

    @rule(key=IDS)
    def change_in_place(self, key: int) -> None:
        if key in self.held:
            self.held[key].labels.append("x")
            self.now[key] = (self.now[key][0], [*self.now[key][1], "x"])

    @rule(key=IDS)
    def delete(self, key: int) -> None:
        if key in self.now:
            document = self.held.pop(key, None) or self.session.get(self.model, key)
            if document in self.session.new:
                self.session.expunge(document)
            else:
                self.session.delete(document)
            del self.now[key]

    @rule()
    def flush(self) -> None:
        self.session.flush()

    @rule(key=IDS)
    def get(self, key: int) -> None:
        found = self.session.get(self.model, key)
        assert (found is not None) is (key in self.now)
        if found is not None:
            assert self.held.setdefault(key, found) is found

    @precondition(lambda self: not self.savepoints)
    @rule()
    def find(self) -> None:
        found = {document.id: document for document in self.session.find(self.model)}
        assert found.keys() == self.now.keys()
        for key, document in found.items():
            assert self.held.setdefault(key, document) is document

    @precondition(lambda self: self.savepoints)
    @rule()
    def find_what_is_not_held_back(self) -> None:
        self.session.find(self.model).all()

    @rule(key=IDS, price=VALUES)
    def merge(self, key: int, price: int) -> None:
        self.held[key] = self.session.merge(self.model(id=key, price=price, labels=["m"]))
        self.now[key] = (price, ["m"])

    @precondition(lambda self: not self.savepoints)
    @rule(key=IDS)
    def refresh(self, key: int) -> None:
        if key in self.held:
            self.session.flush()
            self.session.refresh(self.held[key])

    @precondition(lambda self: not self.savepoints)
    @rule(key=IDS)
    def expunge(self, key: int) -> None:
        if key in self.held:
            self.session.flush()
            self.session.expunge(self.held.pop(key))

    @rule()
    def expire_all(self) -> None:
        self.session.expire_all()

    @precondition(lambda self: len(self.savepoints) < 3)
    @rule()
    def savepoint(self) -> None:
        self.savepoints.append((self.session.begin_nested(), deepcopy(self.now), dict(self.held)))

    @precondition(lambda self: self.savepoints)
    @rule()
    def release_savepoint(self) -> None:
        self.savepoints.pop()[0].commit()

    @precondition(lambda self: self.savepoints)
    @rule()
    def rollback_to_savepoint(self) -> None:
        savepoint, self.now, before = self.savepoints.pop()
        savepoint.rollback()
        self.held = self._still_held() | before

    @rule()
    def commit(self) -> None:
        self.session.commit()
        self.savepoints.clear()
        self.stored = deepcopy(self.now)
        with self.fed.sync_session() as other:
            found = {document.id: (document.price, document.labels) for document in other.find(self.model)}
        assert found == self.stored

    @rule()
    def rollback(self) -> None:
        self.session.rollback()
        self.savepoints.clear()
        self.now = deepcopy(self.stored)
        self.held = self._still_held()

    def _still_held(self) -> dict[int, Any]:
        return {key: one for key, one in self.held.items() if key in self.now and one in self.session}

    @invariant()
    def documents_are_as_expected(self) -> None:
        held = {key: (one.price, one.labels, one in self.session) for key, one in self.held.items()}
        assert held == {key: (*self.now[key], True) for key in self.held}


@pytest.mark.parametrize("model", [Page, Sheet])
def test_documents_are_held_like_a_dictionary(mongodb_url: str, model: Any) -> None:
    """Whatever is added, changed, deleted, read, undone and committed, and in whatever order."""
    fed = Federation({"pages": mongodb_url})

    async def prepare() -> None:
        async with fed:
            await fed.create_all()

    asyncio.run(prepare())
    with fed:
        case: Any = type("Case", (UnitOfWork,), {"fed": fed, "model": model})
        limits = settings(
            max_examples=120, stateful_step_count=25, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        run_state_machine_as_test(case, settings=limits)


# -- one by one ------------------------------------------------------------------------------------


@pytest.fixture
async def pages(fresh_database: Callable[[str], str], no_stray_tasks: None) -> Any:
    async with Federation({"pages": fresh_database("mongodb"), "users": fresh_database("postgresql")}) as fed:
        await fed.create_all()
        yield fed


async def test_a_change_in_place_after_the_commit_is_kept(session: AsyncFederatedSession, fed: Federation) -> None:
    """A document that is found again is read anew only if nothing of it was changed."""
    product = Product(sku="a", price=1)
    session.add(product)
    await session.commit()
    product.labels.append("new")
    assert [one.labels for one in await session.find(Product).to_list()] == [["new"]]
    await session.commit()
    async with fed.session() as other:
        assert [one.labels for one in await other.find(Product).to_list()] == [["new"]]


async def test_rollback_without_a_transaction(session: AsyncFederatedSession, fed: Federation) -> None:
    """An assignment begins none, and is undone all the same."""
    product = Product(sku="a", price=1)
    session.add(product)
    await session.commit()
    product.price = 9
    assert session.is_modified(product)
    await session.rollback()
    assert (product.price, session.is_modified(product)) == (1, False)


async def test_rolling_back_from_within_a_savepoint(session: AsyncFederatedSession, fed: Federation) -> None:
    """The savepoint does not bring back what the whole transaction has lost."""
    product = Product(sku="a", price=1)
    session.add(product)
    await session.begin_nested()
    await session.rollback()
    assert product not in session
    await session.commit()
    assert await stored(fed) == {}


@pytest.mark.clickhouse
async def test_rows_held_for_the_commit_are_gone_after_a_rollback_from_within_a_savepoint(
    session: AsyncFederatedSession,
) -> None:
    """The same for rows of a service without rollback."""
    from tests.models import Event

    session.add(Event(id=1, user_id=1, kind="x"))
    await session.begin_nested()
    await session.rollback()
    await session.commit()
    assert (await session.scalars(select(Event))).all() == []


async def test_a_document_read_in_a_savepoint_stays(session: AsyncFederatedSession, fed: Federation) -> None:
    """As with rows; what is changed afterwards is written."""
    session.add(Product(sku="a", price=1))
    await session.commit()
    session.expunge_all()
    async with session.begin_nested() as savepoint:
        product = await session.find(Product).first_or_none()
        product.price = 5
        await savepoint.rollback()
    assert (product in session, product.price) == (True, 1)
    product.price = 9
    await session.commit()
    assert await stored(fed) == {"a": 9}


async def test_what_others_wrote_survives_a_savepoint(session: AsyncFederatedSession, fed: Federation) -> None:
    """A document refreshed in a savepoint that is rolled back does not write its older values."""
    product = Product(sku="a", price=1)
    session.add(product)
    await session.commit()
    async with session.begin_nested() as savepoint:
        async with fed.session() as other:
            (await other.find(Product).first_or_none()).price = 5
            await other.commit()
        await session.refresh(product)
        await savepoint.rollback()
    await session.commit()
    assert await stored(fed) == {"a": 5}


async def test_bulk_changes_in_a_savepoint_are_refused(session: AsyncFederatedSession, fed: Federation) -> None:
    """MongoDB could not take them back with it."""
    session.add(Product(sku="a", price=1))
    await session.commit()
    async with session.begin_nested():
        with pytest.raises(UnsupportedOperationError, match=r"service 'inventory'.*no savepoints"):
            await session.find(Product).update({"$set": {"price": 7}})
    await session.commit()
    assert await stored(fed) == {"a": 1}


async def test_another_document_in_the_place_of_a_deleted_one(session: AsyncFederatedSession, fed: Federation) -> None:
    """One flush deletes and inserts; a rollback brings the first back, and the second may be added again."""
    first = Product(sku="a", price=1)
    session.add(first)
    await session.commit()
    await session.delete(first)
    second = Product(id=first.id, sku="b", price=2)
    session.add(second)
    await session.flush()
    await session.rollback()
    assert (first in session, second in session) == (True, False)
    await session.delete(first)
    session.add(second)
    await session.commit()
    assert await stored(fed) == {"b": 2}


async def test_merging_over_a_deleted_document(session: AsyncFederatedSession, fed: Federation) -> None:
    """merge() makes one that takes its place."""
    product = Product(sku="a", price=1)
    session.add(product)
    await session.commit()
    await session.delete(product)
    await session.merge(Product(id=product.id, sku="c", price=3))
    await session.commit()
    assert await stored(fed) == {"c": 3}


async def test_deleted_documents_may_join_another_session(fed: Federation) -> None:
    """A closed session holds on to nothing, also not to what it was to delete."""
    async with fed.session() as one, fed.session() as two:
        product = Product(sku="a", price=1)
        one.add(product)
        await one.commit()
        await one.delete(product)
        await one.close()
        assert await two.merge(product) is not product
        two.expunge_all()
        await two.find(Product).delete()
        two.add(product)
        await two.commit()
    assert await stored(fed) == {"a": 1}


async def test_documents_of_a_listener(session: AsyncFederatedSession, fed: Federation) -> None:
    """What a listener of before_commit adds or changes is in the same commit."""
    product = Product(sku="a", price=1)

    @event.listens_for(session.sync_session, "before_commit")
    def audit(inner: Any) -> None:
        if product.price == 1:
            product.price = 2
            inner.add(Product(sku="audit", price=0))

    session.add(product)
    await session.commit()
    assert await stored(fed) == {"a": 2, "audit": 0}


async def test_several_classes_in_one_collection(pages: Federation) -> None:
    """A class finds itself and those below it, by query, by id, and from the identity map."""
    async with pages.session() as session:
        car, bus = Car(doors=3), Bus(wheels=6)
        session.add_all([car, bus])
        await session.commit()
        assert [await session.get(Car, bus.id), await session.get(Vehicle, bus.id)] == [None, bus]
        session.expunge_all()
        assert [await session.get(Car, bus.id), await session.get(Bus, car.id)] == [None, None]
        assert [type(one) for one in await session.find(Vehicle).sort("wheels").to_list()] == [Car, Bus]
        assert [one.doors for one in await session.find(Car).to_list()] == [3]
        assert await session.find(Bus, Bus.seats == 50).count() == 1
        found = await session.get(Vehicle, bus.id)
        found.seats = 3
        await session.commit()
        await session.find(Bus).delete()
        await session.commit()
        session.expunge_all()
        assert [type(one) for one in await session.find(Vehicle).to_list()] == [Car]


async def test_aliases_hooks_and_ids_of_ones_own(pages: Federation) -> None:
    """The database has the alias; the hooks run once a write; the id may change until it is written."""
    async with pages.session() as session:
        counter = Counter(id=1, n=3)
        session.add(counter)
        counter.id = 2
        assert counter in session
        await session.commit()
        await session.commit()
        counter.amount = 4
        await session.commit()
        assert (await session.get_one(Counter, "2")) is counter
        assert await session.get(Counter, 1) is None
        raw = await pages.stores["pages"].collection(Counter, sync=False).find_one({})  # type: ignore[attr-defined]
        assert raw == {"_id": 2, "n": 4, "log": ["insert", "update"]}


async def test_revisions(pages: Federation) -> None:
    """Whoever has read an older revision is told; after reading it anew the change goes through."""
    async with pages.session() as one, pages.session() as two:
        one.add(Sheet(id=1, price=1))
        await one.commit()
        mine, yours = [await session.get_one(Sheet, 1) for session in (one, two)]
        yours.price = 2
        await two.commit()
        mine.price = 3
        with pytest.raises(StaleDocumentError):
            await one.commit()
        await one.rollback()
        await one.refresh(mine)
        assert mine.price == 2
        mine.price = None
        await one.commit()
        raw = await pages.stores["pages"].collection(Sheet, sync=False).find_one({})  # type: ignore[attr-defined]
        assert raw.keys() == {"_id", "labels", "revision_id"}


async def test_going_on_after_a_failed_flush(pages: Federation) -> None:
    """Without a rollback the commit fails again, and rows do not slip through."""
    async with pages.session() as session:
        session.add(Counter(id=1, n=1, code="a"))
        await session.commit()
        session.add_all([User(id=1, email="x"), Counter(id=2, n=1, code="a")])
        for kind in (DuplicateKeyError, StoreError):
            with pytest.raises(kind, match="service 'pages'"):
                await session.commit()
        await session.rollback()
        assert (await session.scalars(select(User))).all() == []


# -- a server without transactions -----------------------------------------------------------------


@pytest.fixture
async def without_transactions(pages: Federation) -> Federation:
    for side in pages.stores["pages"].sides.values():  # type: ignore[attr-defined]
        side.transactions = False
    return pages


async def test_a_block_that_fails_is_taken_back(without_transactions: Federation) -> None:
    """None of its documents is kept, and no row."""
    async with without_transactions.session() as session:
        session.add_all([Counter(id=1, n=1, code="a"), Counter(id=2, n=1), Counter(id=3, n=1, code="a")])
        session.add(User(id=1, email="x"))
        with pytest.raises(DuplicateKeyError, match="service 'pages'"):
            await session.commit()
        await session.rollback()
        assert await session.find(Counter).count() == 0
        assert (await session.scalars(select(User))).all() == []


async def test_blocks_before_the_one_that_fails_are_named(without_transactions: Federation) -> None:
    """What has been written and cannot be taken back is what the error says."""
    async with without_transactions.session() as session:
        session.add_all([Page(id=1, price=1), Counter(id=1, n=1, code="a"), Counter(id=2, n=1, code="a")])
        session.add(User(id=1, email="x"))
        with pytest.raises(PartialCommitError) as raised:
            await session.commit()
        assert (raised.value.committed, raised.value.failed) == (["pages"], ["users"])
        assert await session.find(Page).count() == 1
        assert (await session.scalars(select(User))).all() == []


async def test_only_documents_of_which_some_were_written(without_transactions: Federation) -> None:
    """The service that has a part is the one that failed, too."""
    async with without_transactions.session() as session:
        session.add_all([Page(id=1, price=1), Counter(id=1, n=1, code="a"), Counter(id=2, n=1, code="a")])
        with pytest.raises(PartialCommitError) as raised:
            await session.commit()
        assert (raised.value.committed, raised.value.failed) == (["pages"], ["pages"])
