"""The feed of a MariaDB database tells what was committed, as a select would return it, and in its order."""

from __future__ import annotations

import asyncio
import datetime
import enum
import json
import random
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any
from uuid import UUID

import pymysql
import pytest
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    Time,
    TypeDecorator,
    Uuid,
    insert,
    make_url,
    select,
)
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SAWarning
from sqlalchemy.util import greenlet_spawn

from fedorm import Federation
from fedorm.exc import ConfigurationError, FeedLostError, MissingDriverError, StoreError
from fedorm.stores.base import Capability
from fedorm.stores.feeds import ChangeFeed
from fedorm.stores.mysql import MySQLStore
from fedorm.stores.rows import RowShape
from fedorm.testing.servers import MariaDBServer
from tests.stores.feeding import apply, read_changes, read_chunks, shape_of, told

SERVICE = "feeds"


class Logged:
    """A service whose log is read, and what is done to it from outside."""

    def __init__(self, fed: Federation, url: str) -> None:
        store = fed.stores[SERVICE]
        assert isinstance(store, MySQLStore)
        self.store, self.url = store, url
        self.outside = self.connect()

    def connect(self, **options: Any) -> Any:
        url = make_url(self.url)
        place = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
        return pymysql.connect(**{**place, "database": url.database, "autocommit": True, **options})

    def run(self, *statements: str) -> None:
        """Run statements, over a connection that commits each that is in no transaction."""
        with self.outside.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    async def make(self, *tables: Table) -> ChangeFeed:
        """Make tables and a feed of them."""
        for table in tables:
            await self.store.create_all(table.metadata, [])
        return self.feed(*tables)

    def feed(self, *tables: Table) -> ChangeFeed:
        return self.store.change_feed("test", [shape_of(table) for table in tables])

    async def rows(self, table: Table) -> dict[Any, Any]:
        """Return the rows by key, as the store's engine for threads returns them."""

        def read(connection: Connection) -> dict[Any, Any]:
            found = connection.execute(select(table)).mappings()
            key = [column.name for column in table.primary_key]
            return {tuple(row[name] for name in key): dict(row) for row in found}

        def run() -> dict[Any, Any]:
            with self.store.sync_engine.connect() as connection:
                return read(connection)

        return await asyncio.to_thread(run)

    async def write(self, statement: Any, rows: Any = None) -> None:
        def run() -> None:
            with self.store.engine.begin() as connection:
                connection.execute(statement, rows)

        await greenlet_spawn(run)


@asynccontextmanager
async def logged(url: str, **settings: Any) -> AsyncIterator[Logged]:
    async with Federation({SERVICE: {"url": url, **settings}}) as fed:
        made = Logged(fed, url)
        try:
            yield made
        finally:
            made.outside.close()
            if made.store._sync_engine is not None:
                made.store._sync_engine.dispose()


@pytest.fixture
async def log(mysql_url: str, no_stray_tasks: None) -> AsyncIterator[Logged]:
    async with logged(mysql_url) as made:
        yield made


@pytest.fixture
def own_server() -> Iterator[MariaDBServer]:
    with MariaDBServer() as server:
        server.create_database("logs")
        yield server


def pairs() -> Table:
    """A table of a key and a text."""
    key = Column("id", Integer, primary_key=True, autoincrement=False)
    return Table("feed_pairs", MetaData(), key, Column("name", String(50)))


def row(key: int, name: str | None) -> dict[str, Any]:
    return {"id": key, "name": name}


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
    shape = type(shape)(SERVICE, "named", ("first", "second"), tuple(named), table, named)
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


# -- values


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(TypeDecorator[tuple[int, int]]):
    """Two numbers in a text; none are (0, 0)."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else f"{value[0]},{value[1]}"

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return (0, 0) if value is None else tuple(map(int, value.split(",")))


def generic() -> Table:
    return Table(
        "feed_generic",
        MetaData(),
        Column("id", Uuid, primary_key=True),
        *(Column("flag", Boolean), Column("whole", Integer), Column("real", Float), Column("exact", Numeric(12, 3))),
        *(Column("wide", Numeric), Column("approximate", Numeric(10, 2, asdecimal=False))),
        *(Column("short", String(20)), Column("long", Text), Column("raw", LargeBinary), Column("data", JSON)),
        *(Column("day", Date), Column("hour", Time), Column("moment", DateTime)),
        *(Column("instant", DateTime(timezone=True)), Column("color", Enum(Color)), Column("point", Point)),
    )


async def test_values_of_generic_types(log: Logged) -> None:
    """SQLAlchemy's own types, and a user's, have the values that a select returns: in all rows, NULL among them."""
    table = generic()
    feed = await log.make(table)
    position = await feed.create()
    first = {
        "id": UUID(int=1),
        "flag": True,
        "whole": -5,
        "real": 0.1 + 0.2,
        "exact": "-1.5",
        "wide": "12345678901234567890.000000000000000000000000000001",
        "approximate": 2.25,
        "short": "Grüße 😀",
        "long": "ж" * 1000,
        "raw": bytes(range(256)) * 10,
        "data": {"a": [1, None, "ü", 1.5], "b": {}},
        "day": datetime.date(2024, 2, 29),
        "hour": datetime.time(23, 59, 58, 999999),
        "moment": datetime.datetime(1, 1, 1, 0, 0, 0, 1),
        "instant": datetime.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=datetime.UTC),
        "color": Color.BLUE,
        "point": (3, -4),
    }
    none = dict.fromkeys(first)
    second, third = {**none, "id": UUID(int=2)}, {**none, "id": UUID(int=3), "data": [], "flag": False}
    await log.write(insert(table), [first, second, third])
    changes = await read_changes(feed, position, 3)
    rows = await log.rows(table)
    assert {change.key: change.values for change in changes} == rows
    assert rows[(UUID(int=1),)]["point"] == (3, -4)
    assert rows[(UUID(int=2),)]["point"] == (0, 0)
    for change in changes:
        assert change.values is not None
        assert {name: type(value) for name, value in change.values.items()} == {
            name: type(value) for name, value in rows[change.key].items()
        }


COLUMNS = {
    "t_bool": ("BOOLEAN", ["0", "1"]),
    "t_tiny": ("TINYINT", ["-128", "127", "0"]),
    "t_utiny": ("TINYINT UNSIGNED", ["0", "255"]),
    "t_small": ("SMALLINT", ["-32768", "32767"]),
    "t_usmall": ("SMALLINT UNSIGNED", ["65535"]),
    "t_medium": ("MEDIUMINT", ["-8388608", "8388607", "-1"]),
    "t_umedium": ("MEDIUMINT UNSIGNED", ["16777215"]),
    "t_int": ("INT", ["-2147483648", "2147483647"]),
    "t_uint": ("INT UNSIGNED ZEROFILL", ["4294967295", "7"]),
    "t_big": ("BIGINT", ["-9223372036854775808", "9223372036854775807"]),
    "t_ubig": ("BIGINT UNSIGNED", ["18446744073709551615"]),
    "t_float": ("FLOAT", ["1.1", "123456789", "-0.000012345678", "3.4e38", "16777216"]),
    "t_float2": ("FLOAT(9, 3)", ["12345.678", "-0.5"]),
    "t_double": ("DOUBLE", ["0.1", "1e308", "-1.7976931348623157e308", "123456789.123456789", "5e-324"]),
    "t_double2": ("DOUBLE(20, 4)", ["12345678901.2345"]),
    "t_dec": ("DECIMAL(10, 2)", ["-0.01", "12345678.90", "0", "-99999999.99"]),
    "t_dec0": ("DECIMAL(20)", ["12345678901234567890", "-1"]),
    "t_dec_all": ("DECIMAL(65, 30)", ["12345678901234567890123456789012345.012345678901234567890123456789", "-0.5"]),
    "t_dec_fraction": ("DECIMAL(9, 9)", ["0.123456789", "-0.000000001"]),
    "t_bit1": ("BIT(1)", ["b'1'", "b'0'"]),
    "t_bit10": ("BIT(10)", ["b'1000000001'"]),
    "t_bit64": ("BIT(64)", ["b'1'", "~0"]),
    "t_date": ("DATE", ["'2024-02-29'", "'0000-00-00'", "'2024-00-01'", "'9999-12-31'", "'1000-01-01'"]),
    "t_datetime": ("DATETIME", ["'2024-02-29 23:59:59'", "'0000-00-00 00:00:00'", "'0001-01-01 00:00:00'"]),
    "t_datetime1": ("DATETIME(1)", ["'2024-02-29 23:59:59.9'", "'0000-00-00 00:00:00'"]),
    "t_datetime3": ("DATETIME(3)", ["'2024-02-29 23:59:59.987'"]),
    "t_datetime6": ("DATETIME(6)", ["'2024-02-29 23:59:59.000001'", "'0000-00-00 00:00:00'"]),
    "t_timestamp": ("TIMESTAMP NULL", ["'2024-07-01 12:00:00'", "'0000-00-00 00:00:00'", "'1970-01-02 00:00:00'"]),
    "t_timestamp6": ("TIMESTAMP(6) NULL", ["'2024-01-01 12:00:00.123456'", "'2037-12-31 23:59:59.9'"]),
    "t_time": ("TIME", ["'10:11:12'", "'00:00:00'"]),
    "t_time2": ("TIME(2)", ["'10:11:12.34'"]),
    "t_span": ("TIME(6)", ["'-838:59:59'", "'838:59:58.999999'", "'-00:00:00.000001'", "'-00:00:01.5'"]),
    "t_span3": ("TIME(3)", ["'-838:59:58.999'", "'-00:00:00.001'"]),
    "t_year": ("YEAR", ["2024", "0", "1901", "2155"]),
    "t_char": ("CHAR(5)", ["'a '", "''", "'äöüßж'"]),
    "t_wide_char": ("CHAR(200)", ["'a'", "repeat('😀', 200)"]),
    "t_varchar": ("VARCHAR(5)", ["'a '", "''"]),
    "t_long_varchar": ("VARCHAR(2000)", ["repeat('ж', 2000)"]),
    "t_latin1": ("VARCHAR(20) CHARACTER SET latin1", ["'Grüße €'", "x'818d'"]),
    "t_ucs2": ("CHAR(20) CHARACTER SET ucs2", ["'Grüße'"]),
    "t_utf16": ("VARCHAR(20) CHARACTER SET utf16", ["'Grüße 😀'"]),
    "t_utf32": ("TEXT CHARACTER SET utf32", ["'Grüße 😀'"]),
    "t_koi8r": ("VARCHAR(20) CHARACTER SET koi8r", ["'привет'"]),
    "t_sjis": ("VARCHAR(20) CHARACTER SET sjis", ["'日本'"]),
    "t_greek": ("VARCHAR(20) CHARACTER SET greek", ["'αβγ'"]),
    "t_ascii": ("VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin", ["'abc'"]),
    "t_binary": ("BINARY(6)", ["'a'", "x'00ff00'", "'abcdef'"]),
    "t_varbinary": ("VARBINARY(6)", ["x'00ff00'", "''"]),
    "t_tinytext": ("TINYTEXT", ["'tiny ü'"]),
    "t_text": ("TEXT", ["repeat('ü', 30000)"]),
    "t_mediumtext": ("MEDIUMTEXT", ["repeat('ü', 40000)"]),
    "t_longtext": ("LONGTEXT", ["'long'"]),
    "t_tinyblob": ("TINYBLOB", ["x'00ff'"]),
    "t_blob": ("BLOB", ["x'00ff'"]),
    "t_mediumblob": ("MEDIUMBLOB", ["repeat(x'00ff', 40000)"]),
    "t_longblob": ("LONGBLOB", ["''"]),
    "t_enum": ("ENUM('a', 'bü', 'c,d')", ["'bü'", "'c,d'"]),
    "t_set": ("SET('z', 'a', 'ü')", ["'a,z'", "''", "'ü'"]),
    "t_big_set": (f"SET({', '.join(map(repr, (f'm{n}' for n in range(60))))})", ["'m59,m0'"]),
    "t_json": ("JSON", ['\'{"a": [1, 2.5, null, "ü"]}\'', "'null'", "'5'"]),
    "t_uuid": ("UUID", ["'12345678-9abc-1def-8012-3456789abcde'", "'12345678-9abc-4def-8012-3456789abc00'"]),
    "t_inet4": ("INET4", ["'10.0.0.1'", "'0.0.0.0'"]),
    "t_inet6": ("INET6", ["'::1'", "'2001:db8::ff00:42:8329'", "'::ffff:10.0.0.1'", "'::'"]),
    "t_point": ("POINT", ["ST_GeomFromText('POINT(1 2)')"]),
}


def typed(log: Logged) -> None:
    """Make a table with all types, and rows that have each column's values or NULL."""
    columns = ", ".join(f"{name} {kind} DEFAULT NULL" for name, (kind, _) in COLUMNS.items())
    log.run("SET SESSION sql_mode = ''", f"CREATE TABLE feed_types (id INT AUTO_INCREMENT PRIMARY KEY, {columns})")


def fill(log: Logged) -> int:
    most = max(len(values) for _, values in COLUMNS.values())
    for number in range(most):
        row = [values[number] if number < len(values) else "NULL" for _, values in COLUMNS.values()]
        log.run(f"INSERT INTO feed_types VALUES (NULL, {', '.join(row)})")
    return most


@pytest.mark.parametrize("zone", ["SYSTEM", "+05:30"])
@pytest.mark.parametrize("reflected", ["generic", "own"])
async def test_values_of_all_column_types(mysql_url: str, zone: str, reflected: str) -> None:
    """Each type of MariaDB's, as it is reflected by fedorm or by SQLAlchemy, has the values that a select returns."""
    zoned = {"connect_args": {"init_command": f"SET time_zone = '{zone}'"}}
    async with logged(mysql_url, options=zoned) as log:
        typed(log)
        metadata = MetaData()
        with log.store.sync_engine.connect() as connection, warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # SQLAlchemy does not know MariaDB's own types.
            if reflected == "generic":
                log.store.reflect_tables(connection, metadata, lambda name: True)
            else:
                metadata.reflect(connection)
        table = metadata.tables["feed_types"]
        feed = log.feed(table)
        assert await feed.problems() == []
        position = await feed.create()
        changes = await read_changes(feed, position, fill(log))
        rows = await log.rows(table)
        for change in changes:
            assert change.values is not None
            for name, value in rows[change.key].items():
                found = change.values[name]
                assert (type(found), found) == (type(value), value), (name, COLUMNS.get(name))
        assert {change.key for change in changes} == set(rows)


async def test_several_shapes_of_a_table(log: Logged) -> None:
    """A change of a table that several shapes are of comes once for each; two names of a column both have its value."""
    table = pairs()
    await log.make(table)
    whole, columns = shape_of(table), {"key": table.c.id, "again": table.c.id}
    part = RowShape(SERVICE, "part", ("key",), tuple(columns), table, columns)
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


async def test_without_the_library(log: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without mysql-replication the error says which extra brings it."""
    monkeypatch.setitem(sys.modules, "pymysqlreplication", None)
    with pytest.raises(MissingDriverError, match=r"'mysql-replication'.*fedorm\[mysql\]"):
        log.feed(pairs())


async def test_a_log_that_is_gone(own_server: MariaDBServer) -> None:
    """A position whose file the server has removed, or that is another server's, is lost."""
    async with logged(own_server.url("logs")) as log:
        feed = await log.make(pairs())
        position = await feed.create()
        log.run("INSERT INTO feed_pairs VALUES (1, 'a')", "FLUSH LOGS", "INSERT INTO feed_pairs VALUES (2, 'a')")
        assert len(await read_changes(feed, position, 2)) == 2
        log.run("FLUSH LOGS")
        last = await feed.create()
        for _ in range(100):  # Not as long as the server may need a file for its own recovery.
            log.run(f"PURGE BINARY LOGS TO '{json.loads(last)['file']}'")
            with log.outside.cursor() as cursor:
                cursor.execute("SHOW BINARY LOGS")
                if cursor.rowcount == 1:
                    break
            await asyncio.sleep(0.1)
        with pytest.raises(FeedLostError, match=r"does not have binlog\.000001"):
            await read_changes(feed, position, 1)
        log.run("INSERT INTO feed_pairs VALUES (3, 'a')")
        assert [change.key for change in await read_changes(feed, last, 1)] == [(3,)]
        log.run("SET GLOBAL server_id = 77")
        with pytest.raises(FeedLostError, match="another server"):
            await read_changes(feed, last, 1)


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


# -- life


async def test_a_chunk_comes_at_once(log: Logged) -> None:
    """A change that is committed while the stream waits comes by itself, and not with the next."""
    feed = await log.make(pairs())
    position = await feed.create()
    async with aclosing(feed.stream(position)) as stream:
        for number in range(3):
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0.2)
            log.run(f"INSERT INTO feed_pairs VALUES ({number}, 'a')")
            chunk = await asyncio.wait_for(waiting, 10)
            while not chunk.changes:
                chunk = await asyncio.wait_for(anext(stream), 10)
            assert [change.key for change in chunk.changes] == [(number,)]


async def test_others_changes_bring_the_position_forward(log: Logged) -> None:
    """Changes of tables that are not read come as a position without changes, so that the log may be removed."""
    feed = await log.make(pairs())
    log.run("CREATE TABLE feed_other (id INT)")
    position = await feed.create()
    log.run("INSERT INTO feed_other VALUES (1)", "FLUSH LOGS", "INSERT INTO feed_other VALUES (2)")
    chunks = await read_chunks(feed, position, lambda chunks: ".000001" not in str(chunks[-1].position))
    assert [change for chunk in chunks for change in chunk.changes] == []
    assert chunks[-1].position is not None
    behind = (await feed.backlog(chunks[-1].position)).bytes
    before = (await feed.backlog(position)).bytes
    assert behind is not None
    assert before is not None
    assert behind < before


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fedorm-")]


@pytest.mark.parametrize("ending", ["closed", "cancelled", "at once", "full"])
async def test_an_end_leaves_nothing(log: Logged, ending: str) -> None:
    """A stream that is closed or cancelled, waiting or with more than it can hand over, leaves no thread or link."""
    feed = await log.make(pairs())
    position = await feed.create()
    if ending == "full":
        log.run("INSERT INTO feed_pairs SELECT seq, 'a' FROM seq_1_to_60000")
    stream = feed.stream(position)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0 if ending == "at once" else 0.5)
    if ending == "full":
        assert len((await waiting).changes) >= 5_000
        await stream.aclose()
    else:
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        if ending == "closed":
            await stream.aclose()
    assert threads() == []
    with log.outside.cursor() as cursor:
        for _ in range(50):
            cursor.execute(
                "SELECT command FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"
                " AND command <> 'Sleep'"
            )
            left = cursor.fetchall()
            if not left:
                break
            await asyncio.sleep(0.02)
    assert left == ()


async def test_a_slow_reader_is_waited_for(own_server: MariaDBServer) -> None:
    """The server does not hang up on a stream whose reader is slow, and the reader's memory stays bounded."""
    async with logged(own_server.url("logs")) as log:
        feed = await log.make(pairs())
        log.run("SET GLOBAL net_write_timeout = 1")
        position = await feed.create()
        log.run("INSERT INTO feed_pairs SELECT seq, repeat('x', 50) FROM seq_1_to_200000")
        number = 0
        async with aclosing(feed.stream(position)) as stream:
            async for chunk in stream:
                if not number:
                    await asyncio.sleep(3)
                number += len(chunk.changes)
                if number >= 200_000:
                    break
        assert number == 200_000


async def test_a_server_that_goes_away(own_server: MariaDBServer) -> None:
    """A stream says that its server has crashed; begun again where it was, it misses nothing and repeats little."""
    async with logged(own_server.url("logs")) as log:
        feed = await log.make(pairs())
        position = await feed.create()
        log.run("INSERT INTO feed_pairs VALUES (1, 'a')")
        stream = feed.stream(position)
        chunk = await anext(stream)
        while not chunk.changes:
            chunk = await anext(stream)
        assert chunk.position is not None
        waiting = asyncio.ensure_future(anext(stream))
        log.run("INSERT INTO feed_pairs VALUES (2, 'a')")
        assert [change.key for change in (await waiting).changes] == [(2,)]
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.to_thread(own_server.kill)
        with pytest.raises(StoreError, match="service 'feeds'"):
            await waiting
        assert threads() == []
        with pytest.raises(StoreError):
            await anext(feed.stream(chunk.position))
        await asyncio.to_thread(own_server.restart)
        await greenlet_spawn(log.store.engine.dispose)
        log.outside = log.connect()
        log.run("INSERT INTO feed_pairs VALUES (3, 'a')")
        changes = await read_changes(feed, chunk.position, 2)
        assert [change.key for change in changes] == [(2,), (3,)]


async def test_a_server_that_says_nothing(own_server: MariaDBServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs is told from one that has nothing to say, by its heartbeats."""
    monkeypatch.setattr("fedorm.stores.mysql_log._SILENCE", 3)
    async with logged(own_server.url("logs")) as log:
        feed = await log.make(pairs())
        stream = feed.stream(await feed.create())
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(5)
        assert not waiting.done()
        own_server.suspend()
        try:
            with pytest.raises(StoreError, match="timed out"):
                await asyncio.wait_for(waiting, 20)
        finally:
            own_server.resume()
        assert threads() == []


# -- a snapshot and the stream


class Writer(threading.Thread):
    """Changes rows at random until it is told to stop; some by transactions of two phases."""

    def __init__(self, log: Logged, seed: int) -> None:
        super().__init__(name=f"writer {seed}")
        self.random, self.connection = random.Random(seed), log.connect(autocommit=True)
        self.stopped = threading.Event()
        self.number = 0
        self.seed = seed

    def run(self) -> None:
        with self.connection.cursor() as cursor:
            while not self.stopped.is_set():
                try:
                    self.write(cursor)
                except pymysql.OperationalError as error:
                    if error.args[0] not in (1213, 1205):  # A deadlock.
                        raise
                    cursor.execute("ROLLBACK")
                except pymysql.IntegrityError:
                    cursor.execute("ROLLBACK")
        self.connection.close()

    def write(self, cursor: Any) -> None:
        key, other = self.random.randrange(2_000), self.random.randrange(2_000)
        self.number += 1
        name = f"{self.seed} {self.number}"
        kind = self.random.random()
        if kind < 0.1 and self.seed == 0:
            self.in_two_phases(cursor, key, name)
            return
        cursor.execute("BEGIN")
        if kind < 0.5:
            cursor.execute("REPLACE INTO feed_pairs VALUES (%s, %s)", (key, name))
        elif kind < 0.7:
            cursor.execute("DELETE FROM feed_pairs WHERE id = %s", (key,))
        elif kind < 0.8:
            cursor.execute("UPDATE feed_pairs SET id = %s WHERE id = %s", (other, key))
        else:
            cursor.execute("UPDATE feed_pairs SET name = %s WHERE id BETWEEN %s AND %s", (name, key, key + 3))
        cursor.execute("ROLLBACK" if kind > 0.95 else "COMMIT")

    def in_two_phases(self, cursor: Any, key: int, name: str) -> None:
        branch = f"'{name}', 'b', 7"
        cursor.execute(f"XA START {branch}")
        try:
            cursor.execute("UPDATE feed_pairs SET name = %s WHERE id = %s", (name, key))
        except pymysql.OperationalError:
            cursor.execute(f"XA END {branch}")
            cursor.execute(f"XA ROLLBACK {branch}")
            return
        cursor.execute(f"XA END {branch}")
        cursor.execute(f"XA PREPARE {branch}")
        cursor.execute(f"XA {self.random.choice(['COMMIT', 'COMMIT', 'ROLLBACK'])} {branch}")


@pytest.mark.parametrize("seed", range(3))
async def test_a_snapshot_and_the_stream_have_no_gap(log: Logged, seed: int) -> None:
    """Rows read page by page after the feed is made, and then its changes, end as the table does, whoever writes."""
    table = pairs()
    feed = await log.make(table)
    log.run("INSERT INTO feed_pairs SELECT seq, 'first' FROM seq_1_to_1000")
    writers = [Writer(log, number) for number in range(3)]
    for writer in writers:
        writer.random.seed((seed, writer.seed).__hash__())
        writer.start()
    try:
        await asyncio.sleep(0.2)
        position = await feed.create()
        copy: dict[Any, Any] = {}
        for begin in range(0, 2_000, 100):
            page = select(table).where(table.c.id.between(begin, begin + 99))

            def read(page: Any = page) -> list[dict[str, Any]]:
                with log.store.engine.connect() as connection:
                    return [dict(one) for one in connection.execute(page).mappings()]

            copy.update({(one["id"],): one for one in await greenlet_spawn(read)})
            await asyncio.sleep(0.01)
        # Begun again now and then, as after a crash: from the position that was saved last.
        for _ in range(4):
            chunks = await read_chunks(feed, position, lambda chunks: len(chunks) == 5)
            for chunk in chunks:
                apply(copy, chunk.changes)
                position = chunk.position or position
    finally:
        for writer in writers:
            writer.stopped.set()
        for writer in writers:
            await asyncio.to_thread(writer.join)
    log.run("INSERT INTO feed_pairs VALUES (9999, 'last')")
    for chunk in await read_chunks(feed, position, lambda chunks: (9999,) in [one.key for one in chunks[-1].changes]):
        apply(copy, chunk.changes)
    assert copy == await log.rows(table)
