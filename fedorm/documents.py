"""The unit of work of a session's documents, beside SQLAlchemy's for rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.util import greenlet_spawn

from fedorm.exc import UnsupportedOperationError
from fedorm.identity_map import DocumentIdentityMap
from fedorm.stores.base import Capability, DocumentStore, batches
from fedorm.stores.branches import new_log
from fedorm.stores.writes import Writes
from fedorm.tracked import TOUCHED, Snapshot, Tracked, Write

if TYPE_CHECKING:
    from fedorm.session import FederatedSession


class Documents(DocumentIdentityMap):
    """Writes the documents of a session's identity map, in a transaction a service, and undoes that."""

    def __init__(self, session: FederatedSession) -> None:
        super().__init__(session)
        self._changed: dict[str, set[str]] = {}
        """Collections that were changed in this transaction, by service."""

    # -- writing

    def has_work(self) -> bool:
        """Say whether a flush would have anything to look at."""
        return bool(self.pending or self.doomed or self.tracked)

    def held_services(self) -> set[str]:
        """Return the services without transactions whose documents are written at the commit."""
        waiting = [*self.pending.values(), *self.doomed.values()]
        waiting += [entry for entry in self.tracked.values() if entry.suspect() and entry.changed()]
        stores = {entry.store.service: entry.store for entry in waiting}
        return {name for name, store in stores.items() if Capability.TRANSACTIONS not in store.capabilities}

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
            if event == "update":
                self._check_identity(entry)
            plans.setdefault(entry.store.service, (entry.store, []))[1].append(Write(entry, event))

        for entry in list(self.pending.values()):
            take(entry, "insert")
        for entry in list(self.tracked.values()):
            if entry.suspect(thorough=thorough) and entry.changed():
                take(entry, "update")
        for entry in list(self.doomed.values()):
            take(entry, "delete")
        return list(plans.values())

    def _check_identity(self, entry: Tracked) -> None:
        """Refuse a new id of a document that is there: under it would be what nobody has read."""
        if self.identity_of(entry.document, entry.store) != entry.key:
            what = f"{type(entry.document).__name__} {entry.key[2]!r}"
            problem = (
                f"the id of {what} was changed to {entry.document.id!r}: add a copy with that id, and delete this one"
            )
            raise entry.store.error(UnsupportedOperationError, problem)

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
                if any(getattr(type(one.entry.document), "__outbox__", None) for one in part):
                    self._session.outbox.documents_written(store, part)
                for one in part:
                    self._settle(one)
        if self._session.has_outbox:
            await self._session.outbox.write_documents(store)
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
            if self._session.two_phase:
                # Before the transaction has its snapshot: there is no writing to a collection that is younger.
                await store.decisions(sync=self._session.uses_threads).token(new_log())
            if self._session.outbox.wants(store.service):
                await store.prepare_events(sync=self._session.uses_threads)
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
