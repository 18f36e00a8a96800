"""The documents of a session, each once, beside SQLAlchemy's identity map for rows."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import InvalidRequestError

from fedorm.exc import StaleDocumentError, UnsupportedOperationError
from fedorm.stores.base import DocumentStore
from fedorm.tracked import TOUCHED, Identity, Tracked, fields_of

if TYPE_CHECKING:
    from fedorm.session import FederatedSession

OWNER = "_federated_session"


class DocumentIdentityMap:
    """Holds each document once, by its identity, until the session lets go of it."""

    def __init__(self, session: FederatedSession) -> None:
        self._session = session
        self._reference = weakref.ref(session)
        self.tracked: dict[Identity, Tracked] = {}
        self.pending: dict[Identity, Tracked] = {}
        self.doomed: dict[Identity, Tracked] = {}
        self.transactions: dict[str, Any] = {}
        self._written: dict[Identity, Tracked] = {}

    # -- looking

    def __contains__(self, document: Any) -> bool:
        entry = self._entry(document)
        return entry is not None and not entry.deleted

    def __iter__(self) -> Iterator[Any]:
        for entry in (*self.tracked.values(), *self.pending.values()):
            yield entry.document

    def store_of(self, model: type[Any]) -> DocumentStore:
        """Return the store of a document model. Raises ``UnknownServiceError``, and for a store of another kind."""
        store = self._session.store_of(model)
        if not isinstance(store, DocumentStore) or not issubclass(model, store.entity_base()):
            raise store.error(UnsupportedOperationError, f"({store.kind}) does not hold objects as {model.__name__} is")
        return store

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
                entry.document.__dict__.pop(OWNER, None)
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
        name, service, id_name, tracked = store.collection_of(model), store.service, store.id_name, self.tracked
        keys: list[Identity] = [(service, name, one[id_name]) for one in raw]
        new = dict(zip(keys, raw, strict=True))
        is_known = bool(tracked or self.doomed) or len(new) < len(keys)
        doomed = {key: entry for key in keys if (entry := self.doomed.get(key)) is not None} if self.doomed else {}
        if tracked or doomed:
            for key in list(new):
                entry = tracked.get(key) or doomed.get(key)
                if entry is not None:
                    one = new.pop(key)
                    if refresh or (entry.expired and not (entry.suspect() and entry.changed())):
                        entry.restore(one)
        reference = self._reference
        made = store.parse_many(model, list(new.values()))
        for (key, one), document in zip(new.items(), made, strict=True):
            state = document.__dict__
            state[OWNER] = reference
            state.pop(TOUCHED, None)
            tracked[key] = Tracked(document, store, key, one)
        return [(tracked.get(key) or doomed[key]).document for key in keys] if is_known else made

    # -- expiring

    def expire(self, documents: Iterable[Any] | None = None) -> None:
        """Read documents, all by default, anew when they are asked for."""
        wanted = None if documents is None else {id(document) for document in documents}
        for entry in self.tracked.values():
            if wanted is None or id(entry.document) in wanted:
                entry.expired = True

    def forget(self, model: type[Any]) -> None:
        """Expire the documents of a class that a bulk statement has changed."""
        for entry in self.tracked.values():
            if isinstance(entry.document, model):
                entry.expired = True
