"""A select over several services sees what its session has written, and nothing that other sessions have not committed.

DuckDB's own connections do not see it: they are used where the session has written nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import String, delete, insert, select, text, update
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import AsyncFederatedSession, FederatedBase, FederatedDocument, FederatedSession, Federation
from fedorm.query.explain import Explanation
from tests.query.conftest import read_outside


class Farm(FederatedBase):
    __service__ = "farms"
    __tablename__ = "farms"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Field(FederatedBase):
    __service__ = "fields"
    __tablename__ = "fields"
    id: Mapped[int] = mapped_column(primary_key=True)
    farm_id: Mapped[int]
    crop: Mapped[str]


class Harvest(FederatedBase):
    __service__ = "harvests"
    __tablename__ = "harvests"
    id: Mapped[int] = mapped_column(primary_key=True)
    field_id: Mapped[int]
    note: Mapped[str] = mapped_column(String(50))


class Crop(FederatedDocument):
    __service__ = "crops"
    name: str
    price: int

    class Settings:
        name = "crops"


ROWS = (
    select(Farm.name, Field.crop, Harvest.note)
    .join(Field, Field.farm_id == Farm.id)
    .join(Harvest, Harvest.field_id == Field.id)
    .order_by(Harvest.id)
    .execution_options(join_strategy="hash")
)
"""Over two PostgreSQL databases and MariaDB; DuckDB reads all three by itself where it may."""
PRICES = select(Farm.name, Crop.c.price).join(Field, Field.farm_id == Farm.id).join(Crop, Crop.c.name == Field.crop)
FIRST = [("hill", "rye", "good"), ("dale", "oat", "poor")]
EVERYWHERE = {"farms", "fields", "harvests"}

pytestmark = pytest.mark.usefixtures("prefers_scanners")


@pytest.fixture
def farm_urls(fresh_database: Callable[[str], str]) -> dict[str, str]:
    kinds = {"farms": "postgresql", "fields": "postgresql", "harvests": "mysql", "crops": "mongodb"}
    return {service: fresh_database(kind) for service, kind in kinds.items()}


@pytest.fixture
async def farms(farm_urls: dict[str, str], no_stray_tasks: None) -> AsyncIterator[Federation]:
    """Two farms with a field each, of which there was a harvest."""
    async with Federation(farm_urls) as fed:
        await fed.create_all()
        async with fed.session() as session:
            session.add_all([Farm(id=1, name="hill"), Farm(id=2, name="dale"), Crop(name="rye", price=3)])
            session.add_all([Field(id=1, farm_id=1, crop="rye"), Field(id=2, farm_id=2, crop="oat")])
            session.add_all([Harvest(id=1, field_id=1, note="good"), Harvest(id=2, field_id=2, note="poor")])
            await session.commit()
        yield fed


async def rows(session: AsyncFederatedSession, statement: Any = ROWS) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await session.execute(statement)]


async def outside(session: AsyncFederatedSession) -> set[str]:
    plan: Explanation = await session.explain(ROWS)
    return read_outside(plan)


async def flush_farm(session: AsyncFederatedSession) -> None:
    session.add(Farm(id=9, name="moor"))
    farm = await session.get_one(Farm, 1)
    farm.name = "hilltop"


async def core_insert(session: AsyncFederatedSession) -> None:
    await session.execute(insert(Farm.__table__).values(id=9, name="moor"))  # type: ignore[arg-type]
    await session.execute(update(Farm).where(Farm.id == 1).values(name="hilltop"))


async def bulk(session: AsyncFederatedSession) -> None:
    await session.execute(insert(Farm), [{"id": 9, "name": "moor"}, {"id": 10, "name": "fen"}])
    await session.execute(update(Farm), [{"id": 1, "name": "hilltop"}])


async def plain_text(session: AsyncFederatedSession) -> None:
    service = {"service": "farms"}
    await session.execute(text("insert into farms (id, name) values (9, 'moor')"), bind_arguments=service)
    changed = text("with made as (update farms set name = 'hilltop' where id = 1 returning id) select id from made")
    await session.execute(changed, bind_arguments=service)


async def driver_sql(session: AsyncFederatedSession) -> None:
    connection = await session.connection(bind_arguments={"service": "farms"})
    await connection.exec_driver_sql("update farms set name = 'hilltop' where id = 1")


async def called_function(session: AsyncFederatedSession) -> None:
    """A write that its statement does not show."""
    service = {"service": "farms"}
    await session.execute(
        text(
            "create function rename_hill() returns int language sql"
            " as $$ update farms set name = 'hilltop' where id = 1 returning 1 $$"
        ),
        bind_arguments=service,
    )
    await session.execute(text("select rename_hill()"), bind_arguments=service)


async def savepoint(session: AsyncFederatedSession) -> None:
    async with session.begin_nested():
        await session.execute(update(Farm).where(Farm.id == 1).values(name="hilltop"))
    with suppress(ZeroDivisionError):
        async with session.begin_nested():
            await session.execute(update(Farm).where(Farm.id == 2).values(name="undone"))
            raise ZeroDivisionError


WRITES = (flush_farm, core_insert, bulk, plain_text, driver_sql, called_function, savepoint)


async def test_writes_of_postgresql(farms: Federation) -> None:
    """Each way of writing is seen at once, by the session alone, and then DuckDB's own reading is taken up again."""
    changed = [("hilltop", "rye", "good"), FIRST[1]]
    async with farms.session() as session, farms.session() as other:
        assert await rows(session) == FIRST
        assert await outside(session) == EVERYWHERE
        for write in WRITES:
            await write(session)
            assert (write, await rows(session)) == (write, changed)
            assert await outside(session) == {"fields", "harvests"}
            assert await rows(other) == FIRST
            await session.rollback()
            assert await outside(session) == EVERYWHERE
            assert await rows(session) == FIRST
        await core_insert(session)
        await session.commit()
        assert await outside(session) == EVERYWHERE
        assert await rows(session) == await rows(other) == changed


async def flush_harvest(session: AsyncFederatedSession) -> None:
    session.add(Harvest(id=3, field_id=1, note="late"))


async def harvest_text(session: AsyncFederatedSession) -> None:
    statement = text("insert into harvests values (3, 1, 'late')")
    await session.execute(statement, bind_arguments={"service": "harvests"})


async def harvest_driver_sql(session: AsyncFederatedSession) -> None:
    connection = await session.connection(bind_arguments={"service": "harvests"})
    await connection.exec_driver_sql("/* a note */ insert into harvests values (3, 1, 'late')")


async def harvest_savepoint(session: AsyncFederatedSession) -> None:
    async with session.begin_nested():
        await session.execute(insert(Harvest).values(id=3, field_id=1, note="late"))
    with suppress(ZeroDivisionError):
        async with session.begin_nested():
            await session.execute(delete(Harvest))
            raise ZeroDivisionError


async def test_writes_of_mariadb(farms: Federation) -> None:
    """The same for a server that does not say whether a transaction has written."""
    changed = [*FIRST, ("hill", "rye", "late")]
    async with farms.session() as session, farms.session() as other:
        assert await rows(session) == FIRST
        for write in (flush_harvest, harvest_text, harvest_driver_sql, harvest_savepoint):
            await write(session)
            assert (write, await rows(session)) == (write, changed)
            assert await outside(session) == {"farms", "fields"}
            assert await rows(other) == FIRST
            await session.rollback()
            assert await outside(session) == EVERYWHERE
            assert await rows(session) == FIRST
        await flush_harvest(session)
        await session.commit()
        assert await outside(session) == EVERYWHERE
        assert await rows(session) == changed


async def test_a_savepoint_that_is_rolled_back(farms: Federation) -> None:
    """What was written before it stays seen."""
    async with farms.session() as session:
        await session.execute(update(Harvest).where(Harvest.id == 1).values(note="new"))
        nested = await session.begin_nested()
        await session.execute(update(Harvest).where(Harvest.id == 1).values(note="newer"))
        await session.execute(update(Farm).where(Farm.id == 1).values(name="nested"))
        assert (await rows(session))[0] == ("nested", "rye", "newer")
        await nested.rollback()
        assert (await rows(session))[0] == ("hill", "rye", "new")
        assert "harvests" not in await outside(session)


async def test_documents(farms: Federation) -> None:
    """Documents that are new, changed or deleted in the session, and in no other."""
    async with farms.session() as session, farms.session() as other:
        rye = await session.find(Crop, Crop.name == "rye").first_or_none()
        session.add(Crop(name="oat", price=5))
        rye.price = 4
        await session.flush()
        assert sorted(await rows(session, PRICES)) == [("dale", 5), ("hill", 4)]
        assert await rows(other, PRICES) == [("hill", 3)]
        await session.delete(rye)
        assert await rows(session, PRICES) == [("dale", 5)]
        await session.rollback()
        assert await rows(session, PRICES) == [("hill", 3)]


async def test_without_autoflush(farms: Federation) -> None:
    """What is pending is not written, where the user wants it so."""
    async with farms.session(autoflush=False) as session:
        session.add(Harvest(id=3, field_id=1, note="late"))
        assert await rows(session) == FIRST
        await session.flush()
        assert len(await rows(session)) == 3
    async with farms.session() as session:
        session.add(Harvest(id=3, field_id=1, note="late"))
        with session.no_autoflush:
            assert await rows(session) == FIRST
        assert len(await rows(session)) == 3


async def test_arrow_and_explain_see_the_same(farms: Federation) -> None:
    """Arrow tables and measured plans flush and read where the rows do."""
    async with farms.session() as session:
        session.add(Harvest(id=3, field_id=1, note="late"))
        assert (await session.arrow(ROWS)).column("note").to_pylist() == ["good", "poor", "late"]
        plan = await session.explain(ROWS, analyze=True)
        assert plan.root.measured is not None
        assert plan.root.measured.rows == 3
        assert read_outside(plan) == {"farms", "fields"}


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE", "READ COMMITTED"])
async def test_an_isolation_level_of_the_transaction(farms: Federation, level: str) -> None:
    """Who asks for a level reads that service over the connection that has it: its snapshot is the session's."""
    # MariaDB's own SERIALIZABLE locks what it reads.
    services = {"farms"} if level == "SERIALIZABLE" else {"farms", "harvests"}
    async with farms.session() as session:
        for service in services:
            arguments: dict[str, Any] = {"service": service}
            await session.connection(bind_arguments=arguments, execution_options={"isolation_level": level})
        assert await rows(session) == FIRST
        assert await outside(session) == EVERYWHERE - services
        async with farms.session() as other:
            await other.execute(update(Farm).values(name="x"))
            if "harvests" in services:
                await other.execute(update(Harvest).values(note="y"))
            await other.commit()
        newest = [("x", crop, "y" if "harvests" in services else note) for _, crop, note in FIRST]
        assert await rows(session) == (newest if level == "READ COMMITTED" else FIRST)
        await session.commit()
        assert await outside(session) == EVERYWHERE
        assert await rows(session) == newest


async def test_an_isolation_level_of_the_service(farm_urls: dict[str, str], farms: Federation) -> None:
    """The same where it is an option of the service."""
    options = {"isolation_level": "REPEATABLE READ"}
    services = {**farm_urls, "farms": {"url": farm_urls["farms"], "options": options}}
    async with Federation(services) as fed, fed.session() as session:
        assert await rows(session) == FIRST
        async with farms.session() as other:
            await other.execute(update(Farm).values(name="x"))
            await other.commit()
        assert await rows(session) == FIRST
        await session.rollback()
        assert [name for name, *_ in await rows(session)] == ["x", "x"]


async def test_nothing_of_another_sessions_transaction(farms: Federation) -> None:
    """Uncommitted rows of others are seen over no connection, the session's or DuckDB's."""
    async with farms.session() as writing, farms.session() as reading:
        writing.add_all([Farm(id=3, name="secret"), Field(id=3, farm_id=3, crop="rye")])
        writing.add_all([Harvest(id=3, field_id=3, note="hidden"), Crop(name="oat", price=99)])
        await writing.flush()
        assert await rows(reading) == FIRST
        assert await rows(reading, PRICES) == [("hill", 3)]
        reading.add(Harvest(id=4, field_id=1, note="own"))
        assert await rows(reading) == [*FIRST, ("hill", "rye", "own")]
        assert await rows(writing) == [*FIRST, ("secret", "rye", "hidden")]


@pytest.fixture
def threads(farms: Federation) -> Any:
    """A function that runs another one in a thread, with a session for threads."""

    def run(work: Callable[[FederatedSession], Any]) -> Awaitable[Any]:
        def inside() -> Any:
            with farms, farms.sync_session() as session:
                return work(session)

        return asyncio.to_thread(inside)

    return run


async def test_sessions_for_threads(threads: Any) -> None:
    """The same in code that is not async."""

    def found(session: FederatedSession) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in session.execute(ROWS)]

    def work(session: FederatedSession) -> None:
        assert found(session) == FIRST
        assert read_outside(session.explain(ROWS)) == EVERYWHERE
        session.add(Harvest(id=3, field_id=1, note="late"))
        session.execute(text("update farms set name = 'x'"), bind_arguments={"service": "farms"})
        assert found(session) == [("x", "rye", "good"), ("x", "oat", "poor"), ("x", "rye", "late")]
        assert read_outside(session.explain(ROWS)) == {"fields"}
        session.rollback()
        assert read_outside(session.explain(ROWS)) == EVERYWHERE
        assert found(session) == FIRST

    await threads(work)
