"""Positions of MariaDB's log are found by their GTIDs where files have other names, and on other servers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fedorm.exc import FeedLostError
from fedorm.stores.feeds import ChangeFeed
from fedorm.testing.servers import MariaDBServer
from tests.stores.feeding import read_chunks
from tests.stores.mysql_logged import Logged, logged, own_server, pairs

__all__ = ["own_server"]


async def read_to(feed: ChangeFeed, position: str, number: int) -> tuple[list[Any], str]:
    """The keys of so many changes, and the position behind them."""
    chunks = await read_chunks(feed, position, lambda some: sum(len(one.changes) for one in some) >= number)
    assert chunks[-1].position is not None
    return [change.key for chunk in chunks for change in chunk.changes], chunks[-1].position


def follow(replica: Logged, primary: Logged, server: MariaDBServer) -> None:
    """Let a replica have all that its primary has, and then be one no more."""
    with primary.outside.cursor() as cursor:
        cursor.execute("SELECT @@gtid_binlog_pos")
        (reached,) = cursor.fetchone()
    replica.run(
        "RESET MASTER",
        f"CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {server.port}, MASTER_USER = '{server.user}', "
        f"MASTER_PASSWORD = '{server.password}', MASTER_USE_GTID = slave_pos",
        "START SLAVE",
        f"SELECT MASTER_GTID_WAIT('{reached}', 60)",
        "STOP SLAVE",
        "RESET SLAVE ALL",
    )


async def test_another_server_goes_on_where_the_first_was_read_up_to(own_server: MariaDBServer) -> None:
    """A replica's log has the same transactions elsewhere; what was read of the first, and it lacks, is refused."""
    with MariaDBServer(settings={"server-id": "2", "log_slave_updates": "ON"}) as other:
        async with logged(own_server.url("logs")) as log:
            feed = await log.make(pairs())
            start = await feed.create()
            log.run("INSERT INTO feed_pairs VALUES (1, 'a')")
            keys, read = await read_to(feed, start, 1)
            log.run("FLUSH LOGS", "CREATE TABLE feed_aside (id INT)", "INSERT INTO feed_pairs VALUES (2, 'a')")
            async with logged(other.url()) as replica:
                follow(replica, log, own_server)
                replica.run("INSERT INTO logs.feed_pairs VALUES (3, 'a')")
            log.run("INSERT INTO feed_pairs VALUES (9, 'a')")
            _, beyond = await read_to(feed, read, 2)
        async with logged(other.url("logs")) as replica:
            feed = replica.feed(pairs())
            more, at = await read_to(feed, read, 2)
            assert (keys, more, json.loads(at)["server"]) == ([(1,)], [(2,), (3,)], "2")
            replica.run("INSERT INTO feed_pairs VALUES (4, 'a')")
            assert (await read_to(feed, at, 1))[0] == [(4,)]
            with pytest.raises(FeedLostError, match="not in the master's binlog"):
                await read_to(feed, beyond, 1)
