"""PostgreSQL's log is read across restarts, slow readers and readers that die; what is lost is said."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from sqlalchemy import Column, Integer, Text, make_url

from fedorm.exc import FeedLostError, ServiceUnavailableError, StoreError
from fedorm.stores.feeds import Chunk
from fedorm.stores.pgoutput import format_lsn, parse_lsn
from fedorm.stores.postgresql_feed import PostgreSQLFeed
from fedorm.testing.plugin import unavailable
from fedorm.testing.servers import PostgreSQLServer, ServerUnavailableError
from fedorm.testing.tls import make_certificates
from tests.stores.logged import PATIENCE, Logged, changes, chunk, chunks, opened, read, table

LINES = table("logged_lines", Column("id", Integer, primary_key=True), Column("body", Text))


@pytest.fixture
async def logged(postgresql_url: str, no_stray_tasks: None) -> AsyncIterator[Logged]:
    async with opened(postgresql_url) as service:
        await service.make(LINES)
        yield service
        await service.left()


@pytest.fixture
def server() -> Iterator[PostgreSQLServer]:
    try:
        made = PostgreSQLServer().start()
    except ServerUnavailableError as error:
        unavailable(str(error))
    made.create_database("logged")
    yield made
    made.stop()


def keys(found: list[Chunk]) -> list[int]:
    return [change.key[0] for one in found for change in one.changes]


# -- the server goes away


async def test_a_restart_in_the_middle(server: PostgreSQLServer, no_stray_tasks: None) -> None:
    """The stream ends with an error that names the service, and goes on from what was saved: nothing is missing."""
    async with opened(server.url("logged")) as logged:
        await logged.make(LINES)
        feed = logged.feed("restart", LINES)
        saved = await feed.create()
        found: list[int] = []

        async def follow() -> None:
            nonlocal saved
            async with aclosing(feed.stream(saved)) as stream:
                async for one in stream:
                    found.extend(keys([one]))
                    if one.position is not None:
                        saved = one.position
                        await feed.confirm(saved)

        for start, stop in ((0, server.restart), (100, lambda: (server.kill(), server.restart()))):
            following = asyncio.create_task(follow())
            await logged.run(f"INSERT INTO logged_lines SELECT n FROM generate_series({start}, {start + 49}) n")
            async with asyncio.timeout(PATIENCE):
                while start + 49 not in found:
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(stop)
            with pytest.raises(ServiceUnavailableError, match="'logged'") as raised:
                await asyncio.wait_for(following, PATIENCE)
            assert server.password not in "".join(map(str, [raised.value, raised.value.__cause__]))
            with contextlib.suppress(StoreError):
                await logged.store.ping()  # Connections of the pool are not there any more, either.
            await logged.run(f"INSERT INTO logged_lines SELECT n FROM generate_series({start + 50}, {start + 99}) n")
        found += keys(await read(feed, saved, 50))
        assert sorted(set(found)) == list(range(200))


async def test_a_server_shuts_down_while_the_reader_is_behind(server: PostgreSQLServer) -> None:
    """It does not wait for what was read to be written and confirmed, and tells it again afterwards."""
    async with opened(server.url("logged")) as logged:
        await logged.make(LINES)
        feed = logged.feed("behind", LINES)
        start = await feed.create()
        async with aclosing(feed.stream(start)) as stream:
            await logged.run("INSERT INTO logged_lines VALUES (1)")
            await changes(stream, 1)
            await feed.confirm(start)
            restarting = asyncio.create_task(asyncio.to_thread(server.restart))
            with pytest.raises(ServiceUnavailableError):
                await chunks(stream, 1)
        await restarting
        assert "not properly shut down" not in server.log.read_text()
        with contextlib.suppress(StoreError):
            await logged.store.ping()
        assert keys(await read(feed, start, 1)) == [1]
        await feed.drop()


async def test_a_server_that_is_not_there(server: PostgreSQLServer) -> None:
    """Everything says so in fedorm's words."""
    async with opened(server.url("logged"), connect_timeout=2) as logged:
        await logged.make(LINES)
        feed = logged.feed("gone", LINES)
        start = await feed.create()
        server.kill()
        for ask in (feed.problems, feed.create, feed.drop, feed.retained, lambda: feed.backlog(start)):
            with pytest.raises(ServiceUnavailableError, match="'logged'"):
                await ask()
        with pytest.raises(ServiceUnavailableError, match="'logged'"):
            await read(feed, start, 1)


async def test_a_connection_that_is_ended(logged: Logged) -> None:
    """Also while the reader is busy elsewhere, and speaks of its position."""
    feed = logged.feed("ended", LINES)
    start = await feed.create()
    async with aclosing(feed.stream(start)) as stream:
        await logged.run("INSERT INTO logged_lines VALUES (1)")
        (one,) = await chunks(stream, 1)
        await logged.ask("SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE active")
        for _ in range(3):
            await feed.confirm(str(one.position))
            await asyncio.sleep(0.05)
        with pytest.raises(ServiceUnavailableError, match="'logged'"):
            await chunk(stream)
    assert keys(await read(feed, start, 1)) == [1]


# -- slow and dead readers


async def test_a_slow_reader_is_not_thrown_out(logged: Logged) -> None:
    """The server hears from us in time though nobody asks for the next chunk, and megabytes are on their way."""
    ((database,),) = await logged.ask("SELECT current_database()")
    await logged.run(f"ALTER DATABASE {database} SET wal_sender_timeout = '1500ms'")
    feed = logged.feed("slow", LINES)
    start = await feed.create()
    await logged.run("INSERT INTO logged_lines SELECT n, repeat('x', 2000) FROM generate_series(1, 20000) n")
    found: list[int] = []
    async with aclosing(feed.stream(start)) as stream:
        for _ in range(3):
            found += keys([await chunk(stream)])
            await asyncio.sleep(3)
        ((before,),) = await logged.readers()
        while len(found) < 20_000:
            found += keys([await chunk(stream)])
        await asyncio.sleep(3)
        await logged.run("INSERT INTO logged_lines VALUES (20001)")
        found += keys(await chunks(stream, 1))
        assert await logged.readers() == [(before,)]
    assert found == list(range(1, 20_002))


@pytest.mark.parametrize("moment", ["connecting", "waiting", "reading"])
async def test_nothing_is_left_of_a_cancelled_reader(logged: Logged, moment: str) -> None:
    """No connection, no task, and the slot can be read by the next."""
    feed = logged.feed("cancelled", LINES)
    start = await feed.create()
    if moment == "reading":
        await logged.run("INSERT INTO logged_lines SELECT n FROM generate_series(1, 50000) n")

    async def follow() -> None:
        async for _ in feed.stream(start):
            await asyncio.sleep(0)

    for pause in (0.0, 0.001, 0.005, 0.01, 0.02, 0.03) if moment == "connecting" else (0.2, 0.2):
        following = asyncio.create_task(follow())
        await asyncio.sleep(pause)
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
        await logged.left()
    await logged.run("INSERT INTO logged_lines VALUES (0)")
    assert 0 in keys(await read(feed, start, 50_001 if moment == "reading" else 1))


async def test_a_stream_that_is_closed_early(logged: Logged) -> None:
    """Before its first chunk, or in the middle of a transaction."""
    feed = logged.feed("closed", LINES)
    start = await feed.create()
    await feed.stream(start).aclose()  # type: ignore[attr-defined]
    await logged.run("INSERT INTO logged_lines SELECT n FROM generate_series(1, 12000) n")
    async with aclosing(feed.stream(start)) as stream:
        assert (await chunk(stream)).position is None
    await logged.left()
    assert keys(await read(feed, start, 12_000)) == list(range(1, 12_001))


async def test_a_slot_that_another_reads(logged: Logged) -> None:
    """Whoever comes second waits a moment and then says who is there; so do create() and drop()."""
    first, second = logged.feed("shared", LINES), logged.feed("shared", LINES)
    second.patience = 0.3
    start = await first.create()
    await logged.run("INSERT INTO logged_lines VALUES (1)")
    async with aclosing(first.stream(start)) as stream:
        await chunks(stream, 1)
        ((pid,),) = await logged.readers()
        for ask in (lambda: read(second, start, 1), second.create, second.drop):
            with pytest.raises(StoreError, match=rf"'logged'.*PID {pid}.*another process reads this feed") as raised:
                await ask()  # type: ignore[operator]
            assert type(raised.value) is StoreError
        second.patience = PATIENCE
        taking_over = asyncio.create_task(read(second, start, 1))
        await asyncio.sleep(0.3)
    assert keys(await taking_over) == [1]


# -- what is lost


async def test_what_is_lost(logged: Logged) -> None:
    """Each way in which the log does not reach back any more is told from a failure that passes."""
    feed = logged.feed("lost", LINES)
    start = await feed.create()

    async def lost(match: str, position: str = start, other: PostgreSQLFeed = feed) -> None:
        with pytest.raises(FeedLostError, match=rf"'logged'.*{match}.*fedorm sync backfill"):
            await read(other, position, 1)

    await lost("its log ends at", format_lsn(parse_lsn(start) + 2**40))
    await lost("no position", "12")
    await logged.run('DROP PUBLICATION "fedorm_lost"')
    await lost("does not tell of logged_lines")
    await feed.create()
    await logged.ask("SELECT pg_drop_replication_slot(:slot)", slot=feed.slot)
    await lost("there is no replication slot")
    for ask in (feed.retained, lambda: feed.backlog(start)):
        with pytest.raises(FeedLostError, match="there is no replication slot"):
            await ask()  # type: ignore[operator]
    await logged.ask("SELECT pg_create_logical_replication_slot(:slot, 'test_decoding')", slot=feed.slot)
    await lost("there is no replication slot .* of the plugin pgoutput")


async def test_a_key_that_the_log_does_not_tell(logged: Logged) -> None:
    """A table's identity that is changed behind our back makes a gap, which is no failure that passes."""
    feed = logged.feed("identity", LINES)
    start = await feed.create()
    await logged.run(
        "ALTER TABLE logged_lines ALTER body SET NOT NULL", "CREATE UNIQUE INDEX logged_bodies ON logged_lines (body)",
        "ALTER TABLE logged_lines REPLICA IDENTITY USING INDEX logged_bodies",
        "INSERT INTO logged_lines VALUES (1, 'a')", "DELETE FROM logged_lines",
    )  # fmt: skip
    with pytest.raises(
        FeedLostError, match=r"does not tell the key .* run  ALTER TABLE public.logged_lines REPLICA IDENT"
    ):
        await read(feed, start, 2)


async def test_a_slot_that_was_given_up(server: PostgreSQLServer) -> None:
    """A server that may keep no more of its log than it was set to says that the feed is lost."""
    async with opened(server.url("logged")) as logged:
        await logged.make(LINES)
        feed = logged.feed("given_up", LINES)
        start = await feed.create()
        await logged.alone("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        await logged.ask("SELECT pg_reload_conf()")
        async with asyncio.timeout(PATIENCE):  # A server reads its settings anew when it comes to it.
            while (await feed.retained()).safe_bytes is None:
                await asyncio.sleep(0.02)
        for _ in range(3):
            await logged.run(
                "INSERT INTO logged_lines SELECT n FROM generate_series(1, 1000) n", "TRUNCATE logged_lines"
            )
            await logged.ask("SELECT pg_switch_wal()")
            await logged.alone("CHECKPOINT")
        assert (await feed.retained()).wal_status == "lost"
        for ask in (lambda: read(feed, start, 1), lambda: feed.backlog(start)):
            with pytest.raises(FeedLostError, match=r"given up.*max_slot_wal_keep_size"):
                await ask()
        await feed.create()
        assert (await feed.retained()).wal_status == "reserved"
        await feed.drop()


# -- how it is connected


async def test_over_tls(tmp_path: Any) -> None:
    """The stream's own connection is encrypted as the others are, and brings what is larger than a TLS record."""
    certificates = make_certificates(tmp_path)
    with PostgreSQLServer(tls=certificates) as server:
        server.create_database("logged")
        async with opened(server.url("logged"), tls={"ca": str(certificates.ca)}) as logged:
            await logged.make(LINES)
            feed = logged.feed("tls", LINES)
            start = await feed.create()
            await logged.run("INSERT INTO logged_lines SELECT n, repeat('x', 100000) FROM generate_series(1, 300) n")
            async with aclosing(feed.stream(start)) as stream:
                assert keys(await chunks(stream, 300)) == list(range(1, 301))
                assert await logged.ask(
                    "SELECT ssl FROM pg_stat_ssl JOIN pg_replication_slots ON pid = active_pid"
                ) == [(True,)]
                for number in range(1000, 1020):
                    await logged.run(f"INSERT INTO logged_lines VALUES ({number}, repeat('y', 20000 + {number} * 13))")
                    assert keys(await chunks(stream, 1)) == [number]
            await logged.left()
            await feed.drop()


async def test_passwords_and_options(logged: Logged, postgresql_url: str) -> None:
    """A password that has to be encoded, options in the URL, and a limit for statements, which the stream has not."""
    url = make_url(postgresql_url)
    await logged.run(
        "DROP ROLE IF EXISTS logged_odd_user", "CREATE ROLE logged_odd_user LOGIN SUPERUSER PASSWORD 'p@s/s %:'"
    )
    try:
        odd = url.set(username="logged_odd_user", password="p@s/s %:")
        async with opened(odd.render_as_string(hide_password=False), timeout=1) as other:
            feed = other.feed("odd", LINES)
            start = await feed.create()
            async with aclosing(feed.stream(start)) as stream:
                waiting = asyncio.create_task(chunks(stream, 1))
                await asyncio.sleep(1.5)
                await logged.run("INSERT INTO logged_lines VALUES (7)")
                assert keys(await waiting) == [7]
            await other.left()
            await feed.drop()
    finally:
        await logged.run("DROP ROLE logged_odd_user")
