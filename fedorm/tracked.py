"""A document of a session, and what the database holds of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedorm.stores.base import DocumentStore, Writes

Identity = tuple[str, str, Any]
"""Service, collection and ``id``."""

TOUCHED = "_federated_touched"
"""The key in a document's ``__dict__`` that says that a field was assigned."""


@dataclass(slots=True, eq=False)
class Tracked:
    """A document of the session and what the database holds of it."""

    document: Any
    store: DocumentStore
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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The documents of a session at a savepoint."""

    tracked: dict[Identity, Tracked]
    pending: dict[Identity, Tracked]
    doomed: dict[Identity, Tracked]
    fields: list[tuple[Tracked, dict[str, Any], bool]]


@dataclass(slots=True)
class Write:
    """An insert, update or delete of one document."""

    entry: Tracked
    event: str
    raw: dict[str, Any] | None = None

    def describe(self, writes: Writes, store: DocumentStore) -> None:
        """Add the insert, update or delete of one document to ``writes``."""
        document, old = self.entry.document, self.entry.raw
        where: dict[str, Any] = {"_id": old["_id"] if old else document.id}
        revision = store.new_revision(type(document))
        if revision is not None and old is not None:
            where["revision_id"] = old.get("revision_id")
        if self.event == "delete":
            writes.deletes.append(where)
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
        update: dict[str, Any] = {}
        if change:
            update["$set"] = change
        if gone:
            update["$unset"] = dict.fromkeys(gone, "")
        writes.updates.append((where, update))
        self.raw = {name: value for name, value in {**old, **encoded}.items() if name not in gone}


def fields_of(document: Any) -> dict[str, Any]:
    """Return the values of a document's fields."""
    names = type(document).model_fields
    return {name: value for name, value in document.__dict__.items() if name in names}
