"""A select over several services that fails, times out or is cancelled says where, and leaves nothing running."""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import bindparam, insert, make_url, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import (
    AsyncFederatedSession,
    FederatedBase,
    Federation,
    ServiceTimeoutError,
    ServiceUnavailableError,
    UnsupportedQueryError,
)
from fedorm.query.finish import Finisher, Finishing
from fedorm.stores.scanning import Scanner
from tests.query.conftest import read_outside


class Ship(FederatedBase):
    __service__ = "ships"
    __tablename__ = "ships"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Port(FederatedBase):
    __service__ = "ports"
    __tablename__ = "ports"
    id: Mapped[int] = mapped_column(primary_key=True)
    ship_id: Mapped[int]


CALLS = select(Ship.name, Port.id).join(Port, Port.ship_id == Ship.id).order_by(Port.id)
FOUND = [(f"ship {number}", number) for number in (1, 2, 3)]
SLOW = "(select id, ship_id, cast(pg_sleep(120) as text) from ports.ports limit 1)"
"""A piece that its service answers after the test has ended, if nobody cancels it."""
ENDLESS = text(
    "select sum(s.id * p.id * a.v * b.v) from ships.ships s join ports.ports p on p.ship_id = s.id"
    " cross join generate_series(1, 1000000) as a(v) cross join generate_series(1, 1000000) as b(v)"
)
"""What DuckDB does not finish."""


@asynccontextmanager
async def opened(urls: dict[str, Any], **options: Any) -> AsyncIterator[Federation]:
    async with Federation(urls, **options) as fed:
        await fed.create_all()
        async with fed.session() as session:
            await session.execute(insert(Ship), [{"id": number, "name": f"ship {number}"} for number in (1, 2, 3)])
            await session.execute(insert(Port), [{"id": number, "ship_id": number} for number in (1, 2, 3)])
            await session.commit()
        yield fed


@pytest.fixture
def port_urls(fresh_database: Callable[[str], str]) -> dict[str, str]:
    return {"ships": fresh_database("postgresql"), "ports": fresh_database("postgresql")}


@pytest.fixture
async def fleet(port_urls: dict[str, str], no_stray_tasks: None) -> AsyncIterator[Federation]:
    async with opened(port_urls) as fed:
        yield fed


async def calls(session: AsyncFederatedSession) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await session.execute(CALLS)]


async def activity(fed: Federation, service: str, like: str) -> list[int]:
    """Return the backends of a service's database that work at a statement like this."""
    asked = text(
        "select pid from pg_stat_activity where datname = current_database() and state = 'active'"
        " and query ilike :pattern and pid <> pg_backend_pid()"
    ).bindparams(bindparam("pattern", f"%{like}%"))
    async with fed.session() as session:
        return list((await session.scalars(asked, bind_arguments={"service": service})).all())


async def until(condition: Callable[[], Any]) -> Any:
    """Wait for what is about to happen, and return it."""
    for _ in range(400):
        found = condition()
        found = await found if asyncio.iscoroutine(found) else found
        if found:
            return found
        await asyncio.sleep(0.025)
    raise AssertionError("it did not happen")


async def assert_idle(fed: Federation, like: str = "pg_sleep") -> None:
    """See that no service works any more, and that all of DuckDB's threads are free."""

    async def nobody() -> bool:
        return not any([await activity(fed, service, like) for service in ("ships", "ports")])

    await until(nobody)
    queries = fed._query_runner()
    barrier = threading.Barrier(4)
    pool = queries._workers._pool
    if pool is not None:
        meetings = [asyncio.wrap_future(pool.submit(barrier.wait, 20)) for _ in range(4)]
        await asyncio.gather(*meetings)


# -- a service that fails


async def test_a_failure_cancels_the_other_pieces(fleet: Federation) -> None:
    """The error is the service's own; its notes name the step, the service and the SQL. The session goes on."""
    failing = "(select id, 1 / (id - 1) as n from ships.ships order by id limit 1)"
    statement = text(f"select a.n from {failing} a join {SLOW} b on b.ship_id = a.id")
    async with fleet.session() as session:
        with pytest.raises(DBAPIError, match="division by zero") as raised:
            await session.execute(statement)
        notes = raised.value.__notes__
        assert any(
            note.startswith("step p") and "at service 'ships': SELECT" in note and "LIMIT 1" in note for note in notes
        )
        await assert_idle(fleet)
        await session.rollback()
        assert await calls(session) == FOUND


async def test_a_timeout_cancels_the_other_pieces(port_urls: dict[str, str], no_stray_tasks: None) -> None:
    """The same when a service does not answer within its time."""
    waiting = "(select id, cast(pg_sleep(120) as text) from ships.ships limit 1)"
    statement = text(f"select a.id from {waiting} a join {SLOW} b on b.ship_id = a.id")
    urls = {**port_urls, "ships": {"url": port_urls["ships"], "timeout": 1}}
    async with opened(urls) as fed, fed.session() as session:
        with pytest.raises(ServiceTimeoutError, match="service 'ships'") as raised:
            await session.execute(statement)
        assert any("at service 'ships': SELECT" in note for note in raised.value.__notes__)
        await assert_idle(fed)
        await session.rollback()
        assert await calls(session) == FOUND


async def test_a_service_that_goes_away(fleet: Federation) -> None:
    """Its connection ends in the middle of a piece: the error names it, and the other piece is cancelled."""
    waiting = "(select id, cast(pg_sleep(120) as text) from ships.ships limit 1)"
    statement = text(f"select a.id from {waiting} a join {SLOW} b on b.ship_id = a.id")
    async with fleet.session() as session, fleet.session() as other:
        running = asyncio.create_task(session.execute(statement))
        (pid,) = await until(lambda: activity(fleet, "ships", "pg_sleep"))
        await other.execute(select(text(f"pg_terminate_backend({pid})")), bind_arguments={"service": "ships"})
        with pytest.raises(ServiceUnavailableError, match="service 'ships'") as raised:
            await running
        assert any("at service 'ships': SELECT" in note for note in raised.value.__notes__)
        await assert_idle(fleet)
        await session.rollback()
        assert await calls(session) == FOUND


async def test_a_stream_of_a_step_that_times_out(port_urls: dict[str, str], no_stray_tasks: None) -> None:
    """The first rows of a large table, which are read a part at a time, have the same notes when they do not come."""
    first = select(Port.id, Ship.name).join(Ship, Ship.id == Port.ship_id).order_by(Port.id).limit(2)
    urls = {**port_urls, "ports": {"url": port_urls["ports"], "timeout": 1}}
    async with opened(urls) as fed, fed.session() as session:
        await session.execute(
            text("insert into ports select n, n % 3 + 1 from generate_series(10, 50000) as made(n)"),
            bind_arguments={"service": "ports"},
        )
        await session.commit()
        await session.execute(text("analyze ports"), bind_arguments={"service": "ports"})
        await session.commit()
        assert (await session.execute(first)).all() == [(1, "ship 1"), (2, "ship 2")]
        await session.rollback()
        async with fed.session() as locking:
            await locking.execute(text("lock table ports"), bind_arguments={"service": "ports"})
            with pytest.raises(ServiceTimeoutError, match="service 'ports'") as raised:
                await session.execute(first)
            await locking.rollback()
        assert any("at service 'ports': SELECT" in note and "ORDER BY" in note for note in raised.value.__notes__)
        await session.rollback()
        assert (await session.execute(first)).all() == [(1, "ship 1"), (2, "ship 2")]


# -- DuckDB's own connections


async def test_duckdbs_connections_end_while_they_read(fleet: Federation, prefers_scanners: None) -> None:
    """What it cannot read by itself is read over the session."""
    async with fleet.session() as session:
        assert read_outside(await session.explain(CALLS)) == {"ships", "ports"}
        assert await calls(session) == FOUND
        await session.rollback()
        async with fleet.session() as locking:
            await locking.execute(text("lock table ports"), bind_arguments={"service": "ports"})
            running = asyncio.create_task(calls(session))
            (pid,) = await until(lambda: activity(fleet, "ports", "copy (select%"))
            async with fleet.session() as other:
                ended = select(text(f"pg_terminate_backend({pid})"))
                await other.execute(ended, bind_arguments={"service": "ports"})
            await until(lambda: activity(fleet, "ports", "select ports.%"))
            await locking.rollback()
        assert await running == FOUND
        assert await calls(session) == FOUND
    await assert_idle(fleet)


async def test_duckdbs_connections_end_between_statements(fleet: Federation, prefers_scanners: None) -> None:
    """Those that it keeps may be closed by the server at any time."""
    idle = text(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity"
        " where datname = current_database() and query = 'DISCARD ALL'"
    )
    for _ in range(2):
        async with fleet.session() as session:
            assert await calls(session) == FOUND
        async with fleet.session() as other:
            assert await other.scalar(idle, bind_arguments={"service": "ports"})
    async with fleet.session() as session:
        assert await calls(session) == FOUND


# -- cancellation


async def test_cancelled_while_a_step_runs(fleet: Federation) -> None:
    """The services stop, and the session is there for more."""
    statement = text(f"select s.name from ships.ships s join {SLOW} b on b.ship_id = s.id")
    async with fleet.session() as session:
        running = asyncio.create_task(session.execute(statement))
        await until(lambda: activity(fleet, "ports", "pg_sleep"))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await assert_idle(fleet)
        await session.rollback()
        assert await calls(session) == FOUND


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when DuckDB is about to begin."""
    event, run = threading.Event(), Finishing.run

    def told(self: Finishing, *args: Any) -> None:
        event.set()
        run(self, *args)

    monkeypatch.setattr(Finishing, "run", told)
    return event


@pytest.mark.parametrize("outside", [False, True], ids=["rows of the session", "rows that DuckDB reads"])
async def test_cancelled_while_duckdb_works(
    fleet: Federation, started: threading.Event, outside: bool, request: pytest.FixtureRequest
) -> None:
    """It is interrupted, also if it has hardly begun; its thread is free again."""
    if outside:
        request.getfixturevalue("prefers_scanners")
    async with fleet.session() as session:
        for pause in (0.0, 0.2):
            started.clear()
            running = asyncio.create_task(session.execute(ENDLESS))
            await until(started.is_set)
            await asyncio.sleep(pause)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await assert_idle(fleet, "copy")
            await session.rollback()
        assert await calls(session) == FOUND


async def test_cancelled_when_duckdb_is_about_to_begin(fleet: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB forgets an interruption that comes before its statement; it is told again."""
    about, go, run = threading.Event(), threading.Event(), Finishing.run

    def wait(self: Finishing, *args: Any) -> None:
        about.set()
        go.wait(20)
        run(self, *args)

    async with fleet.session() as session:
        monkeypatch.setattr(Finishing, "run", wait)
        running = asyncio.create_task(session.execute(ENDLESS))
        await until(about.is_set)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        go.set()
        await assert_idle(fleet)
        monkeypatch.undo()
        await session.rollback()
        assert await calls(session) == FOUND


async def test_cancelled_while_a_stream_is_read(fleet: Federation) -> None:
    """Half of the rows have been taken, or it is waiting for more of them."""
    many = text(
        "select s.id, a.v from ships.ships s join ports.ports p on p.ship_id = s.id"
        " cross join generate_series(1, 300000) as a(v)"
    )
    taken: list[int] = []

    async def read(session: AsyncFederatedSession) -> None:
        async for part in (await session.stream(many, execution_options={"yield_per": 1000})).partitions():
            taken.append(len(part))
            await asyncio.sleep(0)

    async with fleet.session() as session:
        running = asyncio.create_task(read(session))
        await until(lambda: len(taken) > 5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await session.rollback()
        await assert_idle(fleet)
        assert await calls(session) == FOUND
    assert 0 < sum(taken) < 900_000


# -- memory


async def test_memory(port_urls: dict[str, str], tmp_path: Any, no_stray_tasks: None) -> None:
    """A statement that needs more than its limit names the setting."""
    huge = text(
        "select array_agg(repeat(s.name, 1000)) from ships.ships s join ports.ports p on p.ship_id = s.id"
        " cross join generate_series(1, 500000) as a(v)"
    )
    async with opened(port_urls, memory_limit="30MB", spill_directory=tmp_path) as fed, fed.session() as session:
        with pytest.raises(UnsupportedQueryError, match="memory_limit"):
            await session.execute(huge)
        assert await calls(session) == FOUND


# -- passwords


async def test_passwords(fleet: Federation, port_urls: dict[str, str], prefers_scanners: None) -> None:
    """No error of a statement has one, in its message, notes and causes."""
    passwords = {str(make_url(url).password) for url in port_urls.values()}
    statements = (
        "select 1 / (s.id - s.id), p.id from ships.ships s join ports.ports p on p.ship_id = s.id",
        "select cast(s.name as int) from ships.ships s join ports.ports p on p.ship_id = s.id",
        "select s.name from ships.ships s join (select 1 / (id - id) as n from ports.ports limit 1) p on p.n = s.id",
    )
    shown = []
    for statement in statements:
        async with fleet.session() as session:
            with pytest.raises(SQLAlchemyError) as raised:
                await session.execute(text(statement))
            shown += ["".join(traceback.format_exception(raised.value)), repr(raised.value)]
    # Of a table that has changed since its columns were looked at.
    async with fleet.session() as session:
        assert await calls(session) == FOUND
        await session.execute(text("alter table ports rename to harbours"), bind_arguments={"service": "ports"})
        await session.commit()
        with pytest.raises(Exception, match="ports") as raised:
            await calls(session)
        shown += ["".join(traceback.format_exception(raised.value)), repr(raised.value)]
    assert [one for one in shown for password in passwords if password in one] == []


def test_the_password_of_a_database_that_duckdb_cannot_attach(caplog: pytest.LogCaptureFixture) -> None:
    """The log says that it could not, and not with which settings."""
    settings = {"HOST": "127.0.0.1", "PORT": "1", "USER": "me", "PASSWORD": "open sesame", "DATABASE": "x"}
    scanner = Scanner("postgres_scanner", "postgres", settings, {}, "public")
    finisher = Finisher()
    with caplog.at_level(logging.DEBUG):
        assert finisher.attached("ships", scanner) is None
    finisher.close()
    assert "service ships is read over the session" in caplog.text
    assert "sesame" not in caplog.text + repr(scanner)
