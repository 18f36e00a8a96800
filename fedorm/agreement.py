"""A transaction over several services that all commit or none: who takes part in it, and how it is carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection, Engine
from sqlalchemy import exc as sa_exc

from fedorm import points
from fedorm.exc import (
    ServiceTimeoutError,
    ServiceUnavailableError,
    StillDecidingError,
    StoreError,
    TwoPhaseError,
    UnsupportedOperationError,
)
from fedorm.stores.base import Capability, Store
from fedorm.stores.branches import Branch, new_id
from fedorm.stores.sql import SQLStore
from fedorm.stores.watching import has_changed
from fedorm.twophase.arrivals import Arrival, arrival_of
from fedorm.twophase.decisions import DecisionLog, Outcome, decision_log
from fedorm.twophase.protocol import (
    Action,
    Answer,
    Ask,
    Confirm,
    Decide,
    Delegate,
    Failed,
    Prepare,
    Release,
    Undo,
    Verdict,
    coordinate,
)
from fedorm.twophase.settling import located

if TYPE_CHECKING:
    from fedorm.session import FederatedSession


@dataclass(frozen=True, slots=True)
class Part:
    """A database's connection and transaction in a session's."""

    connection: Connection
    transaction: Any
    """SQLAlchemy's, for two phases where the database can prepare."""
    autoclose: bool

    def let_go(self, *, broken: bool = False) -> None:
        """Give the connection back to its pool; a ``broken`` one is thrown away, and its server told nothing more."""
        if broken and not self.connection.closed:
            self.connection.invalidate()
        if self.autoclose:
            self.connection.close()


@dataclass(frozen=True, slots=True)
class Roles:
    """Who does what in a commit; ``decider`` is the service whose log the branches' names lead to."""

    prepared: tuple[str, ...]
    last: str
    decider: str
    readers: tuple[str, ...]


class Agreement:
    """The branches of one transaction, from the first service that joins it."""

    def __init__(self, session: FederatedSession) -> None:
        self.id = new_id()
        self._session = session
        self._branches: dict[str, Branch] = {}
        self._first_named: str | None = None
        """The first service whose branch has its name, and so a decider, from its start on."""
        self._parts: dict[str, Part] = {}
        """Of SQL services, while the protocol runs."""
        self._services: tuple[str, ...] = ()
        self._deciding = False
        self._arrival: Arrival | None = None
        self._send: Callable[[], None] = _nothing
        self._decider = ""

    # -- joining

    def join(self, store: SQLStore, bind: Engine, options: Mapping[str, Any] | None) -> tuple[Connection, Any]:
        """Connect to a service and begin its branch. Raises ``TwoPhaseError`` for a server that cannot prepare.

        Asked once for each pool, so that a server is refused, and the log's table is made, before anything is written.
        """
        refusal = store.two_phase_refusal(bind)
        if refusal is not None:
            raise TwoPhaseError(refusal, service=store.service, address=store.address)
        self.admit(store)
        branch = self._branches[store.service] = Branch(self.id, store.service)
        if store.names_branches_first:
            decider = self._first_named = self._first_named or store.service
            self._name(branch, decider)
        connection = bind.connect()
        try:
            if options:
                connection = connection.execution_options(**options)
            return connection, connection.begin_twophase(branch)
        except BaseException:
            connection.close()
            raise

    def admit(self, store: SQLStore) -> None:
        """Get ready for a service that cannot prepare: its log's table is made before it is locked."""
        if Capability.TRANSACTIONS in store.capabilities:
            self._log(store.service).token()

    def _name(self, branch: Branch, decider: str) -> None:
        branch.decider, branch.log = decider, self._log(decider).token()

    def _place(self, service: str) -> str:
        """Return how a record names a service."""
        if self._arrival is not None and not self._keeps_log(service):
            return located(service, self._arrival.written())
        return located(service, self._log(service).token())

    def _keeps_log(self, service: str) -> bool:
        return self._store(service).keeps_own

    def _log(self, service: str) -> DecisionLog:
        session = self._session
        return decision_log(session.store_named(service), session.bridge, sync=session.uses_threads)

    # -- roles

    def writers(self, parts: Mapping[str, Part], documents: Sequence[str], held: set[str]) -> list[str]:
        """Return the services that have been written to.

        ``documents`` are those whose documents were written in a transaction, ``held`` those without rollback.
        """
        return [*documents, *held, *self._with_rows(parts)]

    def roles(self, parts: Mapping[str, Part], documents: Sequence[str], held: set[str]) -> Roles | None:
        """Say who does what; None where one service alone has written, and an ordinary commit is all that it takes.

        Takes what ``writers`` takes. Raises ``TwoPhaseError`` when more than one of those cannot prepare.
        """
        written = self.writers(parts, documents, held)
        if len(written) < 2:
            return None
        unable = sorted(name for name in written if Capability.TWO_PHASE not in self._store(name).capabilities)
        if len(unable) > 1:
            raise self._too_many(unable)
        if held:
            self._arrival = self._expected(unable[0])
        named = [name for name in written if name in parts and self._names_first(name)]
        first = self._first_named if named else None
        last = unable[0] if unable else first or max(written)
        if first is not None and not unable and first not in written:
            written.append(first)  # It has been read only, and gets the record.
        prepared = tuple(sorted(set(written) - {last}))
        readers = tuple(sorted(parts.keys() - set(written)))
        # Who has no transactions keeps no log, either.
        return Roles(prepared, last, first or (max(prepared) if held else last), readers)

    def _expected(self, service: str) -> Arrival:
        """Return the row by which a recovery will see whether a service without transactions has got its rows."""
        store = self._store(service)
        rows = [one for one in self._session.held.values() if type(one).__service__ == service]
        try:
            if not rows or not isinstance(store, SQLStore):
                raise ValueError(
                    "it has no transactions, and no row is known by which a recovery could see what it has got"
                )
            arrival = arrival_of(rows)
            with store.bind_for(sync=self._session.uses_threads).connect() as connection:
                if arrival.has_come(connection):
                    raise ValueError(f"it has a row with the key {dict(arrival.key)} already, as a recovery would see")
        except ValueError as error:
            raise TwoPhaseError(
                f"cannot be the last in a two-phase commit: {error}", service=service, address=store.address
            ) from None
        return arrival

    def _with_rows(self, parts: Mapping[str, Part]) -> list[str]:
        def look(name: str, part: Part) -> bool:
            store = self._store(name)
            if has_changed(part.connection):
                return True
            return not (isinstance(store, SQLStore) and store.has_written_nothing(part.connection))

        jobs = [partial(look, name, part) for name, part in parts.items()]
        wrote = self._session.bridge.side_by_side(jobs) if jobs else []
        return [name for name, one in zip(parts, wrote, strict=True) if one]

    def _names_first(self, service: str) -> bool:
        store = self._store(service)
        return isinstance(store, SQLStore) and store.names_branches_first

    def _store(self, service: str) -> Store:
        return self._session.store_named(service)

    def _too_many(self, unable: Sequence[str]) -> TwoPhaseError:
        kinds = ", ".join(f"{name!r} ({self._store(name).kind})" for name in unable)
        return TwoPhaseError(
            f"the services {kinds} cannot prepare a transaction, and only one such service may take part in a "
            f"two-phase commit, as the last one: write to them in transactions of their own, or by the outbox",
            service=unable[0],
        )

    # -- carrying it out

    def carry_out(self, roles: Roles, parts: Mapping[str, Part], send: Callable[[], None]) -> Verdict:
        """Run the protocol; afterwards no connection of ``parts`` is held any more, however it ended.

        ``send`` sends the last service its rows, if that has no transactions.
        """
        self._parts, self._send, self._decider = dict(parts), send, roles.decider
        kept = [name for name in sorted({*roles.prepared, roles.last}) if self._keeps_log(name)]
        self._services = tuple(self._place(name) for name in kept)
        try:
            for name in roles.prepared:
                if not self._names_first(name):
                    self._name(self._branches[name], roles.decider)
            steps = coordinate(prepared=roles.prepared, last=roles.last, decider=roles.decider, readers=roles.readers)
            actions = next(steps)
            while True:
                jobs = [partial(self._answered, action) for action in actions]
                actions = steps.send(self._session.bridge.side_by_side(jobs))
        except StopIteration as end:
            verdict: Verdict = end.value
            if verdict.outcome is Outcome.COMMITTED and not verdict.pending:
                for name in {roles.decider, roles.last}:
                    if self._keeps_log(name):
                        self._log(name).is_over(self.id)
            return verdict
        finally:
            for part in self._parts.values():
                self._abandon(part)
            self._parts.clear()

    def _abandon(self, part: Part) -> None:
        """Let go of what the protocol was interrupted with; where a decision may be there only the recovery knows."""
        try:
            if not self._deciding:
                part.transaction.rollback()
        finally:
            part.let_go(broken=self._deciding)

    def _answered(self, action: Action) -> Answer:
        name = f"{type(action).__name__.lower()} {action.service}"
        points.reached(f"before {name}")
        try:
            answer = _METHODS[type(action)](self, action)
        except Exception as error:
            if (part := self._parts.pop(action.service, None)) is not None:
                part.let_go(broken=True)
            return Failed(error, unsure=self._may_have_happened(action, error))
        points.reached(f"after {name}")
        return answer

    def _may_have_happened(self, action: Action, error: Exception) -> bool:
        if self._arrival is not None and isinstance(action, Decide):
            # A value that the driver itself refuses: no block was sent as a whole.
            return not _was_refused(error) and isinstance(error, StoreError | sa_exc.DBAPIError | OSError | EOFError)
        return not _was_refused(error)

    def _release(self, action: Release) -> None:
        part = self._parts[action.service]
        part.transaction.commit()
        self._parts.pop(action.service).let_go()

    def _prepare(self, action: Prepare) -> None:
        self._parts[action.service].transaction.prepare()

    def _delegate(self, action: Delegate) -> None:
        self._log(action.service).delegate(self.id, self._place(action.to), self._services)

    def _decide(self, action: Decide) -> None:
        self._deciding = True
        if self._arrival is not None:
            self._send_last()
            return
        part = self._parts.get(action.service)
        log = self._log(action.service)
        if part is None:
            documents = self._session.documents
            log.record(documents.transactions[action.service], self.id, self._services)
            dict(documents.commits())[action.service]()
            return
        log.record(part.connection, self.id, self._services)
        part.transaction.commit()
        self._parts.pop(action.service).let_go()

    def _send_last(self) -> None:
        """Send the last service its rows, while no recovery can conclude that they have not come."""
        with self._log(self._decider).concluding(self.id) as (decision, conclude):
            if decision.outcome is not Outcome.DELEGATED:
                raise TwoPhaseError(f"the transaction {self.id} was settled by a recovery", service=self._decider)
            self._send()
            points.reached("after send")
            conclude(Outcome.COMMITTED)

    def _ask(self, action: Ask) -> Outcome:
        if self._arrival is not None:  # What was sent may still come: the recovery will look for it, after a while.
            raise StillDecidingError("may have got the rows or not", service=action.service)
        return self._log(action.service).settle(self.id).outcome

    def _confirm(self, action: Confirm) -> None:
        self._end(action.service, commit=True)

    def _undo(self, action: Undo) -> None:
        self._end(action.service, commit=False)  # Documents are undone with the session's own.

    def _end(self, service: str, *, commit: bool) -> None:
        """End a branch over its own connection, or over another one if that is lost, or a recovery was quicker."""
        part = self._parts.pop(service, None)
        if part is not None:
            try:
                (part.transaction.commit if commit else part.transaction.rollback)()
            except Exception:
                part.let_go(broken=True)
            else:
                part.let_go()
                return
        if service in self._branches:
            self._end_elsewhere(service, commit=commit)

    def _end_elsewhere(self, service: str, *, commit: bool) -> None:
        """End a prepared branch over another connection: its own was lost."""
        session, store = self._session, cast(SQLStore, self._store(service))
        with store.bind_for(sync=session.uses_threads).connect() as connection:
            store.end_prepared(connection, self._branches[service], commit=commit)


def _nothing() -> None:
    """Do nothing."""


_METHODS: Mapping[type[Action], Callable[[Agreement, Any], Answer]] = {
    Release: Agreement._release,
    Prepare: Agreement._prepare,
    Delegate: Agreement._delegate,
    Decide: Agreement._decide,
    Ask: Agreement._ask,
    Confirm: Agreement._confirm,
    Undo: Agreement._undo,
}


def _was_refused(error: BaseException) -> bool:
    """Say whether a server, or fedorm in its place, has said no, and so has not done what was asked of it."""
    if isinstance(error, ServiceUnavailableError | ServiceTimeoutError):
        return False
    if isinstance(error, TwoPhaseError | UnsupportedOperationError):
        return True
    return isinstance(error, sa_exc.DBAPIError) and not error.connection_invalidated
