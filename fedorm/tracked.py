"""A document of a session, and what the database holds of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from fedorm.stores.base import DocumentStore
from fedorm.stores.writes import Delete, Update, Writes

Identity = tuple[str, str, Any]
"""Service, collection and ``id``."""

TOUCHED = "_federated_touched"
"""The key in a document's ``__dict__`` that says that a field was assigned."""


@dataclass(slots=True, eq=False)
class Tracked:
    """A document of the session and what the database holds of it."""

    document: Any
    store: DocumentStore
    key: Identity
    raw: dict[str, Any] | None = None
    """As last read or written; None for a document that is not in the database yet."""
    before: dict[str, Any] | None = None
    """``raw`` at the start of the transaction, for documents that were flushed in it."""
    flushed: bool = False
    deleted: bool = False
    expired: bool = False

    @property
    def touched(self) -> bool:
        """Say whether a field was assigned since the last read or write."""
        return TOUCHED in self.document.__dict__

    def suspect(self, *, thorough: bool = True) -> bool:
        """Say whether the document may have changed: by an assignment or, when ``thorough``, in place."""
        return self.touched or (thorough and not self.store.tracks_by_assignment(type(self.document)))

    def changed(self) -> bool:
        """Say whether the fields differ from what the database holds."""
        store, raw = self.store, self.raw
        encoded = store.encode(self.document)
        # What the database holds may be written otherwise than the class writes it: compare like with like.
        if encoded == raw or raw is None or encoded == store.encode(store.parse(type(self.document), raw)):
            self.document.__dict__.pop(TOUCHED, None)
            return False
        return True

    def restore(self, raw: dict[str, Any]) -> None:
        """Give the document the values that the database holds, and forget its relationships."""
        state = self.document.__dict__
        state.update(fields_of(self.store.parse(type(self.document), raw)))
        for attribute in type(self.document).__federated__.values():
            state.pop(attribute.slot, None)
        for name in (TOUCHED, *_until_written(self.document)):
            state.pop(name, None)
        self.raw, self.expired = raw, False

    def remember(self) -> Remembered:
        """Return what a savepoint has to know to bring the document back."""
        said = {name: value for name, value in self.document.__dict__.items() if name in _until_written(self.document)}
        values = copy.deepcopy(fields_of(self.document)) | said
        return Remembered(self, values, self.touched, self.raw, self.expired)


@dataclass(frozen=True, slots=True)
class Remembered:
    """A document as it was at a savepoint."""

    entry: Tracked
    values: dict[str, Any]
    touched: bool
    raw: dict[str, Any] | None
    expired: bool

    def bring_back(self) -> None:
        """Make the document what it was; read anew in between, it is asked for again."""
        state = self.entry.document.__dict__
        for name in (TOUCHED, *_until_written(self.entry.document)):
            state.pop(name, None)
        state.update(self.values)
        if self.touched:
            state[TOUCHED] = True
        self.entry.expired = self.expired or self.entry.raw is not self.raw
        self.entry.raw = self.raw


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The documents of a session at a savepoint."""

    tracked: dict[Identity, Tracked]
    pending: dict[Identity, Tracked]
    doomed: dict[Identity, Tracked]
    remembered: list[Remembered]


@dataclass(slots=True)
class Write:
    """An insert, update or delete of one document."""

    entry: Tracked
    event: str
    raw: dict[str, Any] | None = None

    def describe(self, writes: Writes, store: DocumentStore) -> None:
        """Add the insert, update or delete of one document to ``writes``."""
        document, old = self.entry.document, self.entry.raw
        revision, expected = store.new_revision(type(document)), {}
        if revision is not None and old is not None:
            expected["revision_id"] = old.get("revision_id")
        if self.event == "delete":
            assert old is not None
            writes.deletes.append(Delete(old[store.id_name], expected, old))
            return
        if revision is not None:
            document.__dict__["revision_id"] = revision
        encoded = store.encode(document)
        if old is None:
            writes.inserts.append(encoded)
            self.raw = encoded
            return
        plain = store.encode(store.parse(type(document), old))
        change = {name: value for name, value in encoded.items() if name not in plain or plain[name] != value}
        gone = plain.keys() - encoded.keys()
        self.raw = {name: value for name, value in {**old, **encoded}.items() if name not in gone}
        writes.updates.append(Update(old[store.id_name], expected, change, gone, old, self.raw))


def _until_written(document: Any) -> tuple[str, ...]:
    names: tuple[str, ...] = type(document).__until_written__
    return names


def fields_of(document: Any) -> dict[str, Any]:
    """Return the values of a document's fields."""
    names = type(document).model_fields
    return {name: value for name, value in document.__dict__.items() if name in names}
