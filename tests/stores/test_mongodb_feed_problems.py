"""What stands against the feed of a MongoDB database, and what it has lost."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import SecretStr

from fedorm import FederatedDocument
from fedorm.config import ServiceSettings
from fedorm.exc import ConfigurationError, FeedLostError
from fedorm.stores.base import Capability
from fedorm.stores.mongodb import MongoDBStore
from fedorm.testing.servers import MongoDBServer
from tests.stores.feeding import read_changes
from tests.stores.mongodb_logged import SERVICE, FedThing, Logged, log, logged, shape

__all__ = ["log"]


class FedKeyed(FederatedDocument):
    __service__ = SERVICE
    sku: str

    class Settings:
        name = "fed_keyed"


async def test_a_server_that_can(log: Logged) -> None:
    """A replica set has nothing against it; a feed needs ids as keys, as those alone are told of deleted documents."""
    assert Capability.CHANGE_FEED in log.store.capabilities
    feed = log.feed()
    assert await feed.problems() == []
    keyed = log.feed(shape(FedKeyed, key=("sku",)))
    (problem,) = await keyed.problems()
    assert "use  id  as the key" in problem
    with pytest.raises(ConfigurationError, match="FedKeyed"):
        await keyed.create()


class ShortLog(MongoDBServer):
    """A server that keeps a thousand entries of its log."""

    def _command(self) -> list[str]:
        command = super()._command()
        if not command[0].endswith("secantusd-py"):
            pytest.skip("mongod keeps 990 MB of its log at least")
        return [*command, "--oplog-max-entries", "1000"]


async def test_a_log_that_is_too_short() -> None:
    """A position that the server's log does not reach back to is lost, and so is one that it does not know."""
    with ShortLog() as server:
        async with logged(server.url("documents")) as log:
            feed = log.feed()
            position = await feed.create()
            broken = position.replace('"_data": "', '"_data": "00')
            assert broken != position
            with pytest.raises(FeedLostError, match="resume token"):
                await read_changes(feed, broken, 1)
            for number in range(4):
                log.things.insert_many([{"_id": number * 1_000 + one} for one in range(1_000)])
            with pytest.raises(FeedLostError, match="no longer be in the oplog"):
                await read_changes(feed, position, 1)


async def test_a_user_who_may_not(no_stray_tasks: None) -> None:
    """A user who may not read changes is told what to run, and who may reads them."""
    with MongoDBServer(auth=True) as server, server.admin.client() as client:
        database = client["documents"]
        place = f"mongodb://{{}}:secret@127.0.0.1:{server.port}/documents?authSource=documents"
        database.command("createUser", "reader", pwd="secret", roles=[{"role": "read", "db": "documents"}])
        store = MongoDBStore(SERVICE, ServiceSettings(url=SecretStr(place.format("reader"))))
        await store.open()
        try:
            feed = store.change_feed("test", [shape(FedThing)])
            assert await feed.problems() == []
            position = await feed.create()
            database["fed_things"].insert_one({"_id": 1})
            assert [change.key for change in await read_changes(feed, position, 1)] == [(1,)]
            database.command("revokeRolesFromUser", "reader", roles=[{"role": "read", "db": "documents"}])
            (problem,) = await feed.problems()
            assert "db.grantRolesToUser(<user>, [{role: 'read', db: 'documents'}])" in problem
            assert "secret" not in problem
            with pytest.raises(ConfigurationError, match="grantRolesToUser"):
                await read_changes(feed, position, 1)
        finally:
            await store.close()


async def test_backlog(log: Logged) -> None:
    """The backlog is the seconds between a position and the log's end."""
    feed = log.feed()
    position = await feed.create()
    behind = await feed.backlog(position)
    assert behind.seconds is not None
    assert behind.seconds <= 2
    await asyncio.sleep(2.1)
    log.things.insert_one({"_id": 1})
    later = await feed.backlog(position)
    assert later.seconds is not None
    assert later.seconds >= 2
    await feed.confirm(position)
    await feed.drop()
