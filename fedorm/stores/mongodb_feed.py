"""Changes of a MongoDB database, from a change stream.

An update comes with the document as it is when it is read, which later changes may be in already; one that is gone by
then does not come, as its deletion does. The log tells of a deleted document its ``_id`` alone.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from fedorm.exc import ConfigurationError, DocumentValidationError, FeedLostError, StoreError
from fedorm.stores.base import collection_name
from fedorm.stores.bson_types import class_filter
from fedorm.stores.feeds import Backlog, Change, ChangeFeed, Chunk
from fedorm.stores.findings import Finding
from fedorm.stores.mongodb_stream import Batch, Gathering, Stream, StreamPosition, open_stream
from fedorm.stores.rows import RowShape

if TYPE_CHECKING:
    from fedorm.stores.mongodb import MongoDBStore

_QUIET = 1.0
"""Seconds between two positions without changes."""
_IDLE = 5.0
"""Seconds between two positions at the same place: of a later time."""
_TOGETHER = 0.05
"""Seconds for which changes that come one after the other are gathered."""


class MongoDBFeed(ChangeFeed):
    """Reads a change stream of the whole database, filtered by collection; makes nothing on the server.

    A document that its model does not take comes as an upsert without values: who reads it by its key is told why.
    An event of more than 16 MB, as of an update of a document that is nearly as large, ends the stream with an error.
    """

    def __init__(self, store: MongoDBStore, shapes: Sequence[RowShape]) -> None:
        self.store, self.shapes = store, shapes
        self._collections: dict[str, list[_DocumentShape]] = {}
        for shape in shapes:
            one = _DocumentShape(store, shape)
            self._collections.setdefault(collection_name(one.model), []).append(one)

    @property
    def _pipeline(self) -> list[dict[str, Any]]:
        names = {"$in": sorted(self._collections)}
        whole = {"operationType": {"$in": ["dropDatabase", "invalidate"]}}
        return [{"$match": {"$or": [{"ns.coll": names}, {"to.coll": names}, whole]}}]

    # -- what the server says

    async def findings(self) -> list[Finding]:
        """Ask whether it is a replica set, and open a stream."""
        found = [
            Finding(
                f"{shape.label} is kept by {', '.join(shape.key)}, and the log tells of a deleted document its id "
                f"alone",
                "use  id  as the key",
            )
            for shape in self.shapes
            if tuple(shape.key) != ("id",)
        ]
        async with self.store.named():
            hello = await self.store.own_database().command("hello")
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            problem = "the server is no member of a replica set, and has no log of changes without one"
            return [*found, Finding(problem, "start it with  --replSet rs0  and run  rs.initiate()")]
        try:
            async with open_stream(self.store, self._pipeline, {}):
                pass
        except ConfigurationError as error:
            problem, _, mend = str(error).removeprefix(f"service {self.store.service!r}: ").partition(": ")
            found.append(Finding(problem, mend, "privilege"))
        return found

    async def whole_row_findings(self, shapes: Sequence[RowShape] | None = None) -> list[Finding]:
        """Say so of each."""
        return [
            Finding(
                f"{shape.label}: the log tells of a document that was changed or deleted not what it was before", ""
            )
            for shape in (self.shapes if shapes is None else shapes)
        ]

    async def create(self) -> str:
        """Open a stream and take where it begins: a majority has what is before that, and readers see it."""
        self._check_keys()
        async with open_stream(self.store, self._pipeline, {}) as stream:
            for _ in range(10):
                batch = await stream.next(wait=False)
                if batch.token is not None:
                    return str(StreamPosition(batch.token, batch.time))
        return str(StreamPosition(None, await self._time()))

    async def _time(self) -> Any:
        async with self.store.named():
            reply = await self.store.own_database().command("ping")
        if "operationTime" not in reply:
            raise ConfigurationError(
                f"service {self.store.service!r}: {self.store.address} is no replica set, and has no log of changes"
            )
        return reply["operationTime"]

    def _check_keys(self) -> None:
        for shape in self.shapes:
            if tuple(shape.key) != ("id",):
                raise ConfigurationError(
                    f"{shape.label}: the log tells of a deleted document its id alone, and the key is "
                    f"{', '.join(shape.key)}: use  id"
                )

    async def confirm(self, position: str) -> None:
        """Do nothing: the server keeps its log for as long as it is configured to."""

    async def backlog(self, position: str) -> Backlog:
        """Compare the time of the log's end with the position's, to the second."""
        now = await self._time()
        return Backlog(seconds=float(max(0, now.time - StreamPosition.parse(position).time.time)))

    async def drop(self) -> None:
        """Do nothing: there is nothing."""

    # -- the stream

    async def stream(self, position: str) -> AsyncIterator[Chunk]:
        """Read over a client of its own; a server that does not answer for 30 seconds is lost."""
        self._check_keys()
        for shapes in self._collections.values():
            for shape in shapes:
                shape.prepare()
        at = StreamPosition.parse(position)
        gathered = Gathering()
        began = told = time.monotonic()
        last = at.token
        async with open_stream(self.store, self._pipeline, at.start) as stream:
            while True:
                batch = await stream.next(wait=not gathered)
                now = time.monotonic()
                if not gathered:
                    began = now
                for event in batch.events:
                    chunk = gathered.add(event, self._changes(event))
                    if chunk is not None:
                        yield chunk
                        told = time.monotonic()
                if not batch.events or batch.is_last:
                    quiet = now - told
                    if gathered or (batch.token != last and quiet >= _QUIET) or quiet >= _IDLE:
                        last = batch.token
                        yield gathered.settled(batch)
                        told = time.monotonic()
                elif gathered.has_whole and now - began >= _TOGETHER:
                    yield gathered.told()
                    began = told = time.monotonic()
                if batch.is_last:
                    await self._begin_anew(stream, batch)

    async def _begin_anew(self, stream: Stream, batch: Batch) -> None:
        """Go on behind the end of the database, after which the server tells nothing more over the same stream."""
        if not batch.events or batch.events[-1]["operationType"] != "invalidate":
            raise self.store.error(StoreError, "the server has ended the stream of changes")
        await stream.begin(self._pipeline, StreamPosition(batch.events[-1]["_id"], batch.time).start)

    def _changes(self, event: dict[str, Any]) -> list[Change]:
        kind = event["operationType"]
        shapes = self._collections.get(event.get("ns", {}).get("coll", ""), ())
        if kind in ("insert", "update", "replace"):
            document = event.get("fullDocument")
            if document is None:
                return []
            return [change for shape in shapes if (change := shape.upsert(document, is_new=kind == "insert"))]
        if kind == "delete":
            key = event["documentKey"]["_id"]
            return [change for shape in shapes if (change := shape.delete(key))]
        if kind == "rename" and event.get("to", {}).get("coll") in self._collections:
            name = event["to"]["coll"]
            raise self.store.error(FeedLostError, f"another collection was renamed to {name!r}: its documents are new")
        if kind == "dropDatabase":
            shapes = [shape for others in self._collections.values() for shape in others]
        if kind in ("drop", "rename", "dropDatabase"):
            return [Change(one.shape, "truncate") for one in shapes]
        return []


class _DocumentShape:
    """Makes the changes of one shape of the documents in its collection."""

    def __init__(self, store: MongoDBStore, shape: RowShape) -> None:
        self.shape = shape
        self._store = store
        assert shape.document is not None
        self.model = shape.document
        annotation: Any = self.model.model_fields["id"].annotation
        self._identity: Callable[[Any], Any] = TypeAdapter(annotation).validate_python
        self._class: tuple[str, frozenset[str]] | None = None

    def prepare(self) -> None:
        """Learn which classes there are, once the store is open."""
        for name, wanted in class_filter(self.model).items():
            self._class = name, frozenset(wanted["$in"])

    def upsert(self, document: dict[str, Any], *, is_new: bool) -> Change | None:
        """Return the change of a document that is there; one that has become another class is deleted."""
        if self._class is not None and document.get(self._class[0]) not in self._class[1]:
            return None if is_new else self.delete(document["_id"])
        try:
            parsed = self._store.parse(self.model, document)
        except DocumentValidationError:
            missing = self.delete(document["_id"])
            return missing and Change(self.shape, "upsert", missing.key, {})
        fields = vars(parsed)
        values = {name: fields[name] for name in self.shape.fields}
        return Change(self.shape, "upsert", (values["id"],), values)

    def delete(self, identity: Any) -> Change | None:
        """Return the change of a document that is gone; None for what never was one of the model's."""
        try:
            return Change(self.shape, "delete", (self._identity(identity),))
        except ValidationError:
            return None
