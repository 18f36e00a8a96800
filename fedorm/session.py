"""``FederatedSession``: SQLAlchemy's session over several services."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import Executable, event
from sqlalchemy.orm import InstanceState, Mapper, ORMExecuteState, Session, SessionTransaction
from sqlalchemy.orm.session import SessionTransactionOrigin
from sqlalchemy.util import IdentitySet

from fedorm.bridge import Bridge
from fedorm.catalog import STRATEGY, service_of
from fedorm.columns import execute_columns
from fedorm.documents import Documents
from fedorm.entity import is_document
from fedorm.exc import UnsupportedOperationError, UnsupportedQueryError
from fedorm.loading import Loader
from fedorm.measuring import execute_measured, measured
from fedorm.options import FederatedLoad, Relationship, federated_load
from fedorm.outbox.writing import EmittingSession, end_flush
from fedorm.relationship import FederatedAttribute
from fedorm.routing import RoutedSession
from fedorm.searching import search
from fedorm.statements import execute_federated, insert_in_blocks, needs_dispatch, refuse_crossing, route_to_several
from fedorm.stats import Meter
from fedorm.stores.base import Capability, DocumentStore, Store
from fedorm.stores.searching import Search, SearchResult
from fedorm.transaction import FederatedTransaction

if TYPE_CHECKING:
    import pyarrow as pa

    from fedorm.query.explain import Explanation
    from fedorm.query.runner import QueryRunner

T = TypeVar("T")


class FederatedSession(EmittingSession, RoutedSession):
    """A ``Session`` that sends each model, table and document to the service that owns it."""

    def __init__(
        self,
        *,
        stores: Mapping[str, Store],
        bridge: Bridge,
        uses_threads: bool = True,
        queries: Callable[[], QueryRunner] | None = None,
        meter: Meter | None = None,
        cache_ttl: float | None = None,
        twophase: bool = False,
        **options: Any,
    ) -> None:
        self.bridge = bridge
        self._queries = queries
        self.meter = meter
        self.cache_ttl = cache_ttl
        self.two_phase = twophase
        """Whether all services commit or none; SQLAlchemy's own ``twophase`` stays off, as its ids are random."""
        self.is_executing = False
        self.crossed = False
        """Whether the statement that runs has needed more than one service."""
        self.held: dict[int, Any] = {}
        """New objects for services that cannot roll back; inserted at commit, when all others were flushed."""
        self.loads = 0
        """How many loads of federated relationships are under way."""
        self._releasing = False
        self._thorough = True
        super().__init__(stores=stores, uses_threads=uses_threads, **options)

    @cached_property
    def documents(self) -> Documents:
        """The documents of this session; made at first use, as many sessions have none."""
        return Documents(self)

    @property
    def has_documents(self) -> bool:
        """Say whether the session has ever had to do with documents."""
        return "documents" in self.__dict__

    # -- unit of work

    def add(self, instance: object, _warn: bool = True) -> None:
        """Take ``instance`` in; a document is inserted by the next flush, a ClickHouse row by the commit."""
        if is_document(type(instance)):
            self.begin_quietly()
            self.documents.add(instance)
        else:
            super().add(instance, _warn=_warn)

    def _save_impl(self, state: InstanceState[Any]) -> None:
        # Whatever brings a new object in comes by here: add(), merge(), and cascades.
        service = getattr(state.class_, "__service__", None)
        if service is not None:
            store = self.store_named(service, used_by=state.class_.__name__)
            if Capability.TRANSACTIONS not in store.capabilities and not self._releasing:
                self.begin_quietly()  # A rollback has to find a transaction that it takes them back with.
                self.held[id(state.obj())] = state.obj()
                return
        super()._save_impl(state)

    def delete(self, instance: object) -> None:
        """Delete ``instance`` at the next flush."""
        if is_document(type(instance)):
            self.begin_quietly()
            self.documents.delete(instance)
        else:
            super().delete(instance)

    def merge(self, instance: T, **options: Any) -> T:
        """Copy ``instance`` onto the session's own object of the same identity, and return that."""
        if is_document(type(instance)):
            self.begin_quietly()
            merged: T = self.documents.merge(instance, load=options.get("load", True))
            return merged
        return super().merge(instance, **options)

    def get(self, entity: type[T] | Mapper[T], ident: Any, **options: Any) -> T | None:
        """Return the object or document with a primary key, None without one."""
        if not is_document(entity):
            return super().get(entity, ident, **options)
        found: T | None = self.documents.get(
            cast("type[T]", entity), ident, refresh=bool(options.get("populate_existing"))
        )
        if found is not None and options.get("options"):
            self.load([found], *options["options"])
        return found

    def refresh(  # type: ignore[override]
        self, instance: object, attribute_names: Iterable[str] | None = None, **options: Any
    ) -> None:
        """Read ``instance`` anew; federated relationships named in ``attribute_names`` are loaded anew, too."""
        names = list(attribute_names) if attribute_names is not None else None
        related = [name for name in names or () if name in getattr(type(instance), "__federated__", ())]
        rest = [name for name in names or () if name not in related]
        if names is None or rest:
            if is_document(type(instance)):
                self.documents.refresh(instance)
            else:
                super().refresh(instance, rest or None, **options)
        for name in related:
            vars(instance).pop(type(instance).__federated__[name].slot, None)  # type: ignore[attr-defined]
            self.load([instance], getattr(type(instance), name))

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        """Write what is pending: all documents are validated, then rows are written, then documents."""
        documents = self.documents if self.has_documents and self.documents.has_work() else None
        plans = documents.plan(thorough=self._thorough, at_commit=self._releasing) if documents is not None else []
        super().flush(objects)
        if documents is not None:
            documents.write(plans)
        if self.has_outbox and self.outbox.has_work():
            self.outbox.flush()

    def _autoflush(self) -> None:
        with self.assigned_only():
            super()._autoflush()

    @contextmanager
    def assigned_only(self) -> Iterator[None]:
        """Flush without comparing every document, as before each query: only those that were assigned to."""
        self._thorough = False
        try:
            yield
        finally:
            self._thorough = True

    def held_services(self) -> set[str]:
        """Return the services without rollback for which something is held back until the commit."""
        held = {service_of(type(instance)) for instance in self.held.values()}
        return held | self.documents.held_services() if self.has_documents else held

    @contextmanager
    def releasing_held(self, sent: list[str]) -> Iterator[None]:
        """Flush everything else, then what services without rollback get; the names of those are added to ``sent``."""
        if self.held:
            self.flush()
        self._releasing = True
        try:
            by_service: dict[str, list[Any]] = {}
            for instance in self.held.values():
                by_service.setdefault(service_of(type(instance)), []).append(instance)
            self.held = {}
            for service in sorted(by_service):
                self.add_all(by_service[service])
                _, cancelled = self.bridge.to_its_end(self.flush)  # A thread goes on sending, whoever is cancelled.
                sent.append(service)
                if cancelled is not None:
                    raise cancelled
            if self.has_documents:
                try:
                    self.flush()
                finally:
                    sent.extend(self.documents.irrevocable())
            yield
        finally:
            self._releasing = False

    def expire(self, instance: object, attribute_names: Iterable[str] | None = None) -> None:
        """Read ``instance`` anew when it is used next; for a document, when it is asked for next."""
        names = list(attribute_names) if attribute_names is not None else None
        related = [name for name in names or () if name in getattr(type(instance), "__federated__", ())]
        for name in related:
            vars(instance).pop(type(instance).__federated__[name].slot, None)  # type: ignore[attr-defined]
        if names is not None and not set(names) - set(related):
            return
        if is_document(type(instance)):
            self.documents.expire([instance])
        else:
            super().expire(instance, None if names is None else [name for name in names if name not in related])

    def expire_all(self) -> None:
        """Expire every object and document."""
        super().expire_all()
        if self.has_documents:
            self.documents.expire()

    def expunge(self, instance: object) -> None:
        """Let go of ``instance``."""
        if is_document(type(instance)):
            self.documents.expunge(instance)
        elif self.held.pop(id(instance), None) is None:
            super().expunge(instance)

    def expunge_all(self) -> None:
        """Let go of everything."""
        super().expunge_all()
        self.held.clear()
        if self.has_documents:
            self.documents.clear()

    def is_modified(self, instance: object, include_collections: bool = True) -> bool:
        """Say whether ``instance`` has changes that a flush would write."""
        if is_document(type(instance)):
            return self.documents.is_changed(instance)
        return super().is_modified(instance, include_collections)

    def __contains__(self, instance: object) -> bool:
        if is_document(type(instance)):
            return instance in self.documents
        return id(instance) in self.held or super().__contains__(instance)

    @property
    def new(self) -> IdentitySet:
        """Objects and documents to be inserted."""
        return super().new.union([*self.held.values(), *(entry.document for entry in self.documents.pending.values())])

    @property
    def dirty(self) -> IdentitySet:
        """Objects and documents that were changed."""
        return super().dirty.union(self.documents.changed())

    @property
    def deleted(self) -> IdentitySet:
        """Objects and documents to be deleted."""
        return super().deleted.union(entry.document for entry in self.documents.doomed.values())

    def _execute_internal(self, statement: Any, params: Any = None, **options: Any) -> Any:
        """Run a statement; one that fedorm has something to add to passes ``_dispatch`` as its last event.

        Not a listener of the class: what an event costs would be paid by the plainest of selects, too.
        """
        if options.get("_parent_execute_state") is None and needs_dispatch(statement, self.stores):
            refuse_crossing(statement)
            options["_add_event"] = _dispatch
        return execute_measured(self, super()._execute_internal, statement, params, options)

    # -- transactions

    def _autobegin_t(self, begin: bool = False) -> SessionTransaction:
        if self._transaction is None and (begin or self.autobegin):
            FederatedTransaction(self, SessionTransactionOrigin.BEGIN if begin else SessionTransactionOrigin.AUTOBEGIN)
        return super()._autobegin_t(begin)

    def begin_quietly(self) -> None:
        """Begin a transaction if there is none, as a statement would."""
        self._autobegin_t()

    def rollback(self) -> None:
        """Undo everything since the last commit, in rows and in documents."""
        if self.has_documents:
            self.begin_quietly()  # A document that was only assigned to has begun none.
        super().rollback()

    def _close_impl(self, invalidate: bool, is_reset: bool = False) -> None:
        try:
            super()._close_impl(invalidate, is_reset)
        finally:
            self.held.clear()
            if self.has_outbox:
                self.outbox.rolled_back()
            if self.has_documents:
                self.documents.abort()
                self.documents.clear()

    # -- selects over several services

    @property
    def queries(self) -> QueryRunner | None:
        """What answers statements over several services; None in a session that was made without."""
        return self._queries() if self._queries is not None else None

    def explain(
        self, statement: Executable, parameters: Mapping[str, Any] | None = None, *, analyze: bool = False
    ) -> Explanation:
        """Return how a query over several services is, or for ``analyze`` was, run: ``print()`` it."""
        strategy = statement.get_execution_options().get(STRATEGY, "auto")
        return self._asked().explain(self, statement, parameters or {}, analyze=analyze, strategy=strategy)

    def arrow(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Return the result of a query over any services as a ``pyarrow.Table``; of entities, their columns."""
        strategy = statement.get_execution_options().get(STRATEGY, "auto")
        return measured(self, lambda: self._asked().arrow(self, statement, parameters or {}, strategy), statement)

    def _asked(self) -> QueryRunner:
        if (queries := self.queries) is None:
            raise UnsupportedQueryError("this session was made without its federation, which plans its statements")
        return queries

    # -- relationships and documents

    def load(self, instances: Iterable[Any], *paths: FederatedLoad | Relationship) -> None:
        """Load relationships of ``instances``: ``federated_load(...)`` options, or attributes."""
        options = [path if isinstance(path, FederatedLoad) else federated_load(path) for path in paths]
        Loader(self).load(list(instances), options)

    def load_siblings(self, instance: Any, attribute: FederatedAttribute) -> None:
        """Load ``attribute`` of ``instance`` and of all that were loaded with it, in one batch."""
        Loader(self).load_siblings(instance, attribute)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Keep what is loaded when its rows are read again in the block."""
        self.loads += 1
        try:
            yield
        finally:
            self.loads -= 1

    def can_wait(self) -> bool:
        """Say whether the calling code may wait here for a service."""
        return self.bridge.can_wait()

    def find(self, model: type[Any], *conditions: Any) -> Any:
        """Return a query over a document model: ``session.find(Product, Product.price > 2).sort("-price").all()``."""
        query = self._find(model, conditions)
        return query.for_threads(self.bridge, self._autoflush) if self.uses_threads else query

    def search(
        self, model: type[Any], query: Any = None, *, options: Sequence[Any] = (), **wanted: Any
    ) -> SearchResult[Any]:
        """Return what fits a text or a query best; ``wanted`` is the rest of ``fedorm.stores.searching.Search``."""
        return search(self, model, Search(query, **wanted), options)

    def _find(self, model: type[Any], conditions: Sequence[Any]) -> Any:
        store = self.store_of(model)
        if not isinstance(store, DocumentStore):
            raise UnsupportedOperationError(
                f"holds tables: select({model.__name__}) instead of find()",
                service=store.service,
                address=store.address,
            )
        return store.query(self.documents, model, conditions, sync=self.uses_threads)


def _dispatch(state: ORMExecuteState) -> Any:
    """Take over the statements that fedorm has something to add to; leave all others as SQLAlchemy sends them."""
    # SQLAlchemy names no clause for a UNION of selects, as a session with a single bind needs none.
    state.bind_arguments.setdefault("clause", state.statement)
    route_to_several(state)
    if state.is_insert:
        insert_in_blocks(state)
    return execute_federated(state) or execute_columns(state)


event.listen(FederatedSession, "after_flush", end_flush)


@event.listens_for(FederatedSession, "before_flush")
def _refuse_changes(session: FederatedSession, context: Any, instances: Any) -> None:
    """Refuse to change or delete rows of a service that can only be appended to."""
    deleted: IdentitySet = Session.deleted.fget(session)  # type: ignore[attr-defined]
    for instance in (*Session.dirty.fget(session), *deleted):  # type: ignore[attr-defined]
        service = getattr(type(instance), "__service__", None)
        store = session.stores.get(service) if service is not None else None
        if store is None or Capability.UPDATES in store.capabilities:
            continue
        if instance in deleted or session.is_modified(instance):
            raise UnsupportedOperationError(
                f"can only be appended to: a changed or deleted {type(instance).__name__} cannot be written",
                service=store.service,
                address=store.address,
            )
