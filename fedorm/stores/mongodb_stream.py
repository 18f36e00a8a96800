"""A change stream of a MongoDB database, batch by batch, and its events as whole transactions.

By commands, not by PyMongo's ``watch``: that does not tell where a batch ends, and with it, what has been read whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bson import Timestamp, json_util

from fedorm.exc import ConfigurationError, FeedLostError, ServiceTimeoutError, ServiceUnavailableError
from fedorm.stores.chunk_queue import PART
from fedorm.stores.feeds import Change, Chunk

if TYPE_CHECKING:
    from fedorm.stores.mongodb import MongoDBStore

_BATCH = 1_000
_WAIT = 1_000
"""How many milliseconds the server waits for an event."""
_GLANCE = 1
_SILENCE = 30
"""Seconds without an answer after which a server is taken for gone."""
_DENIED, _NO_REPLICA_SET, _NO_CURSOR = 13, 40573, 43
_LOST = {260, 280, 286, 40576, 40585, 40615, 40649, 50811}
"""The codes of a log that is too short, and of a token that is not known to it."""


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """Behind an event, or with the events of a moment on."""

    token: Any
    time: Timestamp
    """Of the event: it tells how far behind the position is."""

    def __str__(self) -> str:
        told = {"token": self.token, "time": [self.time.time, self.time.inc]}
        return json_util.dumps(told, json_options=json_util.CANONICAL_JSON_OPTIONS)

    @classmethod
    def parse(cls, text: str) -> StreamPosition:
        """Read what ``str()`` has written."""
        told = json_util.loads(text, json_options=json_util.CANONICAL_JSON_OPTIONS)
        return cls(told["token"], Timestamp(*map(int, told["time"])))

    @property
    def start(self) -> dict[str, Any]:
        """The options of a stream that goes on from here; also behind an event after which the last one has ended."""
        return {"startAtOperationTime": self.time} if self.token is None else {"startAfter": self.token}


@dataclass(slots=True)
class Batch:
    """What the server has sent at once."""

    events: Sequence[dict[str, Any]]
    token: Any
    """Where to go on behind all of it; there may be later changes of others before."""
    time: Timestamp
    """When it was sent, in the time of the log."""
    is_last: bool
    """Whether the server has ended the stream with it."""


class Stream:
    """An open stream over a client and a session of its own, which no ``timeout`` of the service's cuts short."""

    def __init__(self, store: MongoDBStore, database: Any, session: Any) -> None:
        self._store, self._database, self._session = store, database, session
        self._id = 0
        self._first: Batch | None = None

    async def begin(self, pipeline: Sequence[dict[str, Any]], start: dict[str, Any]) -> None:
        """Open, or open anew, with the options of a position; none: from now on."""
        stage = {"$changeStream": {"fullDocument": "updateLookup", **start}}
        command = {"aggregate": 1, "pipeline": [stage, *pipeline], "cursor": {"batchSize": _BATCH}}
        self._first = self._batch(await self._send(command))

    async def next(self, *, wait: bool) -> Batch:
        """Return what there is, after a moment if there is nothing."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        command = {
            "getMore": self._id,
            "collection": "$cmd.aggregate",
            "batchSize": _BATCH,
            "maxTimeMS": _WAIT if wait else _GLANCE,
        }
        return self._batch(await self._send(command))

    async def end(self) -> None:
        """Close it on the server, if that can be done."""
        from pymongo.errors import PyMongoError

        if self._id:
            command = {"killCursors": "$cmd.aggregate", "cursors": [self._id]}
            with suppress(PyMongoError, TimeoutError, OSError):
                async with asyncio.timeout(1):
                    await self._database.command(command, session=self._session)

    def _batch(self, reply: dict[str, Any]) -> Batch:
        cursor = reply["cursor"]
        self._id = cursor["id"]
        events = cursor.get("nextBatch", cursor.get("firstBatch", ()))
        token = cursor.get("postBatchResumeToken") or (events[-1]["_id"] if events else None)
        return Batch(events, token, reply.get("operationTime", Timestamp(0, 0)), not self._id)

    async def _send(self, command: dict[str, Any]) -> dict[str, Any]:
        from bson.codec_options import DatetimeConversion
        from pymongo.errors import OperationFailure

        database, store = self._database, self._store
        # A date that Python does not have is one document's trouble, not the stream's.
        codec = database.codec_options.with_options(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
        async with store.named():
            try:
                async with asyncio.timeout(_SILENCE):
                    reply: dict[str, Any] = await database.command(command, session=self._session, codec_options=codec)
                    return reply
            except TimeoutError as error:
                raise store.error(ServiceTimeoutError, f"no answer within {_SILENCE} s") from error
            except OperationFailure as error:
                if error.code in _LOST or "resume token" in str(error).lower():
                    raise store.error(FeedLostError, error) from error
                if error.code == _DENIED:
                    raise ConfigurationError(
                        f"service {store.service!r}: the user may not read changes: run  db.grantRolesToUser(<user>, "
                        f"[{{role: 'read', db: '{database.name}'}}])"
                    ) from error
                if error.code == _NO_REPLICA_SET:
                    raise ConfigurationError(
                        f"service {store.service!r}: {store.address} is no member of a replica set, and has no log of "
                        f"changes: start it with  --replSet rs0  and run  rs.initiate()"
                    ) from error
                if error.code == _NO_CURSOR:  # The is gone: the server was restarted, or another has taken over.
                    raise store.error(ServiceUnavailableError, error) from error
                raise


@asynccontextmanager
async def open_stream(
    store: MongoDBStore, pipeline: Sequence[dict[str, Any]], start: dict[str, Any]
) -> AsyncIterator[Stream]:
    """Open a stream, and leave nothing of it."""
    # A limit for statements would be the server's for waiting, too: without one.
    options = {**store.settings.options, "timeoutMS": None, "socketTimeoutMS": None}
    settings = store.settings.model_copy(update={"timeout": None, "options": options})
    database = type(store)(store.service, settings).connect()
    try:
        async with database.client.start_session(causal_consistency=False) as session:
            stream = Stream(store, database, session)
            try:
                await _to_its_end(stream.begin(pipeline, start))
                yield stream
            finally:
                await stream.end()
    finally:
        await database.client.close()


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Let ``work`` finish also if cancelled: PyMongo forgets the socket of a connection that is just being made."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # Heard.
        raise


class Gathering:
    """Changes that wait to be told: of whole transactions, and of one whose end is not known yet."""

    def __init__(self) -> None:
        self._changes: list[Change] = []
        self._transaction: Any = None
        self._whole = 0
        """How many of the changes are of transactions that have ended."""
        self._ended: StreamPosition | None = None
        """The position behind those."""
        self._last: StreamPosition | None = None
        """The position behind the last event."""
        self._times: tuple[float | None, float | None] = None, None
        """When what has ended was committed, and the last event."""

    def __bool__(self) -> bool:
        return self._last is not None

    @property
    def has_whole(self) -> bool:
        """Whether a transaction with changes has ended."""
        return self._whole > 0

    def add(self, event: dict[str, Any], changes: Sequence[Change]) -> Chunk | None:
        """Take the changes of an event; return a chunk once there are many."""
        session = event.get("lsid")
        transaction = None if session is None else (session["id"], event.get("txnNumber"))
        if transaction != self._transaction:
            self._end()
        self._transaction = transaction
        self._changes.extend(changes)
        self._last = StreamPosition(event["_id"], event["clusterTime"])
        wall = event.get("wallTime")
        self._times = self._times[0], float(event["clusterTime"].time) if wall is None else wall.timestamp()
        if transaction is None:
            self._end()
        return self.told() if len(self._changes) >= PART else None

    def _end(self) -> None:
        self._whole, self._ended, self._times = len(self._changes), self._last, (self._times[1], self._times[1])

    def told(self) -> Chunk:
        """Return what has ended; of a transaction that has not, and before which there is nothing, a part."""
        if not self._whole:
            changes, self._changes = self._changes, []
            return Chunk(changes)
        chunk = Chunk(self._changes[: self._whole], str(self._ended), self._times[0])
        self._changes, self._whole = self._changes[self._whole :], 0
        if self._last == self._ended:
            self._last = None
        return chunk

    def settled(self, batch: Batch) -> Chunk:
        """Return all: nothing has come any more, and what a transaction has changed comes at once."""
        time = self._last.time if self._last is not None else batch.time
        chunk = Chunk(self._changes, str(StreamPosition(batch.token, time)), self._times[1])
        self._changes, self._whole, self._transaction = [], 0, None
        self._ended = self._last = None
        self._times = None, None
        return chunk
