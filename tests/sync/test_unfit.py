"""Values, keys and rows that the target does not take: they are put aside, stop nothing, and hide no other change."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Double, Enum, Float, Numeric, String, select
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, Federation
from fedorm.sync import CDC, Batch, RealTime, SyncRule
from fedorm.testing.plugin import FreshDatabase
from tests.sync.parts import add, change, letters, remove, run_sql
from tests.sync.watching import until

Place = Callable[[str], str]


class Gauge(FederatedBase):
    __service__, __tablename__ = "unfit_near", "gauges"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float] = mapped_column(Double)
    rough: Mapped[float] = mapped_column(Float(24))
    exact: Mapped[Decimal] = mapped_column(Numeric(38, 18))


class GaugeCopy(FederatedBase):
    __service__, __tablename__ = "unfit_far", "gauges"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float] = mapped_column(Double)
    rough: Mapped[float] = mapped_column(Double)
    exact: Mapped[Decimal] = mapped_column(Numeric(38, 18))


class Pass(FederatedBase):
    __service__, __tablename__ = "unfit_near", "badges"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(String(40))


class PassCopy(FederatedBase):
    __service__, __tablename__ = "unfit_far", "badges"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    owner: Mapped[uuid.UUID]


class Flock(FederatedBase):
    __service__, __tablename__ = "unfit_near", "flocks"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))


class FlockCopy(FederatedBase):
    __service__, __tablename__ = "unfit_far", "flocks"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)


class FlockNote(FederatedBase):
    __service__, __tablename__ = "unfit_far", "flock_notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    flock_id: Mapped[int]
    name: Mapped[str] = mapped_column(String(40))


class Shade(enum.Enum):
    DARK = 1


class Opening(FederatedBase):
    __service__, __tablename__ = "unfit_near", "openings"
    id: Mapped[int] = mapped_column(primary_key=True)
    until: Mapped[datetime.time | None]
    shade: Mapped[Shade | None] = mapped_column(Enum(Shade, native_enum=False, length=20))


class OpeningCopy(FederatedBase):
    __service__, __tablename__ = "unfit_far", "openings"
    id: Mapped[int] = mapped_column(primary_key=True)
    until: Mapped[datetime.time | None]
    shade: Mapped[str | None] = mapped_column(String(20))


@pytest.fixture
def place(fresh_database: FreshDatabase, tmp_path: Path) -> Place:
    return lambda kind: (
        f"sqlite+aiosqlite:///{tmp_path}/{uuid.uuid4().hex}.db" if kind == "sqlite" else fresh_database(kind)
    )


async def become(fed: Federation, wanted: list[tuple[Any, ...]], model: Any, *names: str) -> None:
    found: list[tuple[Any, ...]] = []

    async def are() -> bool:
        async with fed.session() as session:
            rows = await session.execute(select(*(getattr(model, name) for name in names)).order_by(model.id))
            found[:] = [tuple(row) for row in rows]
        return found == wanted

    try:
        await until(are, patience=20.0)
    except AssertionError:
        raise AssertionError(f"{found} {await fed.sync.status()}") from None


async def test_changes_in_the_last_digits(place: Place) -> None:
    """Comparing finds them, and the seven digits of a float of 32 bits make none."""
    urls = {"unfit_near": place("mysql"), "unfit_far": place("postgresql")}
    async with Federation(urls) as fed:
        fed.sync.add(SyncRule(source=Gauge, to=GaugeCopy, strategy=Batch(every=None), name="gauges"))
        await fed.create_all()
        exact = Decimal("12345678901234567890.123456789012345678")
        await add(fed, *[Gauge(id=one, at=1_700_000_000.0, rough=0.1, exact=exact) for one in (1, 2, 3)])
        await fed.sync.backfill("gauges")
        assert (await fed.sync.verify("gauges")).equal
        await change(fed, Gauge, 1, at=1_700_000_001.5)
        more = Decimal("12345678901234567890.123456789012345679")
        await change(fed, Gauge, 2, exact=more)
        await change(fed, GaugeCopy, 3, rough=0.10000000149)
        found = await fed.sync.verify("gauges", repair=True)
        assert {(*one.key, *one.fields) for one in found.differences} == {(1, "at"), (2, "exact")}
        assert (found.repaired, found.equal) == (2, True)
        wanted = [(1_700_000_001.5, exact), (1_700_000_000.0, more), (1_700_000_000.0, exact)]
        await become(fed, wanted, GaugeCopy, "at", "exact")


@pytest.mark.parametrize("strategy", [Batch(every=0.1), CDC()], ids=lambda one: str(one.name))
async def test_values_and_keys_that_cannot_be_made_to_fit(strategy: Any, place: Place) -> None:
    """From the first snapshot on such rows are put aside, and all others are synced."""
    urls = {"unfit_near": place("postgresql" if strategy.name == "cdc" else "sqlite"), "unfit_far": place("sqlite")}
    one, other = sorted([uuid.uuid4(), uuid.uuid4()])
    async with Federation(urls) as fed:
        fed.sync.add(SyncRule(source=Pass, to=PassCopy, strategy=strategy, name="badges"))
        await fed.create_all()
        await add(fed, Pass(id=str(one), owner=str(one)), Pass(id=str(other), owner="nobody"))
        await add(fed, Pass(id="none", owner=str(one)))
        async with fed.sync.running():
            await become(fed, [(one,)], PassCopy, "id")
            assert {letter.key[0] for letter in await letters(fed, 2, "badges")} == {str(other), "none"}
            await remove(fed, Pass, "none")
            await change(fed, Pass, str(other), owner=str(other))
            await become(fed, [(one,), (other,)], PassCopy, "id")
        await fed.sync.retry_dead_letters("badges")
        assert await fed.sync.dead_letters("badges") == []
        assert (await fed.sync.verify("badges")).equal


@pytest.mark.parametrize("strategy", [Batch(every=0.1), CDC()], ids=lambda one: str(one.name))
async def test_rows_that_the_target_does_not_let_go(strategy: Any, place: Place) -> None:
    """A deletion that a foreign key forbids is put aside like any other row, and goes through when it is retried."""
    urls = {"unfit_near": place("postgresql"), "unfit_far": place("postgresql")}
    async with Federation(urls) as fed:
        fed.sync.add(SyncRule(source=Flock, to=FlockCopy, strategy=strategy, name="flocks"))
        await fed.create_all()
        await add(fed, *[Flock(id=number, name=f"{number}") for number in (1, 2, 3)])
        async with fed.sync.running():
            await become(fed, [(1,), (2,), (3,)], FlockCopy, "id")
            birds = "CREATE TABLE birds (id int PRIMARY KEY, flock int REFERENCES flocks (id))"
            await run_sql(fed, "unfit_far", birds, "INSERT INTO birds VALUES (1, 1)")
            deleted = "DELETE FROM flocks WHERE id IN (1, 2)"
            await run_sql(fed, "unfit_near", deleted, "INSERT INTO flocks VALUES (4, '4')")
            await become(fed, [(1,), (3,), (4,)], FlockCopy, "id")
            (letter,) = await letters(fed, 1, "flocks")
            assert (letter.key, "birds" in letter.error) == ([1], True)
            await run_sql(fed, "unfit_far", "DELETE FROM birds")
        assert await fed.sync.retry_dead_letters("flocks") == 1
        await become(fed, [(3,), (4,)], FlockCopy, "id")


async def test_values_that_are_unique_in_the_target_alone(place: Place) -> None:
    """What another row gives up in the same batch is free to be taken; of two rows that want one, one gets it."""
    urls = {"unfit_near": place("postgresql"), "unfit_far": place("postgresql")}
    async with Federation(urls) as fed:
        fed.sync.add(SyncRule(source=Flock, to=FlockCopy, strategy=CDC(), name="flocks"))
        await fed.create_all()
        await add(fed, *[Flock(id=number, name=f"{number}") for number in (1, 2, 3)])
        async with fed.sync.running():
            await become(fed, [(1,), (2,), (3,)], FlockCopy, "id")
            taken = "UPDATE flocks SET name = '2' WHERE id = 1"
            await run_sql(fed, "unfit_near", taken, "UPDATE flocks SET name = 'two' WHERE id = 2")
            await become(fed, [(1, "2"), (2, "two"), (3, "3")], FlockCopy, "id", "name")
            await letters(fed, 0, "flocks")
            await run_sql(fed, "unfit_near", "INSERT INTO flocks VALUES (4, 'x'), (5, 'x'), (6, '6')")
            await become(fed, [("2",), ("two",), ("3",), ("x",), ("6",)], FlockCopy, "name")
            await letters(fed, 1, "flocks")


@pytest.mark.parametrize(("kind", "bad"), [("postgresql", "'24:00', NULL"), ("mysql", "'12:00', 'PALE'")])
async def test_values_that_python_has_none_for(kind: str, bad: str, place: Place) -> None:
    """Rows of a source that have some are put aside, in the first snapshot as later, and go through once mended."""
    async with Federation({"unfit_near": place(kind), "unfit_far": place("sqlite")}) as fed:
        fed.sync.add(SyncRule(source=Opening, to=OpeningCopy, strategy=CDC(), name="openings"))
        await fed.create_all()
        added = "INSERT INTO openings (id, until, shade) VALUES"
        await run_sql(fed, "unfit_near", f"{added} (1, '12:00', 'DARK'), (2, {bad}), (3, NULL, 'PALE')")
        async with fed.sync.running():
            await become(fed, [(1, "DARK")], OpeningCopy, "id", "shade")
            await letters(fed, 2, "openings")
            await run_sql(fed, "unfit_near", f"{added} (4, {bad}), (5, NULL, 'PALE'), (6, '13:00', 'DARK')")
            await become(fed, [(1,), (6,)], OpeningCopy, "id")
            assert sorted(letter.key[0] for letter in await letters(fed, 4, "openings")) == [2, 3, 4, 5]
            await run_sql(fed, "unfit_near", "UPDATE openings SET until = '14:00', shade = 'DARK' WHERE id IN (2, 5)")
            await become(fed, [(1,), (2,), (5,), (6,)], OpeningCopy, "id")
            await letters(fed, 2, "openings")


async def test_a_mark_of_another_server(place: Place) -> None:
    """A source that was restored elsewhere counts its transactions anew: everything is compared once."""
    async with Federation({"unfit_near": place("postgresql"), "unfit_far": place("postgresql")}) as fed:
        fed.sync.add(SyncRule(source=Flock, to=FlockCopy, strategy=Batch(every=0.1), name="flocks"))
        await fed.create_all()
        await add(fed, Flock(id=1, name="1"))
        async with fed.sync.running():
            await become(fed, [("1",)], FlockCopy, "name")
        later = "UPDATE fedorm_sync_positions SET position = replace(position, '\"xid ', '\"xid 99')"
        await run_sql(fed, "unfit_far", later)
        await change(fed, Flock, 1, name="one")
        async with fed.sync.running():
            await become(fed, [("one",)], FlockCopy, "name")


@pytest.mark.parametrize("kind", ["postgresql", "mysql", "sqlite"])
async def test_keys_that_nothing_keeps_from_being_there_twice(kind: str, place: Place) -> None:
    """Nothing is written as long as the target has no unique index on them."""
    async with Federation({"unfit_near": place("sqlite"), "unfit_far": place(kind)}) as fed:
        key = {"id": "flock_id"}
        fed.sync.add(SyncRule(source=Flock, to=FlockNote, key=key, strategy=RealTime(poll=0.05), name="notes"))
        await fed.create_all()
        await add(fed, Flock(id=1, name="1"))
        async with fed.sync.running():
            await until(lambda: _is(fed, "notes", "retrying", "failed"))
            await become(fed, [], FlockNote, "name")
            await run_sql(fed, "unfit_far", "CREATE UNIQUE INDEX of_flocks ON flock_notes (flock_id)")
            await become(fed, [(1, "1")], FlockNote, "flock_id", "name")
            await change(fed, Flock, 1, name="one")
            await become(fed, [(1, "one")], FlockNote, "flock_id", "name")


async def _is(fed: Federation, name: str, *states: str) -> bool:
    return any(one.state in states for one in fed.sync.status() if one.name == name)
