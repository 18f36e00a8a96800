"""MongoDB: Beanie documents over PyMongo's own asynchronous client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from sqlalchemy import MetaData

from fedorm.config import ServiceSettings
from fedorm.exc import (
    ConfigurationError,
    ServiceTimeoutError,
    StaleDocumentError,
    UnsupportedOperationError,
)
from fedorm.stores.base import Capability, collection_name
from fedorm.stores.bson_types import class_filter, field_name
from fedorm.stores.conditions import DocumentScan
from fedorm.stores.decisions import DocumentDecisions
from fedorm.stores.feeds import ChangeFeed
from fedorm.stores.mongodb_errors import classify
from fedorm.stores.mongodb_findings import MongoDBExamining
from fedorm.stores.positions import PositionLog
from fedorm.stores.readers import DocumentReader, KeptDocuments
from fedorm.stores.reflecting import Wanted
from fedorm.stores.rows import RowAccess, RowShape
from fedorm.stores.sides import TwoSided
from fedorm.stores.writes import Writes


@dataclass(slots=True)
class _Side:
    """One client and its database: the asynchronous side, or the one that threads reach through a bridge."""

    client: Any
    database: Any
    transactions: bool = False
    has_outbox: bool = False
    """Whether the outbox is known to be there."""
    decisions: DocumentDecisions | None = None


class MongoDBStore(TwoSided[_Side], MongoDBExamining):
    """A MongoDB database; transactions where the server is a replica set or a sharded cluster."""

    kind = "mongodb"
    extra = "mongodb"
    history = "fedorm.migrate.beanie_history:BeanieHistory"
    batch_size = 500
    most_keys = 2_000
    may_have = frozenset({Capability.TRANSACTIONS, Capability.CHANGE_FEED})

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        super().__init__(service, settings)
        for package in ("pymongo", "beanie"):
            try:
                __import__(package)
            except ModuleNotFoundError as error:
                raise self.missing_driver(package) from error
        try:
            path = urlsplit(settings.url.get_secret_value()).path.strip("/")
        except ValueError:
            raise ConfigurationError(
                f"service {service!r}: {settings.address} is not a URL: is the port a number, and are @ / ? # [ ] in a "
                f"password percent-encoded, or the password in the environment?"
            ) from None
        if not path:
            raise ConfigurationError(
                f"service {service!r}: {settings.address} names no database; write mongodb://host:27017/inventory"
            )
        self.database_name = unquote(path)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Documents and updates; transactions and a log once an open server has said that it has them."""
        known = {Capability.DOCUMENTS, Capability.STREAMING, Capability.UPDATES, Capability.TLS}
        if any(side.transactions for side in self.sides.values()):
            known |= {Capability.TRANSACTIONS, Capability.CHANGE_FEED}
        return frozenset(known)

    # -- lifetime

    async def ping(self, *, sync: bool = False) -> None:
        """Run the ``ping`` command."""
        async with self.named(), asyncio.timeout(self.settings.connect_timeout + 1):
            await self.side(sync=sync).database.command("ping")

    async def greet(self, *, sync: bool) -> None:
        """Learn what the server can do, and bind the service's documents."""
        from beanie import init_beanie

        side = self.side(sync=sync)
        async with self.named(), asyncio.timeout(self.settings.connect_timeout + 1):
            hello = await side.database.command("hello")
            await side.database.command("ping")
            await side.client[self.database_name].list_collection_names(nameOnly=True)
            side.transactions = "setName" in hello or hello.get("msg") == "isdbgrid"
            models = self.models()
            if models:
                await init_beanie(database=side.database, document_models=models, skip_indexes=True)

    def make_side(self) -> _Side:
        """Make a client."""
        from fedorm.stores.mongodb_client import made_client

        client = made_client(self.service, self.settings, self.sent)
        return _Side(client, client[self.database_name])

    async def end_side(self, side: _Side) -> None:
        """Close the client."""
        await side.client.close()

    def connect(self) -> Any:
        """Return PyMongo's database of a client of its own, which the caller closes."""
        return self.make_side().database

    def collection(self, model: type[Any], *, sync: bool) -> Any:
        """Return PyMongo's collection of a document model."""
        return self.side(sync=sync).database[collection_name(model)]

    def own_collection(self, name: str, *, sync: bool) -> Any:
        """Return PyMongo's collection of one of fedorm's own."""
        return self.side(sync=sync).database[name]

    def own_database(self, *, sync: bool = False) -> Any:
        """Return PyMongo's database."""
        return self.side(sync=sync).database

    # -- errors

    @asynccontextmanager
    async def named(self) -> AsyncIterator[None]:
        """Turn the driver's errors into fedorm's."""
        from bson.errors import BSONError
        from pymongo.errors import PyMongoError

        try:
            yield
        except (BSONError, OverflowError, UnicodeError) as error:
            raise self.error(UnsupportedOperationError, error) from error
        except TimeoutError as error:
            raise self.error(ServiceTimeoutError, f"no answer within {self.settings.connect_timeout:g} s") from error
        except (PyMongoError, OSError) as error:
            raise self.error(classify(error), error) from error

    # -- transactions

    async def begin(self, *, sync: bool) -> Any:
        """Start a transaction; the server hears of it with the first operation."""
        side = self.side(sync=sync)
        if not side.transactions:
            return None
        session = side.client.start_session()
        await session.start_transaction()
        return session

    async def commit(self, transaction: Any) -> None:
        """Commit and give the session back."""
        try:
            async with self.named():
                await transaction.commit_transaction()
        finally:
            await transaction.end_session()

    async def abort(self, transaction: Any) -> None:
        """Undo; PyMongo itself keeps quiet about a server that is gone."""
        from pymongo.errors import PyMongoError

        with suppress(PyMongoError):
            if transaction.in_transaction:
                await transaction.abort_transaction()
        await transaction.end_session()

    def decisions(self, *, sync: bool) -> DocumentDecisions:
        """Return the log in the collection ``fedorm_decisions``."""
        from fedorm.stores.mongodb_decisions import MongoDBDecisions

        side = self.side(sync=sync)
        if side.decisions is None:
            side.decisions = MongoDBDecisions(side.database, self.named)
        return side.decisions

    def change_feed(self, name: str, shapes: Sequence[RowShape]) -> ChangeFeed:
        """Read a change stream; nothing is made on the server, so that the name does not matter."""
        from fedorm.stores.mongodb_feed import MongoDBFeed

        return MongoDBFeed(self, shapes)

    # -- reading and writing

    async def find(
        self, model: type[Any], query: Any, *, sort: Any = None, transaction: Any = None, sync: bool = False
    ) -> list[dict[str, Any]]:
        """Read all documents that match, in one cursor."""
        async with self.named():
            cursor = self.collection(model, sync=sync).find(_encode(query), session=transaction, sort=sort or None)
            found: list[dict[str, Any]] = await cursor.to_list(None)
            return found

    async def reflect_tables(self, metadata: MetaData, wanted: Wanted, *, sync: bool) -> None:
        """Go by a collection's validator, and by a sample of its documents for what it leaves open."""
        from fedorm.stores.mongodb_reflection import reflect_collections

        async with self.named():
            await reflect_collections(self.side(sync=sync).database, metadata, wanted)

    async def row_counts(self, *, sync: bool = False) -> dict[str, float]:
        """Ask for the collections' own counters; a class counts as many as its collection."""
        from fedorm.stores.entity_table import COLLECTION

        database = self.side(sync=sync).database
        tables = self.document_tables()
        async with self.named():
            collections = {table.info[COLLECTION] for table in tables}
            counts = {name: float(await database[name].estimated_document_count()) for name in collections}
        return {table.name: counts[table.info[COLLECTION]] for table in tables}

    async def read(self, wanted: DocumentScan, *, transaction: Any = None, sync: bool = False) -> list[tuple[Any, ...]]:
        """Read by ``find``: conditions and keys as its filter, the fields as its projection."""
        from fedorm.stores.entity_table import COLLECTION
        from fedorm.stores.mongodb_columns import FieldTypeError
        from fedorm.stores.mongodb_scan import find_rows

        name = wanted.table.info[COLLECTION]
        try:
            async with self.named():
                collection = self.side(sync=sync).database[name]
                return await find_rows(collection, wanted, self.batch_size, transaction)
        except FieldTypeError as error:
            raise self.error(UnsupportedOperationError, f"collection {name!r}: {error}") from error

    def describe(self, wanted: DocumentScan) -> str:
        """Return the ``find`` that would be sent."""
        from fedorm.stores.mongodb_scan import described

        return described(wanted)

    async def find_keys(
        self,
        model: type[Any],
        fields: Sequence[str],
        keys: Sequence[tuple[Any, ...]],
        *,
        where: Any = None,
        sort: Any = None,
        transaction: Any = None,
        sync: bool = False,
    ) -> list[dict[str, Any]]:
        """Look up by ``$in``, keys of several fields by ``$or``."""
        if not keys:
            return []
        names = [field_name(model, field) for field in fields]
        query: dict[str, Any] = (
            {names[0]: {"$in": [key[0] for key in keys]}}
            if len(names) == 1
            else {"$or": [dict(zip(names, key, strict=True)) for key in keys]}
        )
        conditions = [class_filter(model)] if class_filter(model) else []
        if where is not None:
            made = where(model)
            conditions += made if isinstance(made, tuple | list) else [made]
        if conditions:
            query = {"$and": [query, *conditions]}
        order = [(field_name(model, name.lstrip("-+")), -1 if name.startswith("-") else 1) for name in sort or ()]
        return await self.find(model, query, sort=order, transaction=transaction, sync=sync)

    async def write(self, writes: Writes, *, transaction: Any, sync: bool) -> None:
        """Send inserts as one block, updates and deletes as another."""
        from fedorm.stores.mongodb_writing import send

        async with self.named():
            stale = await send(self.collection(writes.model, sync=sync), writes, transaction)
        if stale:
            raise StaleDocumentError(
                f"service {self.service!r}: {stale[0]} document(s) of {writes.model.__name__} were to be changed or "
                f"deleted, {stale[1]} were still there as they had been read; read them again and repeat"
            )

    async def prepare_events(self, *, sync: bool) -> None:
        """Make the collection, asked once for each client."""
        from fedorm.stores.mongodb_outbox import make_outbox

        side = self.side(sync=sync)
        if not side.has_outbox:
            async with self.named():
                await make_outbox(side.database)
            side.has_outbox = True

    async def write_events(self, events: Sequence[dict[str, Any]], *, transaction: Any, sync: bool) -> None:
        """Take positions from a counter beside the transaction, and insert the events within it."""
        from fedorm.stores.mongodb_outbox import insert_events

        await self.prepare_events(sync=sync)
        async with self.named():
            await insert_events(self.side(sync=sync).database, events, transaction)

    async def count_keys(
        self, model: type[Any], names: Sequence[str], *, transaction: Any = None, sync: bool = False
    ) -> dict[tuple[Any, ...], int]:
        """Let the server group them."""
        stored = {name: f"${field_name(model, name)}" for name in names}
        own = [{"$match": class_filter(model)}] if class_filter(model) else []
        async with self.named():
            cursor = await self.collection(model, sync=sync).aggregate(
                [*own, {"$group": {"_id": stored, "n": {"$sum": 1}}}], session=transaction
            )
            return {tuple(one["_id"].get(name) for name in names): one["n"] async for one in cursor}

    def positions(self) -> PositionLog:
        """Keep them in the collection ``fedorm_sync_positions``."""
        from fedorm.stores.mongodb_positions import MongoDBPositions

        return MongoDBPositions(self)

    def kept(self, *, sync: bool) -> KeptDocuments:
        """Read all collections, and write what differs."""
        from fedorm.stores.mongodb_kept import MongoDBKept

        return MongoDBKept(self, sync=sync)

    def row_access(self, shape: RowShape) -> RowAccess:
        """Return what reads and writes whole documents of one class."""
        from fedorm.stores.mongodb_rows import MongoDBRowAccess

        return MongoDBRowAccess(self, shape)

    def query(self, reader: DocumentReader, model: type[Any], conditions: Sequence[Any], *, sync: bool) -> Any:
        """Return a Beanie ``FindMany`` over the session's own database."""
        from fedorm.stores.find import SessionFind

        own_class = class_filter(model)
        return SessionFind(self, reader, model, sync=sync).find_many(*([own_class] if own_class else []), *conditions)

    # -- schema

    async def create_all(self, metadata: MetaData, documents: Sequence[type[Any]]) -> None:
        """Make collections, and the indexes and validators that the documents declare."""
        from beanie import init_beanie

        from fedorm.stores.mongodb_schema import validation_of

        side = self.side(sync=False)
        async with self.named():
            there = set(await side.database.list_collection_names())
            validation: dict[str, dict[str, Any]] = {}
            for model in documents:
                validation.setdefault(collection_name(model), {}).update(validation_of(model))
            for name in sorted(validation.keys() - there):
                await side.database.create_collection(name, **validation[name])
            await init_beanie(database=side.database, document_models=list(documents), skip_indexes=False)

    async def drop_all(self, metadata: MetaData, documents: Sequence[type[Any]]) -> None:
        """Drop the collections."""
        async with self.named():
            for name in sorted({collection_name(model) for model in documents}):
                await self.side(sync=False).database.drop_collection(name)


def _encode(query: Any) -> Any:
    from beanie.odm.utils.encoder import Encoder

    return Encoder().encode(query)
