"""The errors fedorm raises: each says which service or model, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import exc as sa_exc


class FedormError(Exception):
    """The base of every error that fedorm itself raises."""

    def __reduce__(self) -> Any:
        # Not by calling the class again: most want more than their message. A worker's error has to reach its parent.
        return _unpickled, (type(self), self.args), vars(self)


def _unpickled(kind: type[FedormError], arguments: tuple[Any, ...]) -> FedormError:
    error = kind.__new__(kind)
    error.args = arguments
    return error


# -- configuration and declaration ---------------------------------------------------------------


class ConfigurationError(FedormError):
    """A federation's settings are not usable."""


class MissingDriverError(ConfigurationError):
    """The Python package that a service's URL needs, or what ``user`` names, is not installed."""

    def __init__(self, *, service: str = "", package: str, extra: str, user: str = "") -> None:
        super().__init__(
            f"{user or f'service {service!r}'} needs the package {package!r}, which is not installed: "
            f"run  pip install 'fedorm[{extra}]'"
        )
        self.service, self.package, self.extra = service, package, extra


class ModelError(FedormError):
    """A model cannot be declared like this."""


class MissingServiceError(ModelError):
    """A model does not say which service owns it."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f'model {model} does not say which service owns it: add  __service__ = "<service>"  to the class '
            f"(or  __abstract__ = True  when it is a base of other models)"
        )


class DuplicateTableError(ModelError):
    """Two models of one service claim the same table or collection."""

    def __init__(self, *, service: str, table: str, model: str) -> None:
        super().__init__(
            f"model {model}: service {service!r} already has a table {table!r}; "
            f"rename one of them, or give this model another __service__"
        )


class CrossServiceRelationshipError(ModelError):
    """A plain ``relationship()`` leads to a model of another service."""

    def __init__(self, *, source: str, service: str, target: str, target_service: str) -> None:
        super().__init__(
            f"{source} is a relationship() from service {service!r} to {target} of service {target_service!r}, which "
            f'no single database can join: write  {source.rpartition(".")[2]}: Federated["{target}"] = '
            f"federated_relationship(local_key=...)  instead"
        )


class CrossServiceForeignKeyError(ModelError):
    """A ``ForeignKey`` leads to a table of another service."""

    def __init__(self, *, column: str, service: str, target: str, target_service: str) -> None:
        super().__init__(
            f"{column} of service {service!r} has a ForeignKey to {target} of service {target_service!r}, and no "
            f"database can hold a key against another one: leave the ForeignKey() out, keep the index, and let a "
            f"federated_relationship(local_key=...) lead there; await fed.orphans(...) counts keys that lead nowhere"
        )


class OutboxRuleError(ModelError):
    """The ``__outbox__`` of a model does not fit it, or cannot be kept by the model's service."""


class RelationshipError(ModelError):
    """A ``federated_relationship()`` does not fit the models it connects."""


class KeyTypeError(RelationshipError):
    """The keys of the two sides of a federated relationship can never be equal."""


class UnknownServiceError(FedormError):
    """A model, table or statement names a service that this federation does not have."""

    def __init__(self, name: str, *, known: Iterable[str], used_by: str | None = None) -> None:
        self.name, self.known = name, sorted(known)
        user = f" (used by {used_by})" if used_by else ""
        super().__init__(
            f"unknown service {name!r}{user}: this federation has {', '.join(map(repr, self.known)) or 'none'}; "
            f"add it to the federation's settings or correct the name"
        )


class UnroutedStatementError(FedormError, sa_exc.UnboundExecutionError):
    """Nothing in a statement says which service it is for."""


class CrossServiceStatementError(FedormError):
    """One statement names tables of several services."""

    def __init__(self, services: Iterable[str]) -> None:
        self.services = sorted(services)
        super().__init__(
            f"one statement names tables of several services ({', '.join(self.services)}), and no single database "
            f"holds them: load the other side with  .options(federated_load(...))  or by a statement of its own"
        )


class QueryError(FedormError, sa_exc.InvalidRequestError):
    """A statement over several services cannot be run; nothing has been sent."""


class UnknownTableError(QueryError, KeyError):
    """A name of a table that no model or reflected table of this federation has, or that several have."""

    def __init__(self, name: str, *, near: Sequence[str], ambiguous: bool = False) -> None:
        self.name, self.near = name, list(near)
        if ambiguous:
            message = f"several services have a table {name!r}: write {' or '.join(self.near)}"
        else:
            hint = f": did you mean {' or '.join(self.near)}?" if self.near else ""
            message = f"no service of this federation has a table {name!r}{hint}"
        super().__init__(message)


class UnsupportedQueryError(QueryError):
    """A statement over several services asks for something that cannot be answered rightly."""


class UnknownColumnError(UnsupportedQueryError):
    """A name of a column that no table of a statement over several services has, or that several of them have."""

    def __init__(self, message: str, *, name: str, near: Sequence[str]) -> None:
        self.name, self.near = name, list(near)
        super().__init__(message)


class UnknownFunctionError(UnsupportedQueryError):
    """A function that neither a service nor the finish of the statement knows."""

    def __init__(self, name: str, *, near: Sequence[str]) -> None:
        self.name, self.near = name, list(near)
        hint = f": did you mean {' or '.join(self.near)}?" if self.near else ""
        super().__init__(f"no engine of a federated select has a function {name}(){hint}")


# -- services at run time ------------------------------------------------------------------------


class StoreError(FedormError):
    """A service did not do what it was asked; the driver's own error is chained as the cause."""

    def __init__(self, message: str = "", *, service: str, address: str = "") -> None:
        self.service, self.address = service, address
        where = f"service {service!r}" + (f" at {address}" if address else "")
        # Not super(): the SQLAlchemy errors that some subclasses also are want other arguments.
        Exception.__init__(self, f"{where}: {message}" if message else where)


class _DriverError(StoreError, sa_exc.OperationalError):
    """A ``StoreError`` that is also SQLAlchemy's ``OperationalError``, so that either ``except`` catches it."""

    def __init__(
        self,
        message: str,
        *,
        service: str,
        address: str = "",
        dbapi_error: sa_exc.DBAPIError | None = None,
    ) -> None:
        StoreError.__init__(self, message, service=service, address=address)
        self.statement = dbapi_error.statement if dbapi_error else None
        self.params = dbapi_error.params if dbapi_error else None
        self.orig = dbapi_error.orig if dbapi_error else None
        self.hide_parameters = True
        self.ismulti = bool(dbapi_error and dbapi_error.ismulti)
        self.connection_invalidated = bool(dbapi_error and dbapi_error.connection_invalidated)
        self.detail = []

    def __str__(self) -> str:
        return str(self.args[0])


class ServiceUnavailableError(_DriverError):
    """A service cannot be reached, or went away in the middle."""


class ServiceTimeoutError(_DriverError):
    """A service did not answer within its ``timeout``."""


class AuthenticationError(ServiceUnavailableError):
    """A service refuses the user or the password."""


class TLSError(ServiceUnavailableError):
    """The encrypted connection to a service could not be made or trusted."""


class PoolExhaustedError(StoreError, sa_exc.TimeoutError):
    """All pooled connections of a service are in use."""

    code = None


class FederationOpenError(FedormError):
    """Some services did not answer when the federation was opened.

    ``failures`` maps a service's name to its ``StoreError``; all services were asked, and none is left open.
    """

    def __init__(self, failures: Mapping[str, StoreError]) -> None:
        self.failures = dict(failures)
        lines = "".join(f"\n  - {failures[name]}" for name in sorted(failures))
        super().__init__(f"{len(failures)} service(s) could not be opened:{lines}")


class PartialCommitError(FedormError):
    """Some services committed and others did not.

    ``committed`` and ``failed`` name them; ``unknown`` those that went away at their commit, without an answer.
    """

    def __init__(
        self, *, committed: Sequence[str], failed: Sequence[str], cause: BaseException, unknown: Sequence[str] = ()
    ) -> None:
        self.committed, self.failed, self.unknown = list(committed), list(failed), list(unknown)
        held = f"the commit holds in {', '.join(committed)}" if committed else "the commit holds in no service for sure"
        lost = f", is unknown in {', '.join(unknown)}" if unknown else ""
        failures = f" but failed in {', '.join(failed)}" if failed else ""
        super().__init__(f"{held}{lost}{failures}: {cause}")


class TwoPhaseError(StoreError):
    """A service cannot take part in a two-phase commit as it is asked to; nothing has been committed anywhere."""


class StillDecidingError(StoreError):
    """A transaction over several services is just being decided; ask again in a moment."""


class BranchHeldError(StoreError):
    """A prepared transaction cannot be ended from outside, as the connection that has prepared it still lives."""


class InDoubtError(FedormError):
    """A two-phase commit was decided, or may have been, and some services do not know it yet.

    ``outcome`` is "committed", or "unknown" where the deciding service could not be asked any more. ``pending`` names
    the services that hold a prepared transaction until the recovery settles it; what it wrote stays locked there.
    """

    def __init__(self, *, outcome: str, pending: Sequence[str], cause: BaseException | None) -> None:
        self.outcome, self.pending = outcome, list(pending)
        said = "holds" if outcome == "committed" else "may hold or not"
        super().__init__(
            f"the transaction {said}, and {', '.join(pending)} will know it after  await fed.recover()  or  "
            f"fedorm recover, once the services are up: {cause}"
        )


class DuplicateKeyError(StoreError):
    """A document's ``id``, or a field with a unique index, is already taken; nothing of the block was kept."""


class RowError(StoreError):
    """A database refuses rows for what is in them: too long, not of their column's type, against a constraint."""


class FeedLostError(StoreError):
    """A server's log of changes does not reach back to where it was read up to: a new snapshot has to be made."""


class UnsupportedOperationError(StoreError):
    """A service's database cannot do what was asked of it."""


# -- relationships and documents -----------------------------------------------------------------


class FederatedLazyLoadError(FedormError, sa_exc.InvalidRequestError):
    """An attribute of another service was touched before it was loaded, where loading would block."""

    def __init__(self, attribute: str, instance: str) -> None:
        key = attribute.rpartition(".")[2]
        super().__init__(
            f"{attribute} is not loaded, and attribute access cannot wait for another service in async code: "
            f"load it with the query,  select(...).options(federated_load({attribute})),  "
            f"or afterwards,  await {instance}.awaitable_attrs.{key}"
        )


class EventError(FedormError, ValueError):
    """An event cannot be written as it is; nothing was."""


class DetachedError(FedormError, sa_exc.InvalidRequestError):
    """An unloaded federated attribute was touched on an object that belongs to no session."""


class MissingTargetError(FedormError, LookupError):
    """Keys of a relationship with ``missing="raise"`` point to nothing."""

    def __init__(self, attribute: str, *, service: str, keys: Sequence[Any]) -> None:
        self.attribute, self.service, self.keys = attribute, service, list(keys)
        sample = ", ".join(repr(key) for key in self.keys[:5]) + (", ..." if len(self.keys) > 5 else "")
        super().__init__(
            f"{attribute}: service {service!r} has nothing for {len(self.keys)} key(s): {sample}; "
            f'see  await fed.orphans({attribute}),  or declare missing="none"'
        )


class UnloadedKeyError(FedormError, sa_exc.InvalidRequestError):
    """A relationship's key is not known yet: it was not loaded, or its object was not flushed."""


class DocumentValidationError(FedormError, ValueError):
    """A document does not fit its model; nothing was written."""

    def __init__(self, message: str, *, service: str, model: str, identity: Any) -> None:
        self.service, self.model, self.identity = service, model, identity
        super().__init__(f"service {service!r}, document {model} {identity!r}: {message}")


class StaleDocumentError(FedormError):
    """A document that a session changes or deletes is no longer there, or was changed by somebody else."""
