"""How a unit of work writes documents: their classes, aliases, hooks and revisions, and blocks that fail."""

from __future__ import annotations

from typing import Annotated

import pytest
from beanie import Indexed, Insert, Update, before_event
from pydantic import Field
from sqlalchemy import select

from fedorm import DuplicateKeyError, FederatedDocument, Federation, PartialCommitError, StaleDocumentError, StoreError
from tests.models import User
from tests.page_models import Page, Sheet, pages

__all__ = ["pages"]


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
