"""``session.search()``: the documents that fit best, as the session's own, with their relationships."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fedorm.exc import UnsupportedOperationError
from fedorm.stores.base import Capability, DocumentStore
from fedorm.stores.searching import Search, SearchResult

if TYPE_CHECKING:
    from fedorm.session import FederatedSession


def search(session: FederatedSession, model: type[Any], wanted: Search, options: Sequence[Any]) -> SearchResult[Any]:
    """Search in the model's service, adopt what was found, and load the relationships that ``options`` name.

    Raises ``UnsupportedOperationError`` for a service that cannot rank what it finds.
    """
    store = session.store_of(model)
    if not isinstance(store, DocumentStore) or Capability.SEARCH not in store.capabilities:
        raise UnsupportedOperationError(
            f"ranks nothing by relevance: search() is for documents of Elasticsearch, and {model.__name__} is none",
            service=store.service,
            address=store.address,
        )
    if not session.uses_threads:
        session._autoflush()
    found = session.bridge.run(store.search(model, wanted, sync=session.uses_threads))
    documents = session.documents.adopt(store, model, found.documents)
    if options:
        session.load(documents, *options)
    pairs = zip(found.hits, documents, strict=True)
    return replace(found, hits=[replace(hit, document=document) for hit, document in pairs])
