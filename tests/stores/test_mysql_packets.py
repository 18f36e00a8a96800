"""Events are read from their packets as they are written, whatever a table's width and whoever else writes."""

from __future__ import annotations

from sqlalchemy import Column, Integer, MetaData, Table

from tests.stores.feeding import read_changes, told
from tests.stores.mysql_logged import Logged, log, own_server, pairs, row

__all__ = ["log", "own_server"]


async def test_a_table_of_three_hundred_columns_is_read(log: Logged) -> None:
    """The number of columns takes more than a byte from 251 on."""
    names = [f"c{number}" for number in range(300)]
    table = Table(
        "feed_wide",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        *(Column(name, Integer) for name in names),
    )
    feed = await log.make(table)
    position = await feed.create()
    values = ", ".join(str(number) for number in range(300))
    log.run(
        f"INSERT INTO feed_wide VALUES (1, {values})",
        "UPDATE feed_wide SET c0 = NULL, c299 = -1",
        "DELETE FROM feed_wide",
    )
    whole = {"id": 1} | {name: number for number, name in enumerate(names)}
    changed = whole | {"c0": None, "c299": -1}
    assert [told(change) for change in await read_changes(feed, position, 3)] == [
        ("upsert", (1,), whole, None),
        ("upsert", (1,), changed, whole),
        ("delete", (1,), None, changed),
    ]


async def test_changes_of_other_tables_are_passed_over(log: Logged) -> None:
    """Between changes that are wanted there may be any number of others, in the same transaction or not."""
    feed = await log.make(pairs())
    log.run("CREATE TABLE feed_unwanted (id INTEGER PRIMARY KEY, name TEXT)")
    position = await feed.create()
    log.run(
        "INSERT INTO feed_unwanted VALUES (1, 'a')",
        "INSERT INTO feed_pairs VALUES (1, 'a')",
        "BEGIN",
        "INSERT INTO feed_unwanted VALUES (2, 'b')",
        "UPDATE feed_unwanted SET name = 'c'",
        "UPDATE feed_pairs SET name = 'b'",
        "DELETE FROM feed_unwanted",
        "COMMIT",
        "FLUSH TABLES",
        "INSERT INTO feed_unwanted VALUES (3, 'd')",
        "INSERT INTO feed_pairs VALUES (2, 'c')",
        "FLUSH BINARY LOGS",
        "INSERT INTO feed_unwanted VALUES (4, 'e')",
        "INSERT INTO feed_pairs VALUES (3, 'd')",
    )
    assert [told(change) for change in await read_changes(feed, position, 4)] == [
        ("upsert", (1,), row(1, "a"), None),
        ("upsert", (1,), row(1, "b"), row(1, "a")),
        ("upsert", (2,), row(2, "c"), None),
        ("upsert", (3,), row(3, "d"), None),
    ]
