"""The feed of a MariaDB database tells what was committed in its order, and what stands against that."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, Text, make_url

from fedorm.exc import ConfigurationError, FeedLostError, MissingDriverError, StoreError
from fedorm.stores.base import Capability
from fedorm.stores.rows import RowShape
from fedorm.testing.plugin import FreshDatabase
from fedorm.testing.servers import MariaDBServer
from tests.stores.feeding import read_changes, read_chunks, shape_of, told
from tests.stores.mysql_logged import Logged, log, logged, own_server, pairs, row

__all__ = ["log", "own_server"]


# -- what was done


async def test_changes_come_in_their_order_with_what_was_before(log: Logged) -> None:
    """Inserts, updates, changes of a key and deletes come as they were committed, each with the row before."""
    feed = await log.make(pairs())
    position = await feed.create()
    log.run(
        "INSERT INTO feed_pairs VALUES (1, 'a'), (2, NULL)",
        "UPDATE feed_pairs SET name = 'b' WHERE id = 1",
        "UPDATE feed_pairs SET id = 7 WHERE id = 1",
        "DELETE FROM feed_pairs WHERE id = 2",
        "REPLACE INTO feed_pairs VALUES (7, 'c')",
        "INSERT INTO feed_pairs VALUES (7, 'x') ON DUPLICATE KEY UPDATE name = 'd'",
    )
    changes = await read_changes(feed, position, 7)
    assert [told(change) for change in changes] == [
        ("upsert", (1,), row(1, "a"), None),
        ("upsert", (2,), row(2, None), None),
        ("upsert", (1,), row(1, "b"), row(1, "a")),
        ("upsert", (7,), row(7, "b"), row(1, "b")),
        ("delete", (2,), None, row(2, None)),
        ("upsert", (7,), row(7, "c"), row(7, "b")),
        ("upsert", (7,), row(7, "d"), row(7, "c")),
    ]


async def test_attributes_of_models_are_the_names(log: Logged) -> None:
    """Values and keys have the names of a shape's fields, not those of the columns, and only those are there."""
    table = Table(
        "feed_named",
        MetaData(),
        Column("a_key", Integer, primary_key=True),
        Column("unwanted", Text),
        Column("b_key", String(10), primary_key=True),
        Column("c", Integer),
    )
    await log.make(table)
    shape = shape_of(table)
    named = {"second": table.c.b_key, "first": table.c.a_key, "value": table.c.c}
    shape = RowShape(shape.service, "named", ("first", "second"), tuple(named), table, named)
    feed = log.store.change_feed("test", [shape])
    position = await feed.create()
    log.run("INSERT INTO feed_named VALUES (1, 'long', 'x', 5)", "DELETE FROM feed_named")
    changes = await read_changes(feed, position, 2)
    assert [told(change) for change in changes] == [
        ("upsert", (1, "x"), {"first": 1, "second": "x", "value": 5}, None),
        ("delete", (1, "x"), None, {"first": 1, "second": "x", "value": 5}),
    ]


async def test_truncate(log: Logged) -> None:
    """TRUNCATE of a table that is read comes as a change without a key, however it is written; others' do not come."""
    feed = await log.make(pairs())
    log.run("CREATE TABLE feed_other (id INT)")
    database = make_url(log.url).database
    position = await feed.create()
    log.run(
        "/* first */ TRUNCATE TABLE feed_pairs",
        "TRUNCATE feed_other",
        "USE mysql",
        f"truncate `{database}` . `feed_pairs` WAIT 1",
        f"USE {database}",
        "INSERT INTO feed_pairs VALUES (1, 'a')",
    )
    changes = await read_changes(feed, position, 3)
    assert [told(change) for change in changes] == [
        ("truncate", (), None, None),
        ("truncate", (), None, None),
        ("upsert", (1,), row(1, "a"), None),
    ]


async def test_what_is_undone_does_not_come(log: Logged) -> None:
    """Rollbacks, and rollbacks to savepoints, leave nothing: not in the log, and not where the log holds them."""
    feed = await log.make(pairs())
    log.run("CREATE TABLE feed_myisam (id INT PRIMARY KEY) ENGINE = MyISAM")
    position = await feed.create()
    log.run(
        *("BEGIN", "INSERT INTO feed_pairs VALUES (1, 'a')", "ROLLBACK"),
        # A temporary table makes the server write down the whole transaction, and how it ended.
        *("BEGIN", "CREATE TEMPORARY TABLE temporary_one (id INT)"),
        *("INSERT INTO feed_pairs VALUES (2, 'a')", "ROLLBACK"),
        *("BEGIN", "CREATE TEMPORARY TABLE temporary_two (id INT)"),
        *("INSERT INTO feed_pairs VALUES (3, 'a')", "SAVEPOINT `one two`", "INSERT INTO feed_pairs VALUES (4, 'a')"),
        *("SAVEPOINT other", "INSERT INTO feed_pairs VALUES (5, 'a')", "ROLLBACK TO other"),
        *("ROLLBACK TO `one two`", "INSERT INTO feed_pairs VALUES (6, 'a')", "COMMIT"),
        # What cannot be undone is not: a transaction of its own in the log.
        *("BEGIN", "INSERT INTO feed_pairs VALUES (7, 'a')", "INSERT INTO feed_myisam VALUES (1)", "ROLLBACK"),
    )
    myisam = Table("feed_myisam", MetaData(), Column("id", Integer, primary_key=True))
    changes = await read_changes(log.feed(pairs(), myisam), position, 3)
    assert [(change.shape.label, change.key) for change in changes] == [
        ("feed_pairs", (3,)),
        ("feed_pairs", (6,)),
        ("feed_myisam", (1,)),
    ]


async def test_tables_changed_in_between(log: Logged) -> None:
    """Columns that are added before, between and behind, dropped or widened do not mix up the others."""
    feed = await log.make(pairs())
    position = await feed.create()
    log.run(
        "INSERT INTO feed_pairs VALUES (1, 'a')",
        "ALTER TABLE feed_pairs ADD COLUMN amount DECIMAL(10, 2) DEFAULT 5 FIRST, ADD COLUMN more TEXT AFTER id",
        "INSERT INTO feed_pairs (id, name, more) VALUES (2, 'b', 'x')",
        "ALTER TABLE feed_pairs MODIFY id BIGINT, DROP COLUMN more, MODIFY name TEXT",
        f"INSERT INTO feed_pairs (id, name) VALUES (3, '{'c' * 300}')",
        "ALTER TABLE feed_pairs DROP COLUMN name",
        "UPDATE feed_pairs SET amount = 6 WHERE id = 3",
    )
    changes = await read_changes(feed, position, 4)
    assert [told(change) for change in changes] == [
        ("upsert", (1,), row(1, "a"), None),
        ("upsert", (2,), row(2, "b"), None),
        ("upsert", (3,), row(3, "c" * 300), None),
        ("upsert", (3,), {"id": 3}, {"id": 3}),
    ]


# -- transactions


async def test_large_transactions_come_in_parts(log: Logged) -> None:
    """Parts of a large transaction have no position but the last; small ones that wait come together."""
    feed = await log.make(pairs())
    position = await feed.create()
    log.run(
        "INSERT INTO feed_pairs SELECT seq, 'a' FROM seq_1_to_12000",
        *(f"INSERT INTO feed_pairs VALUES ({number}, 'b')" for number in range(20_000, 20_010)),
    )
    before = time.time()
    chunks = await read_chunks(feed, position, lambda chunks: sum(len(one.changes) for one in chunks) == 12_010)
    parts = [chunk for chunk in chunks if chunk.position is None]
    assert [change.key for chunk in chunks for change in chunk.changes] == [
        *((number,) for number in range(1, 12_001)),
        *((number,) for number in range(20_000, 20_010)),
    ]
    assert len(parts) == 2
    assert all(5_000 <= len(chunk.changes) < 6_000 and chunk.committed_at is None for chunk in parts)
    assert chunks[: len(parts)] == parts
    for chunk in chunks[len(parts) :]:
        assert chunk.committed_at is not None
        assert before - 60 < chunk.committed_at < before + 60


async def test_each_position_is_where_to_go_on(log: Logged) -> None:
    """From the position of any chunk a stream yields what comes behind that chunk, also into another file."""
    feed = await log.make(pairs())
    position = await feed.create()
    positions: list[str] = [position]
    for number in range(3):
        log.run(
            f"INSERT INTO feed_pairs VALUES ({number * 2}, 'a')",
            f"INSERT INTO feed_pairs VALUES ({number * 2 + 1}, 'a')",
            "FLUSH LOGS",
        )
        chunks = await read_chunks(feed, positions[-1], lambda chunks: sum(len(one.changes) for one in chunks) == 2)
        assert chunks[-1].position is not None
        positions.append(chunks[-1].position)
    for number, start in enumerate(positions[:-1]):
        changes = await read_changes(feed, start, 6 - 2 * number)
        assert [change.key for change in changes] == [(key,) for key in range(2 * number, 6)]


async def test_two_phases(log: Logged) -> None:
    """A prepared transaction comes when it is committed, in the place of its commit, and never if it is not."""
    feed = await log.make(pairs())
    position = await feed.create()
    branch = "XA {0} 'g{1}', 'b', 7"

    def prepare(number: int) -> Any:
        connection = log.connect()
        with connection.cursor() as cursor:
            cursor.execute(branch.format("START", number))
            cursor.execute(f"INSERT INTO feed_pairs VALUES ({number}, 'xa')")
            cursor.execute(branch.format("END", number))
            cursor.execute(branch.format("PREPARE", number))
        return connection

    kept, undone, later = prepare(1), prepare(2), prepare(3)
    log.run("INSERT INTO feed_pairs VALUES (10, 'plain')")
    for connection, end in ((undone, "ROLLBACK"), (kept, "COMMIT")):
        with connection.cursor() as cursor:
            cursor.execute(branch.format(end, 2 if connection is undone else 1))
        connection.close()
    log.run(
        *(branch.format("START", 4), "INSERT INTO feed_pairs VALUES (4, 'xa')", branch.format("END", 4)),
        f"{branch.format('COMMIT', 4)} ONE PHASE",
    )
    chunks = await read_chunks(feed, position, lambda chunks: sum(len(one.changes) for one in chunks) == 3)
    assert [change.key for chunk in chunks for change in chunk.changes] == [(10,), (1,), (4,)]
    # Begun again behind all of these, the log is read from where the one was prepared that is still open.
    again = chunks[-1].position
    assert again is not None
    with later.cursor() as cursor:
        log.run("INSERT INTO feed_pairs VALUES (11, 'plain')")
        cursor.execute(branch.format("COMMIT", 3))
    later.close()
    changes = await read_changes(feed, again, 2)
    assert [change.key for change in changes] == [(11,), (3,)]


async def test_a_feed_is_made_once_nothing_is_prepared(log: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is prepared before a feed is made would be missed at its commit: the feed waits, and says for what."""
    feed = await log.make(pairs())
    log.run("XA START 'held'", "INSERT INTO feed_pairs VALUES (1, 'xa')", "XA END 'held'", "XA PREPARE 'held'")
    making = asyncio.create_task(feed.create())
    await asyncio.sleep(0.3)
    assert not making.done()
    log.run("XA COMMIT 'held'", "INSERT INTO feed_pairs VALUES (2, 'a')")
    position = await making
    log.run("INSERT INTO feed_pairs VALUES (4, 'a')")
    changes = await read_changes(feed, position, 1)
    assert [change.key for change in changes] == [(4,)]
    monkeypatch.setattr("fedorm.stores.mysql_feed._UNDECIDED", 0.1)
    log.run("XA START 'held'", "INSERT INTO feed_pairs VALUES (3, 'xa')", "XA END 'held'", "XA PREPARE 'held'")
    with pytest.raises(StoreError, match="fedorm recover"):
        await feed.create()
    log.run("XA ROLLBACK 'held'")


async def test_several_shapes_of_a_table(log: Logged) -> None:
    """A change of a table that several shapes are of comes once for each; two names of a column both have its value."""
    table = pairs()
    await log.make(table)
    whole, columns = shape_of(table), {"key": table.c.id, "again": table.c.id}
    part = RowShape(whole.service, "part", ("key",), tuple(columns), table, columns)
    feed = log.store.change_feed("test", [whole, part])
    position = await feed.create()
    log.run("INSERT INTO feed_pairs VALUES (1, 'a')", "TRUNCATE feed_pairs")
    changes = await read_changes(feed, position, 4)
    assert [(change.shape.label, *told(change)) for change in changes] == [
        ("feed_pairs", "upsert", (1,), row(1, "a"), None),
        ("part", "upsert", (1,), {"key": 1, "again": 1}, None),
        ("feed_pairs", "truncate", (), None, None),
        ("part", "truncate", (), None, None),
    ]


async def test_images_that_are_not_full(log: Logged) -> None:
    """Fields that the log does not tell are not in the values; the key is there."""
    feed = await log.make(pairs())
    position = await feed.create()
    log.run(
        "SET SESSION binlog_row_image = 'MINIMAL'",
        "INSERT INTO feed_pairs VALUES (1, 'a')",
        "UPDATE feed_pairs SET name = 'b'",
        "UPDATE feed_pairs SET id = 2",
        "DELETE FROM feed_pairs",
    )
    changes = await read_changes(feed, position, 4)
    assert [told(change) for change in changes] == [
        ("upsert", (1,), row(1, "a"), None),
        ("upsert", (1,), {"name": "b"}, {"id": 1}),
        ("upsert", (2,), {"id": 2}, {"id": 1}),
        ("delete", (2,), None, {"id": 2}),
    ]


# -- what stands against it


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
