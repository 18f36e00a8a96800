"""The recovery: what it asks the services for, and what it does there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, cast

from sqlalchemy.util import greenlet_spawn

from fedorm import points
from fedorm.bridge import Bridge
from fedorm.exc import ConfigurationError, FedormError, ServiceTimeoutError, StoreError
from fedorm.stores.base import Capability, Store
from fedorm.stores.branches import Branch, short
from fedorm.stores.sql import SQLStore
from fedorm.twophase.decisions import Decision, DecisionLog, Outcome, decision_log
from fedorm.twophase.protocol import Action, Failed
from fedorm.twophase.reports import RecoveredBranch, Recovery
from fedorm.twophase.settling import (
    Answer,
    Conclude,
    Done,
    End,
    Identify,
    Look,
    Resolve,
    Settlement,
    is_over,
    settle,
)

log = logging.getLogger("fedorm.recovery")

GRACE = 60.0
"""For how many seconds a branch is left to the process that has begun it, by default."""
KEEP = 3600.0
"""For how many seconds a decision is kept at least: who has lost the answer to a commit asks for it."""
_PAUSES = (0.05, 0.1, 0.2, 0.4)
"""Seconds between looks at what could not be ended: by then its own process, or another recovery, may have done so."""
_AT_ONCE = 10_000
"""How many decisions are read, and dropped, at once."""


@dataclass(slots=True)
class _Found:
    """A branch, the service whose connection ends it, since when it is known to be prepared."""

    branch: Branch
    holder: str
    since: datetime
    settlement: Settlement = field(default_factory=lambda: Settlement(Done.LEFT))


class RecoveryRun:
    """One recovery: run it under a greenlet, or, with ``sync``, in a thread."""

    def __init__(
        self,
        stores: Mapping[str, Store],
        bridge: Bridge,
        *,
        sync: bool,
        older_than: float = GRACE,
        dry_run: bool = False,
        keep: float = KEEP,
        down: Mapping[str, FedormError] = MappingProxyType({}),
    ) -> None:
        """``down`` are services of which it is known already that they cannot be asked."""
        for name, seconds in (("older_than", older_than), ("keep", keep)):
            if not seconds >= 0:  # Nor NaN.
                raise ConfigurationError(f"{name} is a number of seconds, zero or more, not {seconds}")
        self._stores = stores
        self._bridge = bridge
        self._sync = sync
        self._older_than = older_than
        self._dry_run = dry_run
        self._keep = max(keep, older_than)
        self._down = dict(down)
        self._unasked: dict[str, FedormError] = {}
        self._tokens: dict[str, str | Failed | None] = {}
        self._now = datetime.now(UTC)

    def run(self) -> Recovery:
        """Settle, drop what is over, and report."""
        found = self._find(self._preparing())
        self._side_by_side(found.values(), self._settle)
        if not self._dry_run:
            self._look_again(found)
        forgotten = 0 if self._dry_run else self._forget()
        self._drop_cached(found.values())
        order = sorted(found.values(), key=lambda one: (self._service(one), one.since, one.branch.id))
        branches = tuple(
            RecoveredBranch(
                service=self._service(one),
                id=one.branch.id,
                age=self._age(one.since),
                decision=one.settlement.outcome,
                done=one.settlement.done,
                why=one.settlement.why,
            )
            for one in order
        )
        return Recovery(self._now, self._dry_run, branches, MappingProxyType(self._unasked), forgotten)

    # -- what is there

    def _preparing(self) -> list[str]:
        return [name for name, store in self._stores.items() if Capability.TWO_PHASE in store.capabilities]

    def _find(self, services: Iterable[str]) -> dict[str, _Found]:
        """Return the prepared branches of services by their names in the databases, each once.

        A MySQL server shows those of all its databases, and so several of our services may show the same.
        """
        names = sorted(services)
        answers = self._bridge.side_by_side([partial(self._listed, name) for name in names]) if names else []
        found: dict[str, _Found] = {}
        newest: dict[str, datetime] = {}
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, FedormError):
                self._unasked[name] = answer
                continue
            self._unasked.pop(name, None)
            for one in answer:
                since = _in_utc(one.since)
                key, own = one.branch.gid, short(name) == one.branch.service
                if own or key not in found:
                    found[key] = _Found(one.branch, name, since)
                newest[one.branch.id] = max(since, newest.get(one.branch.id, since))
        for branch in found.values():
            # XA keeps no time at which it has prepared; no branch is decided before the last one is prepared.
            branch.since = newest[branch.branch.id]
        return found

    def _listed(self, service: str) -> list[Any] | FedormError:
        if service in self._down:
            return self._down[service]
        store = self._sql(service)

        def listed() -> list[Any]:
            with store.bind_for(sync=self._sync).connect() as connection:
                return list(store.in_doubt(connection))

        try:
            return listed() if self._sync else self._bridge.run(self._within(store.settings.connect_timeout, listed))
        except TimeoutError:
            return store.error(ServiceTimeoutError, f"no answer within {store.settings.connect_timeout:g} s")
        except Exception as error:
            return store.wrap(error)

    @staticmethod
    async def _within(limit: float, work: Callable[[], list[Any]]) -> list[Any]:
        """Wait for the first answer of a service no longer than for its opening: the others are not to wait for it."""
        async with asyncio.timeout(limit):
            return await greenlet_spawn(work)

    def _sql(self, service: str) -> SQLStore:
        return cast(SQLStore, self._stores[service])

    def _service(self, found: _Found) -> str:
        names = {short(name): name for name in self._stores}
        return names.get(found.branch.service, found.holder)

    def _age(self, since: datetime) -> float:
        return max(0.0, (self._now - since).total_seconds())

    # -- settling

    def _side_by_side(self, found: Iterable[_Found], work: Callable[[_Found], None]) -> None:
        """Let each service end its branches one after the other, and the services work at the same time."""
        queues: dict[str, list[_Found]] = {}
        for one in found:
            queues.setdefault(one.holder, []).append(one)

        def work_off(queue: Sequence[_Found]) -> None:
            for one in sorted(queue, key=lambda one: (one.since, one.branch.id)):
                work(one)

        if queues:
            self._bridge.side_by_side([partial(work_off, queue) for queue in queues.values()])

    def _settle(self, found: _Found) -> None:
        steps = settle(
            found.branch,
            found.holder,
            services=self._stores,
            age=self._age(found.since),
            older_than=self._older_than,
            dry_run=self._dry_run,
        )
        try:
            action = next(steps)
            while True:
                action = steps.send(self._answered(action, found.branch))
        except StopIteration as end:
            found.settlement = end.value

    def _answered(self, action: Action, branch: Branch) -> Answer:
        service = action.service
        name = f"{type(action).__name__.lower()} {service}"
        points.reached(f"before {name}")
        answer: Answer
        try:
            match action:
                case Identify():
                    answer = self._token(service)
                case Look():
                    answer = self._log(service).find(branch.id)
                case Resolve():
                    answer = self._log(service).settle(branch.id)
                case Conclude():
                    answer = self._conclude(action, branch)
                case End(outcome=outcome):
                    answer = self._end(service, branch, commit=outcome is Outcome.COMMITTED)
        except Exception as error:
            return Failed(self._named(service, error), unsure=True)
        points.reached(f"after {name}")
        return answer

    def _conclude(self, action: Conclude, branch: Branch) -> Decision:
        """Look for the rows while nobody else can conclude, their coordinator among those."""
        store = self._sql(action.at)
        with self._log(action.service).concluding(branch.id) as (decision, conclude):
            if decision.outcome is not Outcome.DELEGATED:
                return decision
            with store.bind_for(sync=self._sync).connect() as connection:
                come = action.rows.has_come(connection)
            outcome = Outcome.COMMITTED if come else Outcome.ROLLED_BACK
            if not action.dry_run:
                conclude(outcome)
            return replace(decision, outcome=outcome)

    def _token(self, service: str) -> str | Failed | None:
        """Return a service's token; one that is down is asked once."""
        if service not in self._tokens:
            try:
                self._tokens[service] = self._log(service).known_token() if self._keeps_log(service) else None
            except Exception as error:
                self._tokens[service] = Failed(self._named(service, error), unsure=True)
        return self._tokens[service]

    def _keeps_log(self, service: str) -> bool:
        return service in self._down or Capability.TRANSACTIONS in self._stores[service].capabilities

    def _log(self, service: str) -> DecisionLog:
        if service in self._down:
            raise self._down[service]
        return decision_log(self._stores[service], self._bridge, sync=self._sync)

    def _end(self, service: str, branch: Branch, *, commit: bool) -> bool:
        store = self._sql(service)
        with store.bind_for(sync=self._sync).connect() as connection:
            return store.end_prepared(connection, branch, commit=commit)

    def _named(self, service: str, error: Exception) -> Exception:
        if isinstance(error, FedormError):
            return error
        store = self._stores[service]
        return store.wrap(error) if isinstance(store, SQLStore) else store.error(StoreError, error)

    def _look_again(self, found: Mapping[str, _Found]) -> None:
        """See whether what could not be ended is still there, and try once more.

        Two recoveries that end the same branch get into each other's way in MariaDB, and the server needs a moment to
        notice that a process is gone; a commit that was under way has ended meanwhile.
        """
        for pause in _PAUSES:
            left = {key: one for key, one in found.items() if self._may_end(one)}
            if not left:
                return
            self._bridge.run(asyncio.sleep(pause))
            there = self._find({one.holder for one in left.values()})
            still: list[_Found] = []
            for key, one in left.items():
                if one.holder in self._unasked:
                    continue
                if key not in there:
                    one.settlement = replace(one.settlement, done=Done.GONE, why="")
                elif one.settlement.outcome is not None:
                    still.append(one)
            self._side_by_side(still, self._settle)

    def _may_end(self, found: _Found) -> bool:
        settlement = found.settlement
        if settlement.done is not Done.LEFT or found.holder in self._unasked:
            return False
        return settlement.outcome is not None or self._age(found.since) < self._older_than

    def _drop_cached(self, found: Iterable[_Found]) -> None:
        """Drop results that are kept of services that hold more rows now; nobody knows of which tables."""
        for service in {one.holder for one in found if one.settlement.done is Done.COMMITTED}:
            store = self._stores[service]
            if store.cache is not None:
                store.cache.changed(store.place.changed(None))

    # -- what is over

    def _forget(self) -> int:
        """Drop the decisions that no branch needs any more."""
        before, forgotten = self._now - timedelta(seconds=min(self._keep, 1e9)), 0
        services = [name for name in self._stores if isinstance(self._token(name), str)]
        while services:
            answers = self._bridge.side_by_side([partial(self._old, name, before) for name in services])
            old = {name: decisions for name, decisions in zip(services, answers, strict=True) if decisions}
            if not old:
                break
            # Only now: a decision that was read is of branches that were all prepared by then.
            in_doubt = {one.branch.id for one in self._find(self._preparing()).values()}
            logs = self._asked({place.partition(":")[0] for one in old.values() for d in one for place in d.services})
            over = {
                name: [one.id for one in decisions if is_over(one, in_doubt=in_doubt, logs=logs)]
                for name, decisions in old.items()
            }
            dropped = self._bridge.side_by_side([partial(self._drop, *one) for one in over.items()])
            forgotten += sum(dropped)
            services = [name for name in old if len(old[name]) >= _AT_ONCE and over[name]]
        return forgotten

    def _asked(self, services: Iterable[str]) -> dict[str, str]:
        """Return the tokens of those of ``services`` that were asked for branches, or cannot have any."""
        there = [name for name in services if name in self._stores and name not in self._unasked]
        tokens = {name: self._token(name) for name in there}
        return {name: token for name, token in tokens.items() if isinstance(token, str)}

    def _old(self, service: str, before: datetime) -> list[Decision]:
        try:
            return self._log(service).old(before, _AT_ONCE)
        except Exception as error:
            log.debug("service %r: its old decisions stay: %s", service, self._named(service, error))
            return []

    def _drop(self, service: str, ids: Sequence[str]) -> int:
        try:
            if ids:
                self._log(service).forget(ids)
            return len(ids)
        except Exception as error:
            log.debug("service %r: its old decisions stay: %s", service, self._named(service, error))
            return 0


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
