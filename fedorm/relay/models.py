"""A model as a target: its rows, or documents, are kept as the events of another service say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import delete, inspect
from sqlalchemy.util import greenlet_spawn

from fedorm.entity import is_document
from fedorm.exc import ConfigurationError, FedormError, UnknownServiceError
from fedorm.relay.decoding import to_column
from fedorm.relay.inbox import Inbox
from fedorm.relay.matching import Types
from fedorm.stores.base import Capability, DocumentStore, Store
from fedorm.stores.sql import SQLStore
from fedorm.stores.writes import Writes

if TYPE_CHECKING:
    from fedorm.federation import Federation
    from fedorm.outbox.events import Event
    from fedorm.session import FederatedSession

Key = tuple[Any, ...]
Values = dict[str, Any]


class UnfitEventError(FedormError, ValueError):
    """An event does not have what a model needs."""


class Writer(Protocol):
    """Writes rows of one model by their primary keys."""

    def names(self) -> set[str]:
        """Return the attributes that it can write."""

    def key(self, values: Values) -> Key:
        """Return the primary key among ``values``; raises ``UnfitEventError`` where it is not there."""

    def write(self, session: FederatedSession, removed: Sequence[Key], written: Sequence[Values]) -> None:
        """Delete first, then insert or change, in the session's transaction."""


class ModelTarget:
    """Inserts or changes, and deletes, rows of a model by primary key; each event counts once."""

    def __init__(
        self,
        types: tuple[str, ...],
        model: type[Any],
        fields: Mapping[str, str] | None,
        name: str | None,
        deleted: tuple[str, ...],
    ) -> None:
        self.types = types
        self.model = model
        self.service = str(model.__service__)
        self.name = name or f"{self.service}.{model.__name__}"
        self._fields = dict(fields) if fields is not None else None
        self._deleted = Types(deleted)
        self._federation: Federation | None = None
        self._writer: Writer | None = None
        self._inbox: Inbox | None = None

    # -- the Target protocol

    async def open(self, federation: Federation) -> None:
        """Look the model up, and make the inbox."""
        store = federation.stores.get(self.service)
        if store is None:
            unknown = UnknownServiceError(self.service, known=federation.stores, used_by=f"model {self.model.__name__}")
            raise ConfigurationError(str(unknown))
        self._writer = self._make_writer(store)
        if self._fields is not None:
            unfit = sorted(set(self._fields.values()) - self._writer.names())
            if unfit:
                raise ConfigurationError(f"to_model({self.model.__name__}): it has no attribute {unfit[0]!r}")
        self._inbox = Inbox(store, self.name)
        await greenlet_spawn(self._inbox.prepare)
        self._federation = federation

    def _make_writer(self, store: Store) -> Writer:
        if Capability.UPDATES not in store.capabilities:
            raise ConfigurationError(
                f"to_model({self.model.__name__}): service {store.service!r} at {store.address} can only be appended "
                "to: write a handler that appends"
            )
        if is_document(self.model):
            assert isinstance(store, DocumentStore)
            return DocumentWriter(self.model, store)
        assert isinstance(store, SQLStore)
        return RowWriter(self.model, store)

    async def close(self) -> None:
        """Do nothing: the connections are the federation's."""

    async def deliver(self, events: Sequence[Event]) -> None:
        """Write what the events come to, in one transaction."""
        assert self._federation is not None
        async with self._federation.session() as session:
            await greenlet_spawn(self._deliver, session.sync_session, events)

    # --

    def _deliver(self, session: FederatedSession, events: Sequence[Event]) -> None:
        assert self._inbox is not None
        assert self._writer is not None
        session.begin_quietly()
        new = self._inbox.take(session, events)
        if new:
            removed, written = self._changes(new)
            self._writer.write(session, removed, written)
            session.commit()

    def _changes(self, events: Sequence[Event]) -> tuple[list[Key], list[Values]]:
        """Return which rows have to go, and then what is to be in which, after the last of the events."""
        assert self._writer is not None
        removed: dict[Key, None] = {}
        written: dict[Key, Values] = {}
        for event in events:
            before, after = self._states(event)
            key = None if after is None else self._writer.key(after)
            if before is not None and (old := self._writer.key(before)) != key:
                written.pop(old, None)
                removed[old] = None
            if key is not None and after is not None:
                written[key] = written.get(key, {}) | after
        return list(removed), list(written.values())

    def _states(self, event: Event) -> tuple[Values | None, Values | None]:
        """Return the row's values before the event, if they say which one has to go, and after it, if it is there."""
        data = event.data
        if not isinstance(data, Mapping):
            raise UnfitEventError(f"event {event.type!r} {event.id}: its data is not an object")
        hooked = isinstance(data.get("values"), Mapping) and isinstance(data.get("key"), Mapping)
        values: Mapping[str, Any] = {**data["key"], **data["values"]} if hooked else data
        if self._deleted.match(event.type):
            return self._mapped(values), None
        changed = data.get("changed") if hooked else None
        if not isinstance(changed, Mapping) or not set(changed) & set(data["key"]):
            return None, self._mapped(values)
        old = {name: pair[0] for name, pair in changed.items()}
        return self._mapped({**values, **old}), self._mapped(values)

    def _mapped(self, values: Mapping[str, Any]) -> Values:
        assert self._writer is not None
        if self._fields is not None:
            return {mine: values[theirs] for theirs, mine in self._fields.items() if theirs in values}
        names = self._writer.names()
        return {name: value for name, value in values.items() if name in names}


class RowWriter:
    """Rows of a model over one table."""

    def __init__(self, model: type[Any], store: SQLStore) -> None:
        mapper = inspect(model)
        if len(mapper.tables) != 1:
            raise ConfigurationError(f"to_model({model.__name__}): it is spread over several tables: write a handler")
        self._model, self._store = model, store
        self._table = mapper.local_table
        self._columns = {attribute.key: attribute.columns[0] for attribute in mapper.column_attrs}
        self._key = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
        self._convert: dict[str, Callable[[Any], Any]] = {
            name: to_column(column.type, store.engine.dialect) for name, column in self._columns.items()
        }

    def names(self) -> set[str]:
        """Return the mapped columns' names."""
        return set(self._columns)

    def key(self, values: Values) -> Key:
        """Return the primary key, in its columns' types."""
        try:
            return tuple(self._convert[name](values[name]) for name in self._key)
        except KeyError as error:
            raise UnfitEventError(f"an event has no value for {self._model.__name__}.{error.args[0]}") from error

    def write(self, session: FederatedSession, removed: Sequence[Key], written: Sequence[Values]) -> None:
        """Delete by one statement, and upsert by one for all that have values for the same columns."""
        if removed:
            columns = [self._columns[name] for name in self._key]
            size = self._store.keys_per_statement(len(columns))
            for start in range(0, len(removed), size):
                condition = self._store.key_filter(columns, removed[start : start + size])
                session.execute(delete(self._table).where(condition))
        by_columns: dict[tuple[str, ...], list[Values]] = {}
        for values in written:
            by_columns.setdefault(tuple(sorted(values)), []).append(values)
        for names, group in by_columns.items():
            converters = [(self._columns[name].key, name, self._convert[name]) for name in names]
            rows = [{key: convert(values[name]) for key, name, convert in converters} for values in group]
            for statement, parameters in self._store.upsert(self._table, [key for key, _, _ in converters], rows):
                session.execute(statement, parameters)


class DocumentWriter:
    """Documents of a model, each whole in its event."""

    def __init__(self, model: type[Any], store: DocumentStore) -> None:
        self._model, self._store = model, store

    def names(self) -> set[str]:
        """Return the fields' names."""
        return set(self._model.model_fields)

    def key(self, values: Values) -> Key:
        """Return the document's id."""
        if "id" not in values:
            raise UnfitEventError(f"an event has no value for {self._model.__name__}.id")
        return (self._store.identity(self._model, values["id"]),)

    def write(self, session: FederatedSession, removed: Sequence[Key], written: Sequence[Values]) -> None:
        """Write in one block."""
        writes = Writes(self._model)
        writes.gone = [key[0] for key in removed]
        writes.upserts = [self._store.encode(self._model.model_validate(values)) for values in written]

        async def write() -> None:
            documents = session.documents
            transaction = await documents.begin(self._store)
            try:
                await self._store.write(writes, transaction=transaction, sync=session.uses_threads)
            finally:
                await documents.note_change(self._store, self._model, transaction)

        session.bridge.run(write())
