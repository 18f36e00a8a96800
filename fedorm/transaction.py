"""How the transactions of a session's services end together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.engine import Connection
from sqlalchemy.orm import SessionTransaction
from sqlalchemy.orm.session import SessionTransactionOrigin, SessionTransactionState

from fedorm.catalog import SERVICE, service_of
from fedorm.exc import PartialCommitError
from fedorm.stores.base import Capability

if TYPE_CHECKING:
    from fedorm.session import FederatedSession

Step = tuple[str, Callable[[], None]]


class FederatedTransaction(SessionTransaction):
    """A session's transaction over all the services it has touched.

    Everything is flushed before anything is committed. Then the services commit one by one: those that hold documents
    first, then the others, each in the order of their names, so that two sessions never end in different orders.
    """

    def __init__(self, session: Any, origin: SessionTransactionOrigin, parent: Any = None) -> None:
        super().__init__(session, origin, parent)
        self._held = dict(self._owner.held) if self.nested else {}
        self._documents = self._owner.documents.snapshot() if self.nested else None

    @property
    def _owner(self) -> FederatedSession:
        return cast("FederatedSession", self.session)

    def _begin(self, nested: bool = False) -> SessionTransaction:
        kind = SessionTransactionOrigin.BEGIN_NESTED if nested else SessionTransactionOrigin.SUBTRANSACTION
        return FederatedTransaction(self.session, kind, self)

    def _connection_for_bind(self, bind: Any, execution_options: Any) -> Connection:
        if self.nested and self._parent is not None and not isinstance(bind, Connection):
            service = bind.get_execution_options().get(SERVICE)
            store = self._owner.stores.get(service)
            if store is not None and Capability.SAVEPOINTS not in store.capabilities:
                # What has no savepoints takes part in the outer transaction.
                return self._parent._connection_for_bind(bind, execution_options)
        return super()._connection_for_bind(bind, execution_options)

    def commit(self, _to_root: bool = False) -> None:
        """Commit every service, or raise with nothing committed, or raise ``PartialCommitError``."""
        session = self._owner
        if self._parent is not None:
            super().commit(_to_root)
            return
        sent: list[str] = []
        if self._state is not SessionTransactionState.PREPARED:
            held = {service_of(type(instance)) for instance in session.held.values()}
            try:
                with session.releasing_held(sent):
                    self._prepare_impl()
                    with session.assigned_only():
                        session.flush()  # What listeners of before_commit have done to documents.
            except BaseException as error:
                if not sent:
                    raise
                waiting = held.difference(sent) | {service for service, _ in self._steps()}
                # A service that failed half-way, with nothing else to wait for, is on both sides.
                raise self._split(sent, sorted(waiting.difference(sent)) or sent, error) from error
        steps, cancelled = self._steps(), None
        if len(steps) > 1:
            # Once the first service has committed the others follow, also if the caller is cancelled meanwhile.
            _, cancelled = session.bridge.to_its_end(lambda: self._commit_services(steps, sent))
        else:
            self._commit_services(steps, sent)
        super().commit(_to_root)
        if session.has_documents:
            session.documents.committed(expire=session.expire_on_commit)
        if cancelled is not None:
            raise cancelled

    def _steps(self) -> list[Step]:
        rows: list[Step] = []
        for connection, transaction, should_commit, autoclose in set(self._connections.values()):
            service = connection.get_execution_options().get(SERVICE)
            if should_commit and service is not None:  # What is of no service is the federated select's, and empty.
                rows.append((service, self._commits(connection, transaction, autoclose)))
        documents = self._owner.documents.commits() if self._owner.has_documents else []
        rows.sort(key=lambda step: step[0])
        # A document store may refuse at its commit what it took before, for a conflict or because the transaction
        # took too long; a database that has flushed hardly ever does.
        return documents + rows

    def _commits(self, connection: Connection, transaction: Any, autoclose: bool) -> Callable[[], None]:
        def commit() -> None:
            transaction.commit()
            # No longer this transaction's to commit or roll back.
            del self._connections[connection], self._connections[connection.engine]
            if autoclose:
                connection.close()

        return commit

    def _commit_services(self, steps: list[Step], sent: list[str]) -> None:
        """Run the steps; ``sent`` names the services that hold their rows already and cannot give them back."""
        committed = list(sent)
        for position, (service, commit) in enumerate(steps):
            try:
                commit()
            except BaseException as error:
                if not committed:
                    raise
                left = [name for name, _ in steps[position:] if name not in committed]
                raise self._split(committed, left, error) from error
            if service not in committed:
                committed.append(service)

    def _split(self, committed: list[str], failed: list[str], cause: BaseException) -> PartialCommitError:
        """Undo what can be undone, and return the error that says who has what."""
        self.rollback()
        return PartialCommitError(committed=committed, failed=failed, cause=cause)

    def rollback(self, _capture_exception: bool = False, _to_root: bool = False) -> None:
        """Undo in every service, and in the session's documents."""
        session = self._owner
        if self.nested:
            # First: the transactions around this one may follow at once, and then have the last word.
            session.held = self._held
            if self._documents is not None:
                session.documents.restore(self._documents)
                self._documents = None
        try:
            super().rollback(_capture_exception, _to_root)
        finally:
            if self._parent is None:
                session.held.clear()
                if session.has_documents:
                    session.documents.rollback()
