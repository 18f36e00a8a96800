"""The values in a MariaDB database's log are those that a select returns."""

from __future__ import annotations

import datetime
import enum
import os
import subprocess
import warnings
from typing import Any
from uuid import UUID

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
)
from sqlalchemy.dialects.mysql import TIMESTAMP
from sqlalchemy.exc import SAWarning
from sqlalchemy.util import greenlet_spawn

from fedorm.exc import ConfigurationError
from fedorm.testing.servers import MariaDBServer
from tests.stores.feeding import read_changes
from tests.stores.mysql_logged import Logged, log, logged, own_server

__all__ = ["log", "own_server"]


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


async def times(log: Logged) -> list[dict[str, Any]]:
    """Return what the log tells of a table with times, after it was held against what a select returns."""
    table = Table(
        "feed_times",
        MetaData(),
        Column("id", Integer, primary_key=True),
        *(Column("t", TIMESTAMP), Column("t6", TIMESTAMP(fsp=6)), Column("d", DateTime)),
    )
    await log.make(table)
    feed = log.feed(table)
    position = await feed.create()
    for number, moment in enumerate(("2024-01-01 12:00:00", "2024-07-01 12:00:00", "2024-10-27 02:30:00")):
        log.run(f"INSERT INTO feed_times VALUES ({number + 1}, '{moment}', '{moment}.25', '{moment}')")
    changes = await read_changes(feed, position, 3)
    assert {change.key: change.values for change in changes} == await log.rows(table)
    return [change.values or {} for change in changes]


async def test_times_in_a_zone_with_a_name(own_server: MariaDBServer) -> None:
    """A TIMESTAMP is seen in the sessions' zone, in summer and in winter."""
    name = "Europe/Berlin"
    zones = subprocess.run(["mariadb-tzinfo-to-sql", f"/usr/share/zoneinfo/{name}", name], capture_output=True)
    url = make_url(own_server.url())
    place = ["-h", str(url.host), "-P", str(url.port), "-u", str(url.username)]
    client = ["mariadb", *place, "mysql"]
    subprocess.run(client, input=zones.stdout, env={**os.environ, "MYSQL_PWD": str(url.password)}, check=True)
    async with logged(own_server.url("logs")) as log:
        log.run(f"SET GLOBAL time_zone = '{name}'", f"SET time_zone = '{name}'")
        await greenlet_spawn(log.store.engine.dispose)
        found = await times(log)
        assert [values["t"] for values in found] == [values["d"] for values in found]


async def test_times_in_a_zone_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server tells only a zone's short name, the problem says how to give it one that is known."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    with MariaDBServer() as server:
        server.create_database("logs")
        async with logged(server.url("logs")) as log:
            with pytest.raises(ConfigurationError, match=r"time zone 'IST' .* SET GLOBAL time_zone = '\+00:00'"):
                await times(log)
            log.run("DROP TABLE feed_times", "SET GLOBAL time_zone = '+05:30'")
            await greenlet_spawn(log.store.engine.dispose)
            await times(log)
