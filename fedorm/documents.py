"""The documents of a session: identity map and unit of work, beside those of SQLAlchemy for rows."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.util import greenlet_spawn

from fedorm.exc import StaleDocumentError, UnsupportedOperationError
from fedorm.stores.base import Capability, DocumentStore, Writes, batches
from fedorm.tracked import TOUCHED, Identity, Snapshot, Tracked, Write, fields_of

if TYPE_CHECKING:
    from fedorm.session import FederatedSession

OWNER = "_federated_session"


class Documents:
    """Holds each document once, by its identity, until the session lets go of it."""

    def __init__(self, session: FederatedSession) -> None:
        self._session = session
        self._reference = weakref.ref(session)
        self.tracked: dict[Identity, Tracked] = {}
        self.pending: dict[Identity, Tracked] = {}
        self.doomed: dict[Identity, Tracked] = {}
        self.transactions: dict[str, Any] = {}
        self._written: dict[Identity, Tracked] = {}
        self._changed: dict[str, set[str]] = {}
        """Collections that were changed in this transaction, by service."""

    # -- looking

    def __contains__(self, document: Any) -> bool:
        entry = self._entry(document)
        return entry is not None and not entry.deleted

    def __iter__(self) -> Iterator[Any]:
        for entry in (*self.tracked.values(), *self.pending.values()):
            yield entry.document

    def store_of(self, model: type[Any]) -> DocumentStore:
        """Return the store of a document model. Raises ``UnknownServiceError``."""
        return cast(DocumentStore, self._session.store_of(model))

    def identity_of(self, document: Any, store: DocumentStore) -> Identity:
        """Return the key of the identity map."""
        return store.service, store.collection_of(type(document)), document.id

    def _entry(self, document: Any) -> Tracked | None:
        if document.__dict__.get(OWNER) is not self._reference:
            return None
        key = self.identity_of(document, self.store_of(type(document)))
        for entries in (self.tracked, self.pending, self.doomed):
            entry = entries.get(key)
            if entry is not None and entry.document is document:
                return entry
        # An id may still change until the document is written.
        return next((entry for entry in self.pending.values() if entry.document is document), None)

    def of_class(self, model: type[Any]) -> list[Any]:
        """Return the documents of a class, which load their relationships together."""
        return [document for document in self if isinstance(document, model)]

    def is_changed(self, document: Any) -> bool:
        """Say whether the session would write a document's fields."""
        entry = self._entry(document)
        return entry is not None and (entry.raw is None or (entry.suspect() and entry.changed()))

    def changed(self) -> list[Any]:
        """Return the documents whose fields differ from the database's."""
        return [entry.document for entry in self.tracked.values() if entry.touched and entry.changed()]

    # -- adding and removing

    def add(self, document: Any) -> None:
        """Take a new document in, to be inserted; or a deleted one back."""
        store = self.store_of(type(document))
        owner = document.__dict__.get(OWNER)
        owner = owner() if owner is not None else None
        if owner is self._session:
            entry = self._entry(document)
            if entry is not None and entry in self.doomed.values():
                self.tracked[self.identity_of(document, store)] = self.doomed.pop(self.identity_of(document, store))
            return
        if owner is not None:
            raise InvalidRequestError(f"{type(document).__name__} {document.id!r} is already in another session")
        if document.id is None:
            document.id = store.new_identity(document)
            if document.id is None:
                raise InvalidRequestError(f"{type(document).__name__} has no id: give it one before add()")
        key = self.identity_of(document, store)
        if key in self.tracked or key in self.pending:
            raise InvalidRequestError(
                f"another {type(document).__name__} with the id {document.id!r} is already in this session"
            )
        self._own(document)
        self.pending[key] = Tracked(document, store, key)

    def delete(self, document: Any) -> None:
        """Mark a document for deletion at the next flush."""
        entry = self._entry(document)
        if entry is None or entry.raw is None:
            raise InvalidRequestError(f"{type(document).__name__} {document.id!r} is not in the database: expunge it")
        if entry.key in self.tracked:
            self.doomed[entry.key] = self.tracked.pop(entry.key)

    def expunge(self, document: Any) -> None:
        """Let go of a document; what was not flushed is not written."""
        entry = self._entry(document)
        if entry is None:
            raise InvalidRequestError(f"{type(document).__name__} {document.id!r} is not in this session")
        for entries in (self.tracked, self.pending, self.doomed):
            if entries.get(entry.key) is entry:
                del entries[entry.key]
        self._disown(document)

    def clear(self) -> None:
        """Let go of everything."""
        for entries in (self.tracked, self.pending, self.doomed, self._written):
            for entry in entries.values():
                self._disown(entry.document)
            entries.clear()

    def _own(self, document: Any) -> None:
        document.__dict__[OWNER] = self._reference

    @staticmethod
    def _disown(document: Any) -> None:
        document.__dict__.pop(OWNER, None)

    # -- reading

    def get(self, model: type[Any], identity: Any, *, refresh: bool = False) -> Any:
        """Return the document with an id, from the session if it is there and fresh; None without one."""
        store = self.store_of(model)
        identity = store.identity(model, identity)
        key = (store.service, store.collection_of(model), identity)
        if key in self.doomed:
            return None
        entry = self.pending.get(key) or self.tracked.get(key)
        if entry is not None and not isinstance(entry.document, model):
            return None  # Another class of the same collection.
        if entry is not None and not refresh and not entry.expired:
            return entry.document
        found = self._find_ids(store, model, [identity])
        if found:
            return self.adopt(store, model, found, refresh=refresh)[0]
        if entry is not None and entry.raw is not None:
            self.expunge(entry.document)
        return None

    def refresh(self, document: Any) -> None:
        """Read a document's fields anew; what was changed and not flushed is lost."""
        entry = self._entry(document)
        if entry is None or entry.raw is None:
            raise InvalidRequestError(f"{type(document).__name__} {document.id!r} is not in the database")
        if self.get(type(document), document.id, refresh=True) is None:
            raise StaleDocumentError(
                f"service {entry.store.service!r}: {type(document).__name__} {document.id!r} is no longer there"
            )

    def merge(self, document: Any, *, load: bool = True) -> Any:
        """Copy a document's fields onto the session's own, which is read or made for it."""
        if document in self:
            return document
        model = type(document)
        own = self.get(model, document.id) if document.id is not None and load else None
        if own is None:
            own = model.model_construct(**{name: value for name, value in fields_of(document).items() if name != "id"})
            own.__dict__["id"] = document.id
            self.add(own)
            return own
        for name, value in fields_of(document).items():
            if own.__dict__.get(name) != value:
                setattr(own, name, value)
        return own

    def _find_ids(self, store: DocumentStore, model: type[Any], ids: Sequence[Any]) -> list[dict[str, Any]]:
        return self._session.bridge.run(
            store.find_keys(
                model, ["id"], [(one,) for one in ids],
                transaction=self.transactions.get(store.service), sync=self._session.uses_threads,
            )
        )  # fmt: skip

    def adopt(
        self, store: DocumentStore, model: type[Any], raw: Sequence[dict[str, Any]], *, refresh: bool = False
    ) -> list[Any]:
        """Return the session's documents for what the database returned; fresh values go into expired ones."""
        name, service, documents = store.collection_of(model), store.service, []
        for one in raw:
            key = (service, name, one["_id"])
            entry = self.tracked.get(key)
            if entry is None:
                entry = self.doomed.get(key)
            if entry is None:
                document = store.parse(model, one)
                self._own(document)
                document.__dict__.pop(TOUCHED, None)
                entry = self.tracked[key] = Tracked(document, store, key, one)
            elif refresh or (entry.expired and not (entry.suspect() and entry.changed())):
                entry.restore(one)
            documents.append(entry.document)
        return documents

    # -- writing

    def has_work(self) -> bool:
        """Say whether a flush would have anything to look at."""
        return bool(self.pending or self.doomed or self.tracked)

    def plan(self, *, thorough: bool, at_commit: bool) -> list[tuple[DocumentStore, list[Write]]]:
        """Run hooks and validate all that is to be written; nothing is written before everything fits.

        ``thorough`` also compares documents that may have been changed in place, inside a list or a sub-document.
        """
        plans: dict[str, tuple[DocumentStore, list[Write]]] = {}

        def take(entry: Tracked, event: str) -> None:
            held = Capability.TRANSACTIONS not in entry.store.capabilities or self._session.in_nested_transaction()
            if held and not at_commit:
                return
            self._session.bridge.run(entry.store.notify(entry.document, event, before=True))
            if event != "delete":
                entry.store.validate(entry.document)
            plans.setdefault(entry.store.service, (entry.store, []))[1].append(Write(entry, event))

        for entry in list(self.pending.values()):
            take(entry, "insert")
        for entry in list(self.tracked.values()):
            if entry.suspect(thorough=thorough) and entry.changed():
                take(entry, "update")
        for entry in list(self.doomed.values()):
            take(entry, "delete")
        return list(plans.values())

    def write(self, plans: Sequence[tuple[DocumentStore, list[Write]]]) -> None:
        """Write what ``plan`` returned, in the services' transactions."""
        for store, work in plans:
            self._session.bridge.run(self._write(store, work))

    async def _write(self, store: DocumentStore, work: Sequence[Write]) -> None:
        transaction = await self.begin(store)
        groups: dict[tuple[bool, type[Any]], list[Write]] = {}
        added = {self.identity_of(one.entry.document, store) for one in work if one.event == "insert"}
        for one in work:
            makes_room = one.event == "delete" and one.entry.key in added
            groups.setdefault((not makes_room, type(one.entry.document)), []).append(one)
        # A document that makes room for another one with its id goes first.
        for (_, model), group in sorted(groups.items(), key=lambda item: item[0][0]):
            for part in batches(group, 1000):
                writes = Writes(model)
                for one in part:
                    one.describe(writes, store)
                try:
                    await store.write(writes, transaction=transaction, sync=self._session.uses_threads)
                finally:
                    await self.note_change(store, model, transaction)
                for one in part:
                    self._settle(one)
        for one in work:
            await store.notify(one.entry.document, one.event, before=False)

    def _settle(self, done: Write) -> None:
        entry = done.entry
        for entries in (self.pending, self.doomed):
            if entries.get(entry.key) is entry:
                del entries[entry.key]
        key = entry.key = self.identity_of(entry.document, entry.store)
        if key not in self._written:
            entry.before = entry.raw
            self._written[key] = entry
        entry.flushed, entry.deleted = True, done.event == "delete"
        entry.raw = done.raw if not entry.deleted else entry.raw
        entry.document.__dict__.pop(TOUCHED, None)
        if entry.deleted:
            self._disown(entry.document)
        else:
            self.tracked[key] = entry

    async def begin(self, store: DocumentStore) -> Any:
        """Return the service's transaction, started at first use; None where the server has none."""
        if store.service not in self.transactions:
            transaction = await store.begin(sync=self._session.uses_threads)
            if transaction is None:
                return None
            self.transactions[store.service] = transaction
        return self.transactions[store.service]

    # -- ending a transaction

    def commits(self) -> list[tuple[str, Callable[[], None]]]:
        """Return what commits each service's transaction."""

        def commit(service: str) -> Callable[[], None]:
            store = cast(DocumentStore, self._session.store_named(service))
            return lambda: self._session.bridge.run(commit_and_tell(store))

        async def commit_and_tell(store: DocumentStore) -> None:
            try:
                await store.commit(self.transactions.pop(store.service))
            finally:  # Also after a failure: it may have come when the server had committed.
                await self._tell(store)

        return [(service, commit(service)) for service in sorted(self.transactions)]

    def irrevocable(self) -> list[str]:
        """Return the services that have got documents in this transaction and have no rollback."""
        stores = {entry.store.service: entry.store for entry in self._written.values()}
        return sorted(name for name, store in stores.items() if Capability.TRANSACTIONS not in store.capabilities)

    def committed(self, *, expire: bool) -> None:
        """Forget how things were before; with ``expire``, read documents anew when they are asked for."""
        self._written.clear()
        for entry in self.tracked.values():
            entry.before, entry.flushed = None, False
            entry.expired = entry.expired or expire

    def rollback(self) -> None:
        """Undo the transactions, and give every document the values it had before them."""
        self.abort()
        for entry in self.pending.values():
            self._disown(entry.document)
        self.pending.clear()
        for key, entry in self._written.items():
            replaced = self.tracked.pop(key, None) or self.doomed.pop(key, None)
            if replaced is not None:
                self._disown(replaced.document)
            if entry.before is None:
                self._disown(entry.document)
            else:
                self._own(entry.document)
                self.tracked[key] = entry
                entry.raw, entry.deleted = entry.before, False
        self.tracked.update(self.doomed)
        self.doomed.clear()
        self._written.clear()
        for entry in self.tracked.values():
            if (entry.flushed or entry.suspect()) and entry.raw is not None:
                entry.restore(entry.raw)
            entry.before, entry.flushed, entry.expired = None, False, True

    def snapshot(self) -> Snapshot:
        """Remember everything for a savepoint; until its end no document is flushed."""
        entries = [*self.tracked.values(), *self.pending.values(), *self.doomed.values()]
        remembered = [entry.remember() for entry in entries]
        return Snapshot(dict(self.tracked), dict(self.pending), dict(self.doomed), remembered)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a savepoint; what was read since then stays, as it was read."""
        known = {id(one.entry) for one in snapshot.remembered}
        read = []
        for entry in (*self.tracked.values(), *self.pending.values(), *self.doomed.values()):
            self._disown(entry.document)
            if entry.raw is not None and id(entry) not in known:
                read.append(entry)
        self.tracked, self.pending, self.doomed = snapshot.tracked, snapshot.pending, snapshot.doomed
        for one in snapshot.remembered:
            self._own(one.entry.document)
            one.bring_back()
        for entry in read:
            self._own(entry.document)
            self.tracked[entry.key] = entry
            if entry.suspect() and entry.raw is not None:
                entry.restore(entry.raw)

    async def note_change(self, store: DocumentStore, model: type[Any], transaction: Any) -> None:
        """Keep in mind for the result cache that a collection was changed; without a transaction it is now."""
        self._changed.setdefault(store.service, set()).add(store.collection_of(model).lower())
        if transaction is None:
            await self._tell(store)

    async def _tell(self, store: DocumentStore) -> None:
        changed = self._changed.pop(store.service, None)
        if changed and store.cache is not None:
            await greenlet_spawn(store.cache.changed, store.place.changed(changed))

    def abort(self) -> None:
        """Undo what was written and not committed, keeping documents as they are."""
        self._changed.clear()
        for service in list(self.transactions):
            store = cast(DocumentStore, self._session.store_named(service))
            self._session.bridge.run(store.abort(self.transactions.pop(service)))

    def expire(self, documents: Iterable[Any] | None = None) -> None:
        """Read documents, all by default, anew when they are asked for."""
        wanted = None if documents is None else {id(document) for document in documents}
        for entry in self.tracked.values():
            if wanted is None or id(entry.document) in wanted:
                entry.expired = True

    # -- what a bound query needs: the DocumentReader protocol

    async def before_reading(self, store: DocumentStore) -> Any:
        """Flush (threads have done so already) and return the transaction to read in."""
        if not self._session.uses_threads:
            await greenlet_spawn(self._session._autoflush)
        return self.transactions.get(store.service)

    async def before_writing(self, store: DocumentStore) -> Any:
        """Flush and return the transaction to write in."""
        if self._session.in_nested_transaction() and Capability.SAVEPOINTS not in store.capabilities:
            raise UnsupportedOperationError(
                "has no savepoints: a bulk change inside of begin_nested() could not be undone with it",
                service=store.service,
                address=store.address,
            )
        await self.before_reading(store)
        self._session.begin_quietly()
        return await self.begin(store)

    async def load(self, documents: Sequence[Any], options: Sequence[Any]) -> None:
        """Load relationships of documents just found."""
        if self._session.uses_threads:
            self._session.load(documents, *options)
        else:
            await greenlet_spawn(self._session.load, documents, *options)

    def forget(self, model: type[Any]) -> None:
        """Expire the documents of a class that a bulk statement has changed."""
        for entry in self.tracked.values():
            if isinstance(entry.document, model):
                entry.expired = True
