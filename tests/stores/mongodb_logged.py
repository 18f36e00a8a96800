"""A MongoDB service whose log is read, and what is done to it from outside."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel
from pymongo import MongoClient

from fedorm import FederatedDocument, Federation
from fedorm.stores.feeds import ChangeFeed
from fedorm.stores.mongodb import MongoDBStore
from fedorm.stores.rows import RowShape
from fedorm.testing.servers import MongoDBServer

SERVICE = "documents_fed"


class FedPart(BaseModel):
    name: str
    number: int = 0


class FedThing(FederatedDocument):
    __service__ = SERVICE
    id: int  # type: ignore[assignment]
    name: str = ""
    price: Decimal | None = None
    parts: list[FedPart] = []
    owner: UUID | None = None
    made: datetime.datetime | None = None
    extra: dict[str, Any] | None = None

    class Settings:
        name = "fed_things"


def shape(model: type[FederatedDocument], *fields: str, key: tuple[str, ...] = ("id",)) -> RowShape:
    return RowShape(SERVICE, model.__name__, key, fields or tuple(model.model_fields), document=model)


class Logged:
    """A service whose log is read, and a client of its own that changes it from outside."""

    def __init__(self, fed: Federation, url: str) -> None:
        store = fed.stores[SERVICE]
        assert isinstance(store, MongoDBStore)
        self.store, self.url = store, url
        self.client: MongoClient[Any] = MongoClient(url, uuidRepresentation="standard", tz_aware=True)
        self.database = self.client.get_default_database()
        self.things = self.database["fed_things"]

    def feed(self, *shapes: RowShape) -> ChangeFeed:
        return self.store.change_feed("test", shapes or [shape(FedThing)])


@asynccontextmanager
async def logged(url: str, **settings: Any) -> AsyncIterator[Logged]:
    async with Federation({SERVICE: {"url": url, "connect_timeout": 2, **settings}}) as fed:
        made = Logged(fed, url)
        try:
            yield made
        finally:
            made.client.close()


@pytest.fixture
async def log(mongodb_url: str, no_stray_tasks: None) -> AsyncIterator[Logged]:
    async with logged(mongodb_url) as made:
        yield made


@pytest.fixture
def own_server() -> Iterator[MongoDBServer]:
    with MongoDBServer() as server:
        yield server


def commit(log: Logged, documents: list[dict[str, Any]], *, undo: bool = False) -> None:
    with log.client.start_session() as session:
        session.start_transaction()
        log.things.insert_many(documents, session=session)
        session.abort_transaction() if undo else session.commit_transaction()
