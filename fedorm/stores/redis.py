"""Redis: records, pydantic models that are hashes or JSON texts, over redis-py's asynchronous connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import MetaData

from fedorm.config import ServiceSettings
from fedorm.exc import ConfigurationError, ServiceTimeoutError, StoreError, UnsupportedOperationError
from fedorm.stores.base import Capability, batches
from fedorm.stores.conditions import Both, DocumentScan
from fedorm.stores.findings import Finding, Needs
from fedorm.stores.matching import condition_from, ordered, predicate_of
from fedorm.stores.positions import PositionLog
from fedorm.stores.pydantic_models import PydanticModels
from fedorm.stores.readers import KeptDocuments
from fedorm.stores.reflecting import Wanted
from fedorm.stores.rows import RowAccess, RowShape
from fedorm.stores.sides import TwoSided
from fedorm.stores.writes import Writes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedorm.stores.redis_client import RedisClient
    from fedorm.stores.redis_codec import Codec, Keys, Raw
    from fedorm.stores.redis_transaction import RedisTransaction


class RedisStore(TwoSided["RedisClient"], PydanticModels):
    """One database of a Redis server. A transaction is held back in the client, and sent as one MULTI/EXEC."""

    kind = "redis"
    extra = "redis"
    batch_size = 10_000
    most_keys = 1_000_000
    no_feed = "keeps no log of changes: its keyspace notifications are lost to whoever is not connected just then"
    has_schema = False
    commits_after_rows = True

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        super().__init__(service, settings)
        try:
            from fedorm.stores.redis_client import RedisClient
        except ModuleNotFoundError as error:
            raise self.missing_driver("redis") from error
        database = self.address.partition("://")[2].partition("/")[2]
        if database.strip("/") and not database.isdecimal():  # redis-py would pass over it, and take the database 0.
            raise ConfigurationError(
                f"service {service!r}: {self.address} names the database {database!r}, and Redis has numbers for them: "
                f"write redis://host:6379/0, and give records a name of their own by  Settings.name"
            )
        self._make_client: Callable[[], Any] = lambda: RedisClient(service, settings, self.sent)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What a session has written can be undone up to its commit, as nothing is sent before."""
        return frozenset({Capability.DOCUMENTS, Capability.TRANSACTIONS, Capability.UPDATES, Capability.TLS})

    @property
    def keeps_own(self) -> bool:
        """No: what is read in such a transaction is not as of it."""
        return False

    def entity_base(self) -> type[Any]:
        """Return ``FederatedRecord``."""
        from fedorm.stores.redis_records import FederatedRecord

        return FederatedRecord

    # -- lifetime

    def make_side(self) -> RedisClient:
        """Make a client."""
        client: RedisClient = self._make_client()
        return client

    async def end_side(self, side: RedisClient) -> None:
        """Close the connections."""
        await side.close()

    async def ping(self, *, sync: bool = False) -> None:
        """Send PING."""
        async with self.named(), asyncio.timeout(self.settings.connect_timeout + 1):
            await self.client(sync=sync).ask(b"PING")

    async def version(self) -> str | None:
        """Ask the server for its own part of INFO."""
        return (await self._info(b"server")).get("redis_version")

    async def findings(self, needs: Needs) -> list[Finding]:
        """Ask whether records stay where they are written, and whether it takes writes."""
        memory, role = await self._info(b"memory"), await self._info(b"replication")
        found = []
        if memory.get("maxmemory", "0") != "0" and memory.get("maxmemory_policy") != "noeviction":
            problem = (
                f"the server drops records when its memory is full: maxmemory-policy is {memory['maxmemory_policy']}"
            )
            found.append(Finding(problem, "run  CONFIG SET maxmemory-policy noeviction", is_error=False))
        if role.get("role") == "slave":
            problem, mend = "the server is a replica, and takes no writes", "give the service the URL of the primary"
            found.append(Finding(problem, f"{mend}, unless it is only read", is_error=bool(needs.written)))
        return found

    async def _info(self, part: bytes) -> dict[str, str]:
        async with self.named():
            told: bytes = await self.client(sync=False).ask(b"INFO", part)
        pairs = (line.partition(":") for line in told.decode().splitlines() if not line.startswith("#"))
        return {name: value for name, _, value in pairs}

    def client(self, *, sync: bool) -> RedisClient:
        """Return the connections of a side."""
        return self.side(sync=sync)

    @asynccontextmanager
    async def named(self) -> AsyncIterator[None]:
        """Turn redis-py's errors into fedorm's."""
        from redis.exceptions import RedisError

        from fedorm.stores.redis_client import classify

        try:
            yield
        except TimeoutError as error:
            raise self.error(ServiceTimeoutError, "did not answer in time") from error
        except (RedisError, OSError) as error:
            raise self.error(classify(error), error) from error

    async def create_all(self, metadata: MetaData, documents: Sequence[type[Any]]) -> None:
        """Do nothing: keys need nothing to be there before them."""

    async def drop_all(self, metadata: MetaData, documents: Sequence[type[Any]]) -> None:
        """Delete every record."""
        async with self.named():
            client = self.client(sync=False)
            for model in documents:
                codec = self.codec(model)
                for some in batches([codec.key(one) for one in await self.identities(codec)], 1000):
                    await client.ask(b"UNLINK", *some)

    # -- transactions

    async def begin(self, *, sync: bool) -> RedisTransaction:
        """Begin to hold back."""
        return self.transaction(sync=sync, holds=False)

    def transaction(self, *, sync: bool, holds: bool) -> RedisTransaction:
        """Return a transaction; ``holds``: that watches keys from the moment on that they are written to."""
        from fedorm.stores.redis_transaction import RedisTransaction

        return RedisTransaction(self.client(sync=sync), self._fail, holds=holds)

    def _fail(self, kind: type[StoreError], text: str) -> StoreError:
        return self.error(kind, text)

    async def commit(self, transaction: RedisTransaction) -> None:
        """Send it all."""
        async with self.named():
            await transaction.commit()

    async def abort(self, transaction: RedisTransaction) -> None:
        """Forget it all."""
        await transaction.close()

    # -- documents

    @staticmethod
    def codec(model: type[Any]) -> Codec:
        """Return how records of a class are kept."""
        from fedorm.stores.redis_codec import codec_of

        return codec_of(model)  # type: ignore[arg-type] # mypy does not take a class for hashable

    def parse(self, model: type[Any], raw: Raw) -> Any:
        """Let the class make a record of what Redis holds."""
        try:
            return self.codec(model).parse(raw)
        except ValueError as error:
            raise self.invalid(model, raw.get("id"), error) from error

    def parse_many(self, model: type[Any], raw: Sequence[Raw]) -> list[Any]:
        """Let the class make them all."""
        try:
            return self.codec(model).parse_many(raw)
        except ValueError:
            return super().parse_many(model, raw)  # Which names the one that does not fit.

    def encode(self, document: Any) -> Raw:
        """Return what Redis is to hold."""
        with self.fitting(type(document).__name__):
            return self.codec(type(document)).encode(document)

    @contextmanager
    def fitting(self, name: str) -> Iterator[None]:
        """Refuse values that cannot be kept."""
        from fedorm.stores.redis_codec import UnfitValueError

        try:
            yield
        except UnfitValueError as error:
            raise self.error(UnsupportedOperationError, f"cannot keep {name} with {error}") from error

    async def notify(self, document: Any, event: str, *, before: bool) -> None:
        """Forget how long a record is to live, once that was written."""
        from fedorm.stores.redis_records import TTL

        if not before:
            document.__dict__.pop(TTL, None)

    # -- reading

    async def get_many(
        self, codec: Keys, ids: Iterable[Any], *, transaction: Any = None, sync: bool = False, makes: bool = False
    ) -> list[Raw]:
        """Return the records that are there, as they are kept; all are asked for in one round trip.

        ``makes`` says that all will be parsed, by the codec's class: then this is begun while they come.
        """
        from fedorm.stores.redis_making import Making

        wanted = list(dict.fromkeys(ids))
        with self.fitting(codec.name):
            keys = codec.keys(wanted)
        own: dict[bytes, Raw | None] = transaction.records if transaction is not None else {}
        mine = [own[key] for key in keys if key in own]
        if mine:
            rest = [(one, key) for one, key in zip(wanted, keys, strict=True) if key not in own]
            wanted, keys = [one for one, _ in rest], [key for _, key in rest]
        making = Making(cast("Codec", codec), wanted) if makes and codec.is_json else None
        async with self.named():
            answers = await self.client(sync=sync).records(codec, keys, making)
        found = codec.raw_many(wanted, answers)
        if making is not None:
            making.put_into(found)
        return [raw for raw in mine if raw is not None] + found

    async def identities(self, codec: Keys, *, transaction: Any = None, sync: bool = False) -> list[Any]:
        """Return the ids of all records of a class, by SCAN."""
        own = transaction.records if transaction is not None else {}
        found: dict[Any, None] = {}
        async with self.named():
            keys = [key async for some in self.client(sync=sync).scan(codec.prefix) for key in some]
        for key in (*keys, *own):
            if key.startswith(codec.prefix) and own.get(key, key) is not None:
                try:
                    found[codec.identity(key)] = None
                except ValueError:
                    if codec.has_others:
                        continue  # Another class's, or another program's.
                    problem = f"{codec.name}: the id in {key!r} is not what the others of the sample were"
                    raise self.error(UnsupportedOperationError, problem) from None
        return list(found)

    async def find(
        self, model: Any, query: Any, *, sort: Any = None, transaction: Any = None, sync: bool = False
    ) -> list[Raw]:
        """Ask for records by their ids where the conditions name them, else read all of a class; look at each."""
        from fedorm.stores.redis_scan import known_ids

        codec, found = self.codec(model), []
        every, where = known_ids(codec, condition_from(query))
        if every is None:
            every = await self.identities(codec, transaction=transaction, sync=sync)
        for ids in batches(every, self.batch_size):
            found += await self.get_many(codec, ids, transaction=transaction, sync=sync)
        return self._chosen(model, found, where, sort)

    def _chosen(self, model: Any, found: list[Raw], query: Any, sort: Any) -> list[Raw]:
        where = condition_from(query)
        if where == Both() and not sort:
            return found
        fulfils = predicate_of(where, exact=True)
        pairs = [(raw, self.parse(model, raw).__dict__) for raw in found]
        try:
            chosen = [pair for pair in pairs if fulfils(pair[1])]
            return [raw for raw, _ in ordered(chosen, sort or (), lambda pair, name: pair[1][name])]
        except KeyError as error:
            raise self.error(UnsupportedOperationError, f"{model.__name__} has no field {error}") from None

    async def find_keys(
        self,
        model: Any,
        fields: Sequence[str],
        keys: Sequence[tuple[Any, ...]],
        *,
        where: Any = None,
        sort: Any = None,
        transaction: Any = None,
        sync: bool = False,
    ) -> list[Raw]:
        """Ask for records by their ids; by other fields, read all of them."""
        if not keys:
            return []
        conditions = [] if where is None else where(model)
        if tuple(fields) == ("id",):
            ids = [one for (one,) in keys]
            is_all = where is None and not sort
            found = await self.get_many(self.codec(model), ids, transaction=transaction, sync=sync, makes=is_all)
            return found if is_all else self._chosen(model, found, conditions, sort)
        wanted = set(keys)
        found = await self.find(model, conditions, sort=sort, transaction=transaction, sync=sync)
        return [raw for raw in found if self.key_of(model, raw, fields) in wanted]

    # -- writing

    async def write(self, writes: Writes, *, transaction: Any, sync: bool) -> None:
        """Look whether everything can be written, and hold it back."""
        from fedorm.stores.redis_writing import record_writes

        codec = self.codec(writes.model)
        with self.fitting(writes.model.__name__):
            made, after = record_writes(codec, writes)
        async with self.named():
            await transaction.add(made)
        transaction.records |= after

    # -- selects over several services

    async def reflect_tables(self, metadata: MetaData, wanted: Wanted, *, sync: bool) -> None:
        """Go by what stands before the first colon of keys, and by a sample of what they hold."""
        from fedorm.stores.redis_reflection import reflect_names

        async with self.named():
            await reflect_names(self.client(sync=sync), metadata, wanted)

    async def row_counts(self, *, sync: bool = False) -> dict[str, float]:
        """Go by a sample of the keys."""
        from fedorm.stores.redis_scan import estimated

        tables = self.document_tables()
        async with self.named():
            return await estimated(self.client(sync=sync), [str(table.name) for table in tables])

    async def read(self, wanted: DocumentScan, *, transaction: Any = None, sync: bool = False) -> list[tuple[Any, ...]]:
        """Ask for records by their ids, or go through all of them; look at the conditions here."""
        from fedorm.stores.redis_scan import read_rows

        return await read_rows(self, wanted, transaction, sync=sync)

    def describe(self, wanted: DocumentScan) -> str:
        """Return the commands that would be sent."""
        from fedorm.stores.redis_scan import described

        return described(wanted)

    # -- sync

    def row_access(self, shape: RowShape) -> RowAccess:
        """Return what reads and writes whole records of one class."""
        from fedorm.stores.redis_rows import RedisRowAccess

        return RedisRowAccess(self, shape)

    def kept(self, *, sync: bool) -> KeptDocuments:
        """Dump all records, and restore what has changed."""
        from fedorm.stores.redis_kept import RedisKept

        return RedisKept(self, sync=sync)

    def positions(self) -> PositionLog:
        """Keep them under ``fedorm:sync_positions:``."""
        from fedorm.stores.redis_positions import RedisPositions

        return RedisPositions(self)
