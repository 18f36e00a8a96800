"""Services as ``fedorm doctor`` finds them: how they are, what they lack of what is asked of them, and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, TypeVar

import typer
from sqlalchemy import exc as sa_exc
from sqlalchemy.util import greenlet_spawn

from fedorm.bookkeeping import is_own
from fedorm.bridge import AsyncBridge
from fedorm.catalog import catalog
from fedorm.cli.failing import one_line
from fedorm.cli.needs import needs_of
from fedorm.cli.tables import show_table
from fedorm.config import ServiceSettings
from fedorm.exc import (
    AuthenticationError,
    ConfigurationError,
    FedormError,
    MissingDriverError,
    ServiceTimeoutError,
    StoreError,
    TLSError,
)
from fedorm.federation import Federation
from fedorm.migrate.differences import MISSING_TABLE
from fedorm.outbox.rules import has_outbox
from fedorm.recovery import GRACE, in_doubt_of, look
from fedorm.relay.outbox import Outbox, OutboxStatus
from fedorm.stats import ServiceInDoubt
from fedorm.stores.base import Capability, Store
from fedorm.stores.findings import Finding, Needs
from fedorm.stores.sql import SQLStore
from fedorm.sync.resolving import ResolvedRule
from fedorm.twophase.decisions import decision_log

T = TypeVar("T")
LATE = 60.0
"""By how many seconds a rule may be behind, a pass be late, or an event wait, before that is told."""
_RECOVER = "run  fedorm recover: it ends them as was decided; until then what they have written stays locked"


@dataclass(slots=True)
class Found:
    """A service's state as the doctor found it; ``round_trip`` in milliseconds."""

    service: str
    kind: str
    address: str
    state: str = "down"
    version: str | None = None
    round_trip: float | None = None
    in_doubt: int | None = None
    """Branches of two-phase commits that are prepared there and have not ended; None where it is not known."""
    oldest: float | None = None
    """For how many seconds the oldest of them is."""
    refusal: str | None = None
    """Why it cannot take part in a two-phase commit as it is set up."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        """What has to be mended."""
        return [finding for finding in self.findings if finding.is_error]


class Examination:
    """Looks at the services that are open, all at once, each within ``limit`` seconds for each thing it is asked."""

    def __init__(self, federation: Federation, down: Mapping[str, FedormError], *, limit: float) -> None:
        self._federation, self._down, self._limit = federation, down, limit
        self._outbox = Outbox(federation)  # That of the federation would raise for a rule that cannot be.
        self._stores = {name: store for name, store in federation.stores.items() if name not in down}

    async def services(self, rules: Sequence[ResolvedRule], *, two_phase: bool) -> dict[str, Found]:
        """Return how each service is; with ``two_phase`` they are asked for what that needs, used or not."""
        found = {
            name: Found(name, store.kind, store.address, "down" if name in self._down else "up")
            for name, store in self._federation.stores.items()
        }
        for name, error in self._down.items():
            found[name].findings.append(finding_of(error, self._federation.stores[name].settings))
        used = two_phase or self._federation.settings.transactions.recover_on_start or await self._two_phase_was_used()
        histories = self._histories()
        needs = needs_of(self._federation, rules, two_phase=used, histories=histories)
        looks = [self._look(found[name], needs[name], with_history=name in histories) for name in self._stores]
        await asyncio.gather(self._doubts(found), self._outboxes(found), *looks)
        if not used:
            return found
        for one in found.values():
            one.refusal = None  # It is one of the findings.
        return found

    async def _two_phase_was_used(self) -> bool:
        """Say whether some service has kept a decision about a transaction over several."""

        async def has_log(store: Store) -> bool:
            log = decision_log(store, AsyncBridge(), sync=False)
            return await greenlet_spawn(log.known_token) is not None

        keeping = [one for one in self._stores.values() if Capability.TRANSACTIONS in one.capabilities]
        asked = await asyncio.gather(*(self._within(store, has_log(store)) for store in keeping))
        return any(answer is True for answer in asked)

    def _histories(self) -> list[str]:
        """Return the services whose migrations say what is different: those with a history and with models."""
        try:
            return [name for name in self._federation.migrate.services() if name in catalog.services]
        except ConfigurationError:  # Of the settings of migrations, or without their packages.
            return []

    async def _look(self, found: Found, needs: Needs, *, with_history: bool) -> None:
        store = self._stores[found.service]
        answer = await self._within(store, store.round_trip())
        if isinstance(answer, Finding):
            found.state = "down"
            found.findings.append(answer)
            return
        found.round_trip = answer
        version = await self._within(store, store.version())
        found.version = None if isinstance(version, Finding) else version
        lacking = await self._within(store, store.findings(needs))
        found.findings += [lacking] if isinstance(lacking, Finding) else lacking
        if isinstance(store, SQLStore) and Capability.TWO_PHASE in store.capabilities:
            refusal = await self._within(store, greenlet_spawn(store.two_phase_refusal, store.engine))
            found.refusal = None if isinstance(refusal, Finding) else refusal
        if with_history:
            drift = await self._within(store, self._drift(found.service))
            found.findings += [drift] if isinstance(drift, Finding) else drift

    async def _drift(self, service: str) -> list[Finding]:
        mend = (
            f"run  fedorm migrate upgrade --service {service},  or write a revision:  "
            f"fedorm migrate revision --service {service} --autogenerate"
        )
        found = []
        for one in await self._federation.migrate.history(service).check():
            if is_own(one.table) and one.what == MISSING_TABLE:
                continue  # It is made where it is needed.
            problem, _, told = one.what.partition(": run  ")
            named = f"{one.table}: {problem}" if one.table else problem
            found.append(Finding(named, f"run  {told}" if told else mend, "drift"))
        return found

    async def _doubts(self, found: Mapping[str, Found]) -> None:
        """Look at all services together: what is in doubt in one is decided in another."""
        report = await look(self._federation.stores, self._down)
        counted = in_doubt_of(report, self._federation.stores).services
        for name, store in self._stores.items():
            one, there = found[name], counted.get(name)
            if (unasked := report.unasked.get(name)) is not None:
                one.findings.append(finding_of(unasked, store.settings, "in doubt"))
            elif there is not None:
                one.in_doubt, one.oldest = there.branches, there.oldest
                if there.oldest >= GRACE:
                    one.findings.append(Finding(_left(there), _RECOVER, "in doubt"))

    async def _outboxes(self, found: Mapping[str, Found]) -> None:
        """Count the events that wait in outboxes of the models, and those that were put aside."""

        async def count(name: str, store: Store) -> None:
            asked = await self._within(store, self._outbox.status([name]))
            for status in [] if isinstance(asked, Finding) else asked:
                found[name].findings += _of_outbox(status)

        await asyncio.gather(
            *(
                count(name, store)
                for name, store in self._stores.items()
                if has_outbox(name) and Capability.TRANSACTIONS in store.capabilities
            )
        )

    async def _within(self, store: Store, asking: Awaitable[T]) -> T | Finding:
        """Return an answer, or that there was none in time or an error in its place."""
        try:
            async with asyncio.timeout(self._limit):
                return await asking
        except TimeoutError:
            late = store.error(ServiceTimeoutError, f"no answer within {self._limit:g} s")
            return finding_of(late, store.settings)
        except FedormError as error:
            return finding_of(error, store.settings)
        except sa_exc.SQLAlchemyError as error:
            problem = store.settings.scrub(one_line(error))
            return Finding(problem, "see what the server lets its user look at", "privilege")


def _of_outbox(status: OutboxStatus) -> Iterable[Finding]:
    if status.oldest is not None and status.oldest > LATE:
        problem = f"{status.waiting} event(s) of its outbox wait, the oldest for {status.oldest:.0f} s"
        yield Finding(problem, "see whether  fedorm outbox run  or  fedorm sync run  is at work", "lag")
    if failed := sum(status.failed.values()):
        problem = f"{failed} event(s) of its outbox were put aside"
        yield Finding(problem, "end their cause, and run  fedorm outbox retry", "lag")


def _left(there: ServiceInDoubt) -> str:
    if there.branches == 1:
        return f"a transaction of a two-phase commit is in doubt, for {there.oldest:.0f} s"
    return f"{there.branches} transactions of two-phase commits are in doubt, the oldest for {there.oldest:.0f} s"


def finding_of(error: FedormError, settings: ServiceSettings, about: Any = "reach") -> Finding:
    """Return a service's error with what to do about it."""
    return Finding(settings.scrub(one_line(error)), advice(error, settings), about)


def advice(error: FedormError, settings: ServiceSettings) -> str:
    """Return what to do about a service's error."""
    limit = f"{settings.connect_timeout:g} s"
    match error:
        case MissingDriverError():
            return f"pip install 'fedorm[{error.extra}]'"
        case ConfigurationError():
            return "correct the service's settings in the file"
        case AuthenticationError():
            return "check the user, the password and the database in the url, and what the server lets them do"
        case TLSError():
            return "check tls.ca, tls.cert and tls.key in the settings, and the host that the certificate is for"
        case ServiceTimeoutError():
            return (
                f"see whether the server is overloaded or a firewall drops packets; it may take connect_timeout={limit}"
            )
        case StoreError():
            return "see whether the server runs, and whether host and port in the url are right and reachable from here"
        case _:
            return "see the message"


def show_services(found: Sequence[Found]) -> None:
    """Write the services for people."""
    rows = [
        (
            *(one.service, one.kind, one.address, one.state),
            one.version or "",
            "" if one.round_trip is None else f"{one.round_trip:.1f} ms",
            "" if not one.in_doubt else f"{one.in_doubt}, oldest {one.oldest:.0f} s",
        )
        for one in found
    ]
    show_table(["service", "kind", "address", "state", "version", "round trip", "in doubt"], rows)
    for one in found:
        for finding in one.findings:
            show_finding(one.service, finding)


def show_finding(whose: str, finding: Finding) -> None:
    """Write a finding for people."""
    label = whose if finding.is_error else f"{whose} (perhaps as wanted)"
    typer.echo(f"\n{label}: {finding.problem}\n  what to do: {finding.mend}")


def notes(settings: Mapping[str, Any], found: Sequence[Found]) -> list[str]:
    """Return what is worth knowing, and no error."""
    told = [f"{one.service} cannot take part in session(twophase=True): {one.refusal}" for one in found if one.refusal]
    told += [
        f"models name the service {name!r}, which the settings do not have"
        for name in sorted(catalog.services - settings.keys())
    ]
    if not catalog.services & settings.keys():
        told.append(
            "no models are known: tables, the privileges for them and migrations were not looked at; see --models"
        )
    missing = [name for name in ("sqlglot", "duckdb", "pyarrow") if find_spec(name) is None]
    if missing:
        told.append(f"a select over several services needs {', '.join(missing)}: pip install 'fedorm[query]'")
    return told
