"""The feed of a MariaDB database tells what was committed in its order."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, Text, make_url

from fedorm.exc import StoreError
from fedorm.stores.rows import RowShape
from tests.stores.feeding import read_changes, read_chunks, shape_of, told
from tests.stores.mysql_logged import Logged, log, pairs, row

__all__ = ["log"]


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
