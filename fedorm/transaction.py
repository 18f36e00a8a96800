"""How the transactions of a session's services end together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import SessionTransaction
from sqlalchemy.orm.session import SessionTransactionOrigin, SessionTransactionState
from sqlalchemy.orm.state_changes import _StateChange, _StateChangeStates

from fedorm.agreement import Agreement, Part, Roles
from fedorm.catalog import SERVICE
from fedorm.exc import InDoubtError, PartialCommitError, ServiceTimeoutError, ServiceUnavailableError
from fedorm.stores.base import Capability
from fedorm.stores.sql import SQLStore
from fedorm.twophase.decisions import Outcome
from fedorm.twophase.protocol import Verdict

if TYPE_CHECKING:
    from fedorm.session import FederatedSession

Step = tuple[str, Callable[[], None]]


class FederatedTransaction(SessionTransaction):
    """A session's transaction over all the services it has touched.

    Everything is flushed before anything is committed. Then the services commit one by one: those that hold documents
    first, then the SQL services, last those that ``commits_after_rows``, each in the order of their names, so that two
    sessions never end in different orders. In a session with ``twophase`` they commit together, by an ``Agreement``,
    when more than one has been written to.
    """

    def __init__(self, session: Any, origin: SessionTransactionOrigin, parent: Any = None) -> None:
        super().__init__(session, origin, parent)
        self._held = dict(self._owner.held) if self.nested else {}
        self._documents = self._owner.documents.snapshot() if self.nested else None
        self._events = self._owner.outbox.snapshot() if self.nested and self._owner.has_outbox else []
        self._agreement = Agreement(self._owner) if self._owner.two_phase and self._parent is None else None

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
        if self._agreement is not None and isinstance(bind, Engine) and bind not in self._connections:
            store = self._owner.stores.get(bind.get_execution_options().get(SERVICE, ""))
            if isinstance(store, SQLStore) and Capability.TWO_PHASE in store.capabilities:
                return self._join(store, bind, execution_options)
            if isinstance(store, SQLStore):
                self._agreement.admit(store)
        return super()._connection_for_bind(bind, execution_options)

    @_StateChange.declare_states((SessionTransactionState.ACTIVE,), _StateChangeStates.NO_CHANGE)
    def _join(self, store: SQLStore, bind: Engine, execution_options: Any) -> Connection:
        """Do what SQLAlchemy does for a new bind, but begin a branch with a name of our own.

        After a crash SQLAlchemy's random ids would match nothing.
        """
        assert self._agreement is not None
        connection, transaction = self._agreement.join(store, bind, execution_options)
        self._connections[connection] = self._connections[bind] = (connection, transaction, True, True)
        self.session.dispatch.after_begin(self.session, self, connection)
        return connection

    def commit(self, _to_root: bool = False) -> None:
        """Commit every service, or raise with nothing committed, or raise ``PartialCommitError``."""
        session = self._owner
        if self._parent is not None:
            super().commit(_to_root)
            return
        if self._agreement is not None and self._state is not SessionTransactionState.PREPARED:
            roles = self._flush_together(self._agreement)
            if roles is not None:
                self._commit_together(self._agreement, roles)
                return
        sent: list[str] = []
        if self._state is not SessionTransactionState.PREPARED:
            held = session.held_services()
            try:
                self._flush_all(sent)
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
        self._end(_to_root)
        if cancelled is not None:
            raise cancelled

    def _flush_all(self, sent: list[str]) -> None:
        """Flush everything everywhere; ``sent`` names the services that have no rollback and hold it from then on."""
        session = self._owner
        with session.releasing_held(sent):
            self._prepare_impl()
            with session.assigned_only():
                session.flush()  # What listeners of before_commit have done to documents.

    def _end(self, _to_root: bool = False) -> None:
        """Leave the session as after a commit, when no service has anything to commit any more."""
        session = self._owner
        super().commit(_to_root)
        if session.has_documents:
            session.documents.committed(expire=session.expire_on_commit)
        if session.has_outbox:
            session.outbox.ended()

    # -- all or none

    def _flush_together(self, agreement: Agreement) -> Roles | None:
        """Flush everything that can be undone, and say who does what; None where one service alone was written to."""
        session = self._owner
        held = session.held_services()
        if held:
            session.flush()
            if len(agreement.writers(self._parts(), self._documents_begun(), held)) < 2:
                return None
            self._prepare_impl()
            with session.assigned_only():
                session.flush()
        else:
            self._flush_all([])
        return agreement.roles(self._parts(), self._documents_begun(), held)

    def _documents_begun(self) -> list[str]:
        return list(self._owner.documents.transactions) if self._owner.has_documents else []

    def _send_held(self) -> None:
        """Send a service without transactions what was held back for it."""
        self._state = SessionTransactionState.ACTIVE  # All else was flushed; this has to be as well.
        with self._owner.releasing_held([]):
            pass
        self._state = SessionTransactionState.PREPARED

    def _commit_together(self, agreement: Agreement, roles: Roles) -> None:
        session = self._owner
        parts = self._parts()
        for part in parts.values():
            # From here on they are the agreement's: whatever ends this session must not end a prepared branch.
            self._take_out(part)
        verdict, cancelled = session.bridge.to_its_end(lambda: agreement.carry_out(roles, parts, self._send_held))
        if verdict.outcome is Outcome.COMMITTED:
            self._end()
        else:
            self.rollback()
        if (error := self._error_of(verdict)) is not None:
            raise error from (verdict.cause if error is not verdict.cause else None)
        if cancelled is not None:
            raise cancelled

    @staticmethod
    def _error_of(verdict: Verdict) -> BaseException | None:
        if verdict.outcome is Outcome.ROLLED_BACK:
            if verdict.pending and verdict.cause is not None:
                names = ", ".join(verdict.pending)
                verdict.cause.add_note(f"rolled back; the recovery will roll back what may be prepared in {names}")
            return verdict.cause
        if verdict.outcome is Outcome.COMMITTED and not verdict.pending:
            return None
        outcome = "committed" if verdict.outcome is Outcome.COMMITTED else "unknown"
        return InDoubtError(outcome=outcome, pending=verdict.pending, cause=verdict.cause)

    def _steps(self) -> list[Step]:
        rows = [(service, self._commits(part)) for service, part in sorted(self._parts().items())]
        documents = self._owner.documents.commits() if self._owner.has_documents else []
        # A document store may refuse at its commit what it took before, for a conflict or because the transaction
        # took too long; a database that has flushed hardly ever does.
        stores = self._owner.stores
        first = [step for step in documents if not stores[step[0]].commits_after_rows]
        return first + rows + [step for step in documents if stores[step[0]].commits_after_rows]

    def _parts(self) -> dict[str, Part]:
        parts: dict[str, Part] = {}
        for connection, transaction, should_commit, autoclose in set(self._connections.values()):
            service = connection.get_execution_options().get(SERVICE)
            if should_commit and service is not None:  # What is of no service is the federated select's, and empty.
                parts[service] = Part(connection, transaction, autoclose)
        return parts

    def _commits(self, part: Part) -> Callable[[], None]:
        def commit() -> None:
            part.transaction.commit()
            self._take_out(part)
            part.let_go()

        return commit

    def _take_out(self, part: Part) -> None:
        """Make a connection no longer this transaction's to commit or roll back."""
        del self._connections[part.connection], self._connections[part.connection.engine]

    def _commit_services(self, steps: list[Step], sent: list[str]) -> None:
        """Run the steps; ``sent`` names the services that hold their rows already and cannot give them back."""
        committed = list(sent)
        for position, (service, commit) in enumerate(steps):
            try:
                commit()
            except BaseException as error:
                rest = [name for name, _ in steps[position + 1 :] if name not in committed]
                unknown = _went_away(error) and service not in committed
                if not committed and not (unknown and rest):
                    raise
                failed = rest if unknown or service in committed else [service, *rest]
                raise self._split(committed, failed, error, [service] if unknown else []) from error
            if service not in committed:
                committed.append(service)

    def _split(
        self, committed: list[str], failed: list[str], cause: BaseException, unknown: Sequence[str] = ()
    ) -> PartialCommitError:
        """Undo what can be undone, and return the error that says who has what."""
        self.rollback()
        if self._owner.has_outbox:
            self._owner.outbox.ended()
        return PartialCommitError(committed=committed, failed=failed, cause=cause, unknown=unknown)

    def rollback(self, _capture_exception: bool = False, _to_root: bool = False) -> None:
        """Undo in every service, and in the session's documents."""
        session = self._owner
        if self.nested:
            # First: the transactions around this one may follow at once, and then have the last word.
            session.held = self._held
            if self._documents is not None:
                session.documents.restore(self._documents)
                self._documents = None
            if session.has_outbox:
                session.outbox.rolled_back(self._events)
        try:
            super().rollback(_capture_exception, _to_root)
        finally:
            if self._parent is None:
                session.held.clear()
                if session.has_outbox:
                    session.outbox.rolled_back()
                if session.has_documents:
                    session.documents.rollback()


def _went_away(error: BaseException) -> bool:
    """Say whether a service went away at its commit: it may have committed before."""
    return isinstance(error, ServiceUnavailableError | ServiceTimeoutError) or not isinstance(error, Exception)
