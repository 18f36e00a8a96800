"""What stands against the feed of a MariaDB database, and what it has lost."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, make_url

from fedorm.exc import ConfigurationError, FeedLostError, MissingDriverError
from fedorm.stores.base import Capability
from fedorm.testing.plugin import FreshDatabase
from fedorm.testing.servers import MariaDBServer
from tests.stores.feeding import read_changes, read_chunks, told
from tests.stores.mysql_logged import Logged, log, logged, own_server, pairs

__all__ = ["log", "own_server"]


async def test_settings_that_are_wrong(own_server: MariaDBServer) -> None:
    """Each setting that is not as it has to be is named with the statement that makes it so."""
    async with logged(own_server.url("logs")) as log:
        feed = await log.make(pairs())
        assert Capability.CHANGE_FEED in log.store.capabilities
        assert await feed.problems() == []
        log.run(
            "SET GLOBAL binlog_format = 'MIXED'",
            "SET GLOBAL binlog_row_image = 'MINIMAL'",
            "SET GLOBAL binlog_row_metadata = 'MINIMAL'",
            "SET GLOBAL log_bin_compress = ON",
            "DROP TABLE feed_pairs",
        )
        problems = await feed.problems()
        assert problems == [
            "binlog_format is 'MIXED' and has to be 'ROW': run  SET GLOBAL binlog_format = 'ROW'",
            "binlog_row_image is 'MINIMAL' and has to be 'FULL': run  SET GLOBAL binlog_row_image = 'FULL'",
            "binlog_row_metadata is 'MINIMAL' and has to be 'FULL': run  SET GLOBAL binlog_row_metadata = 'FULL'",
            "log_bin_compress is 'ON' and has to be 'OFF': run  SET GLOBAL log_bin_compress = OFF",
            "there is no table logs.feed_pairs: make it first",
        ]
        log.run(*(problem.partition("run  ")[2] or "SELECT 1" for problem in problems))
        await log.make(pairs())
        assert await feed.problems() == []


async def test_privileges_that_are_missing(own_server: MariaDBServer) -> None:
    """A user who may not read the log is told what to grant; with that, everything works."""
    url = own_server.url("logs")
    async with logged(url) as log:
        table = pairs()
        await log.make(table)
        log.run("CREATE USER reader@'%' IDENTIFIED BY 'secret'", "GRANT SELECT ON logs.* TO reader@'%'")
        own = make_url(url).set(username="reader", password="secret").render_as_string(hide_password=False)
        async with logged(own) as reading:
            feed = reading.feed(table)
            problems = await feed.problems()
            assert problems == [
                "the user has no REPLICATION SLAVE: run  GRANT REPLICATION SLAVE ON *.* TO 'reader'@'%'",
                "the user has no REPLICATION CLIENT: run  GRANT REPLICATION CLIENT ON *.* TO 'reader'@'%'",
            ]
            with pytest.raises(ConfigurationError, match="GRANT REPLICATION SLAVE, REPLICATION CLIENT ON"):
                await feed.create()
            position = await log.feed(table).create()
            with pytest.raises(ConfigurationError, match="GRANT REPLICATION SLAVE, REPLICATION CLIENT ON"):
                await read_changes(feed, position, 1)
            log.run(problems[1].partition("run  ")[2])
        async with logged(own) as reading:  # Privileges are those at the connection.
            feed = reading.feed(table)
            position = await feed.create()
            with pytest.raises(ConfigurationError, match="GRANT REPLICATION SLAVE, REPLICATION CLIENT ON"):
                await read_changes(feed, position, 1)
            log.run(problems[0].partition("run  ")[2], "INSERT INTO feed_pairs VALUES (1, 'a')")
            assert [change.key for change in await read_changes(feed, position, 1)] == [(1,)]
            assert await feed.problems() == []


async def test_a_log_that_cannot_be_read(own_server: MariaDBServer) -> None:
    """Rows without names of columns, compressed rows, and statements in the place of rows are no silent gaps."""
    async with logged(own_server.url("logs")) as log:
        feed = await log.make(pairs())
        log.run("SET GLOBAL log_bin_compress_min_len = 10")
        for wrong, right, error, message in (
            (
                "GLOBAL binlog_row_metadata = 'MINIMAL'",
                "GLOBAL binlog_row_metadata = 'FULL'",
                ConfigurationError,
                "names",
            ),
            ("GLOBAL log_bin_compress = ON", "GLOBAL log_bin_compress = OFF", ConfigurationError, "compressed"),
            ("SESSION binlog_format = 'STATEMENT'", "SESSION binlog_format = 'ROW'", FeedLostError, "statement"),
        ):
            position = await feed.create()
            log.run(f"SET {wrong}", "INSERT INTO feed_pairs VALUES (1, repeat('a', 50))", "DELETE FROM feed_pairs")
            log.run(f"SET {right}")
            with pytest.raises(error, match=message):
                await read_changes(feed, position, 1)


async def test_others_statements_are_none_of_ours(log: Logged, fresh_database: FreshDatabase) -> None:
    """Statements that are logged as such, for tables of the same name in another database, are passed over."""
    other = fresh_database("mysql")
    feed = await log.make(pairs())
    position = await feed.create()
    connection = log.connect(database=make_url(other).database)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE feed_pairs (id INT)")
        cursor.execute("SET SESSION binlog_format = 'STATEMENT'")
        cursor.execute("INSERT INTO feed_pairs VALUES (1)")
        cursor.execute("TRUNCATE feed_pairs")
    connection.close()
    log.run("INSERT INTO feed_pairs VALUES (5, 'a')")
    assert [change.key for change in await read_changes(feed, position, 1)] == [(5,)]


class SmallNames(MariaDBServer):
    """A server that writes all names in small letters."""

    def _command(self) -> list[str]:
        return [*super()._command(), "--lower-case-table-names=1"]


async def test_names_without_case() -> None:
    """Where the server writes names in small letters, tables are found that the model names otherwise."""
    with SmallNames() as server:
        server.create_database("logs")
        async with logged(server.url("logs")) as log:
            table = Table("Feed_Cased", MetaData(), Column("Id", Integer, primary_key=True))
            feed = await log.make(table)
            position = await feed.create()
            log.run("INSERT INTO FEED_CASED VALUES (5)", "TRUNCATE fEED_cASED")
            changes = await read_changes(feed, position, 2)
            assert [told(change) for change in changes] == [
                ("upsert", (5,), {"Id": 5}, None),
                ("truncate", (), None, None),
            ]


async def test_without_the_library(log: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without mysql-replication the error says which extra brings it."""
    monkeypatch.setitem(sys.modules, "pymysqlreplication", None)
    with pytest.raises(MissingDriverError, match=r"'mysql-replication'.*fedorm\[mysql\]"):
        log.feed(pairs())


async def test_a_log_that_is_gone(own_server: MariaDBServer) -> None:
    """A position whose file the server has removed is lost unless it was read to its end, or has no GTID."""
    async with logged(own_server.url("logs")) as log:
        feed = await log.make(pairs())
        position = await feed.create()
        log.run("INSERT INTO feed_pairs VALUES (1, 'a')", "FLUSH LOGS", "INSERT INTO feed_pairs VALUES (2, 'a')")
        chunks = await read_chunks(feed, position, lambda some: sum(len(one.changes) for one in some) == 2)
        end = str(chunks[-1].position)
        log.run("FLUSH LOGS")
        last = await feed.create()
        for _ in range(100):  # Not as long as the server may need a file for its own recovery.
            log.run(f"PURGE BINARY LOGS TO '{json.loads(last)['file']}'")
            with log.outside.cursor() as cursor:
                cursor.execute("SHOW BINARY LOGS")
                if cursor.rowcount == 1:
                    break
            await asyncio.sleep(0.1)
        with pytest.raises(FeedLostError, match=r"(?i)could not find"):
            await read_changes(feed, position, 1)
        told = json.loads(position)
        del told["gtid"]
        log.run("INSERT INTO feed_pairs VALUES (3, 'a')")
        assert [change.key for change in await read_changes(feed, last, 1)] == [(3,)]
        assert [change.key for change in await read_changes(feed, end, 1)] == [(3,)]
        log.run("SET GLOBAL server_id = 77")
        assert [change.key for change in await read_changes(feed, last, 1)] == [(3,)]
        with pytest.raises(FeedLostError, match="another server"):
            await read_changes(feed, json.dumps(told), 1)
        with pytest.raises(FeedLostError, match=r"does not have binlog\.000001"):
            await read_changes(feed, json.dumps(told | {"server": "77"}), 1)


async def test_backlog(log: Logged) -> None:
    """The backlog is the bytes behind a position, in all files; nothing at the end."""
    feed = await log.make(pairs())
    position = await feed.create()
    assert (await feed.backlog(position)).bytes == 0
    log.run("INSERT INTO feed_pairs SELECT seq, repeat('x', 50) FROM seq_1_to_1000")
    behind = (await feed.backlog(position)).bytes
    assert behind is not None
    assert 55_000 < behind < 80_000
    log.run("FLUSH LOGS", "INSERT INTO feed_pairs SELECT -seq, repeat('x', 50) FROM seq_1_to_1000")
    both = (await feed.backlog(position)).bytes
    assert both is not None
    assert 2 * 55_000 < both < 160_000
    await feed.confirm(position)
    await feed.drop()
    await feed.drop()
