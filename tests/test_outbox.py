"""Events are written with the changes they tell of: in their transaction, in their order, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import select, text

from fedorm import FederatedSession, Federation
from fedorm.outbox import Event
from tests.outbox_models import KINDS, LAMP, Lamp, Quiet, Shelf, lamps, told, told_documents, two, url_of

__all__ = ["lamps", "two"]


# -- transactions


async def test_events_are_there_with_the_commit_alone(lamps: Federation) -> None:
    """Neither after a rollback, nor after a flush that has failed, nor for a savepoint that was taken back."""
    async with lamps.session() as session:
        session.add(Lamp(id=1, watts=5))
        session.emit(Event("never"))
        await session.rollback()
        session.add(Lamp(id=1, watts=5))
        session.emit(Event("before", key="k"))
        async with session.begin_nested() as inner:
            session.add(Lamp(id=2, watts=5))
            session.emit(Event("inside", key="k"))
            await session.flush()
            session.emit(Event("later inside", key="k"))
            await inner.rollback()
        async with session.begin_nested():
            session.emit(Event("kept", key="k"))
        session.emit(Event("after", key="k"))
        await session.commit()
        session.add(Lamp(id=1, watts=5))
        session.emit(Event("failed"))
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
            await session.commit()
        await session.rollback()
        await session.commit()
    assert [kind for kind, _, _ in await told(lamps)] == [
        "outbox_lamps.outbox_lamps.inserted", "before", "kept", "after",
    ]  # fmt: skip


async def test_the_order_is_that_of_the_changes(lamps: Federation) -> None:
    """Flush by flush; of one flush, rows before what was emitted. A select flushes, too."""
    async with lamps.session() as session:
        session.emit(Event("first", key="k"))
        await session.execute(select(Lamp))
        session.add(Lamp(id=1, watts=5))
        session.emit(Event("second", key="k"))
        await session.flush()
        session.emit(Event("third", key="k"))
        await session.commit()
    assert [kind for kind, _, _ in await told(lamps)] == [
        "first", "outbox_lamps.outbox_lamps.inserted", "second", "third",
    ]  # fmt: skip


async def test_an_event_that_cannot_be_written_undoes_the_change(lamps: Federation) -> None:
    """Nothing is committed without its event."""
    async with lamps.session() as session:
        await session.execute(text("DROP TABLE fedorm_outbox"), bind_arguments={"service": "outbox_lamps"})
        await session.commit()
        session.add(Lamp(id=1, watts=5))
        with pytest.raises(Exception, match="fedorm_outbox"):
            await session.commit()
        await session.rollback()
        assert (await session.scalars(select(Lamp.id))).all() == []


@pytest.mark.parametrize("kind", KINDS)
async def test_the_table_is_made_at_first_use(
    kind: str, fresh_database: Callable[[str], str], tmp_path: Path, no_stray_tasks: None
) -> None:
    """Over the only connection there is, before the transaction or within."""
    limits = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 2} if kind != "sqlite" else {}
    async with Federation({"outbox_quiet": {"url": url_of(kind, fresh_database, tmp_path), **limits}}) as fed:
        await fed.create_all()
        async with fed.session() as session:
            session.add(Quiet(id=1))
            await session.flush()
            session.emit(Event("one", key="k"))
            await session.rollback()
            session.add(Quiet(id=1))
            await session.flush()
            session.emit(Event("one", key="k"))
            await session.commit()
        async with fed.session() as session:
            session.emit(Event("two", key="k"))
            await session.commit()
        assert [kind for kind, _, _ in await told(fed, "outbox_quiet")] == ["one", "two"]


async def test_two_transactions_of_a_row_are_in_the_order_of_their_commits(
    fresh_database: Callable[[str], str], no_stray_tasks: None
) -> None:
    """The second has to wait for the first before it gets a position."""
    async with Federation({"outbox_lamps": fresh_database("postgresql")}) as fed:
        await fed.create_all()
        async with fed.session() as session:
            session.add(Lamp(id=1, watts=0))
            await session.commit()

        async def raise_it(number: int) -> None:
            for _ in range(10):
                async with fed.session() as session:
                    lamp = await session.get_one(Lamp, 1, with_for_update=True)
                    lamp.watts += 1
                    await session.commit()

        await asyncio.gather(*map(raise_it, range(4)))
        changed = [data["changed"]["watts"] for _, _, data in (await told(fed))[1:]]
        assert changed == [[number, number + 1] for number in range(40)]


async def test_both_sides_write_the_same(fresh_database: Callable[[str], str]) -> None:
    """A session for threads, too, for rows and documents."""
    urls = {"outbox_lamps": fresh_database("mysql"), "outbox_shelves": fresh_database("mongodb")}
    async with Federation(urls) as fed:
        await fed.create_all()

    def work() -> None:
        with Federation(urls) as fed, fed.sync_session() as session:
            assert isinstance(session, FederatedSession)
            session.add_all([Lamp(id=1, watts=5), Shelf(id=1, label="a")])
            session.emit(Event("emitted", key=1), service="outbox_shelves")
            session.commit()

    await asyncio.to_thread(work)
    async with Federation(urls) as fed:
        assert await told(fed) == [("outbox_lamps.outbox_lamps.inserted", "1", {"key": {"id": 1}, "values": LAMP})]
        shelf = {"id": 1, "label": "a", "price": "1", "things": []}
        assert await told_documents(fed) == [
            ("outbox_shelves.outbox_shelves.inserted", "1", {"key": {"id": 1}, "values": shelf}),
            ("emitted", "1", None),
        ]


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
async def test_two_phases(kind: str, fresh_database: Callable[[str], str], no_stray_tasks: None) -> None:
    """The events are in the branches."""
    urls = {"outbox_lamps": fresh_database(kind), "outbox_quiet": fresh_database("postgresql")}
    async with Federation(urls) as fed:
        await fed.create_all()
        async with fed.session(twophase=True) as session:
            session.add_all([Lamp(id=1, watts=5), Quiet(id=1)])
            session.emit(Event("both", key="k"), service="outbox_quiet")
            await session.commit()
            session.add_all([Lamp(id=2, watts=5), Quiet(id=2)])
            session.emit(Event("none", key="k"), service="outbox_quiet")
            await session.flush()
            await session.rollback()
        assert [kind for kind, _, _ in await told(fed)] == ["outbox_lamps.outbox_lamps.inserted"]
        assert [kind for kind, _, _ in await told(fed, "outbox_quiet")] == ["both"]


# -- documents


async def test_each_change_of_a_document_is_an_event(two: Federation) -> None:
    """With the old and new values of its fields; in the order of flushes, before what was emitted."""
    async with two.session() as session:
        shelf = Shelf(id=1, label="a")
        session.add(shelf)
        session.emit(Event("emitted", key=1, data={"price": Decimal(2)}), service="outbox_shelves")
        await session.commit()
        shelf.label, shelf.things = "b", ["x"]
        await session.flush()
        shelf.price = Decimal("2.5")
        await session.commit()
        await session.delete(shelf)
        await session.commit()
    whole, key = {"id": 1, "label": "a", "price": "1", "things": []}, {"id": 1}
    changed = whole | {"label": "b", "things": ["x"]}
    assert await told_documents(two) == [
        ("outbox_shelves.outbox_shelves.inserted", "1", {"key": key, "values": whole}),
        ("emitted", "1", {"price": "2"}),
        (
            "outbox_shelves.outbox_shelves.updated", "1",
            {"key": key, "values": changed, "changed": {"label": ["a", "b"], "things": [[], ["x"]]}},
        ),
        (
            "outbox_shelves.outbox_shelves.updated", "1",
            {"key": key, "values": changed | {"price": "2.5"}, "changed": {"price": ["1", "2.5"]}},
        ),
        ("outbox_shelves.outbox_shelves.deleted", "1", {"key": key, "values": changed | {"price": "2.5"}}),
    ]  # fmt: skip


async def test_events_of_documents_are_in_their_transaction(two: Federation) -> None:
    """Not after a rollback; what a savepoint has seen waits for its end, or goes with it."""
    async with two.session() as session:
        session.add(Shelf(id=1, label="a"))
        session.emit(Event("never"), service="outbox_shelves")
        await session.flush()
        await session.rollback()
        async with session.begin_nested() as inner:
            session.emit(Event("inside"), service="outbox_shelves")
            await session.flush()
            await inner.rollback()
        async with session.begin_nested():
            session.emit(Event("kept"), service="outbox_shelves")
            session.add(Lamp(id=1, watts=5))
        await session.commit()
    assert [kind for kind, _, _ in await told_documents(two)] == ["kept"]
    assert [kind for kind, _, _ in await told(two)] == ["outbox_lamps.outbox_lamps.inserted"]
