"""``fed.saga()`` and ``fed.sagas``: sagas of a federation, and the runner that ends what others have left."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, cast

from sqlalchemy.util import greenlet_spawn

from fedorm.exc import ConfigurationError, FedormError, UnknownServiceError
from fedorm.sagas.driving import Driver
from fedorm.sagas.errors import LeaseLostError
from fedorm.sagas.marks import forget_marks
from fedorm.sagas.saga import Saga
from fedorm.sagas.states import PlannedStep, SagaState, States
from fedorm.sagas.steps import declared
from fedorm.sagas.tables import State
from fedorm.sagas.trying import ATTEMPTS
from fedorm.stores.base import Capability, Store
from fedorm.stores.sql import SQLStore

if TYPE_CHECKING:
    from fedorm.federation import Federation

LEASE = 30.0
GRACE = 10.0
WEEK = 7 * 86400.0
log = logging.getLogger("fedorm.sagas")


class Sagas:
    """The sagas that the services of a federation keep."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._stops: list[Callable[[], None]] = []

    async def run_once(
        self, *, limit: int = 100, lease: float = LEASE, attempts: int = ATTEMPTS, grace: float = GRACE
    ) -> list[SagaState]:
        """End the sagas that nobody is at: whose process has crashed, or whose compensation is due again.

        Return them as they are afterwards: most are over; of those that are not, ``error`` says why. Those with a step
        that no module imported here declares are left to a process that knows it. Safe at any time, from any number of
        processes at once: a saga belongs to one runner, for ``lease`` seconds after it was last heard of. A service
        that is down keeps its sagas waiting, and not those of others. ``stop()`` ends it as it does ``run()``.
        """
        _check_times(lease=lease)
        done: list[SagaState] = []
        async with self._stoppable(grace) as enough:
            await self._pass(done, enough, limit, lease, attempts)
        return done

    async def run(self, *, every: float = 5.0, lease: float = LEASE, grace: float = GRACE) -> None:
        """Do ``run_once()`` again and again, until cancelled or until ``stop()``.

        After ``stop()`` the saga in hand may go on for ``grace`` seconds; then it is left where it is, as it is at once
        when this is cancelled, to any other runner. Raises ``ConfigurationError`` for times of no or less seconds.
        """
        _check_times(every=every, lease=lease)
        async with self._stoppable(grace) as enough:
            while not enough.is_set():
                await self._pass([], enough, 100, lease, ATTEMPTS)
                with suppress(TimeoutError):
                    await asyncio.wait_for(enough.wait(), every)

    def stop(self) -> None:
        """End every ``run()`` and ``run_once()`` of this federation after the sagas in hand."""
        for stop in self._stops:
            stop()

    @asynccontextmanager
    async def _stoppable(self, grace: float) -> AsyncIterator[asyncio.Event]:
        """Give what ``stop()`` sets, and end the block, if it is not at its end, ``grace`` seconds later."""
        if not grace >= 0:  # Nor NaN.
            raise ConfigurationError(f"grace is a number of seconds, zero or more, not {grace}")
        enough, loop = asyncio.Event(), asyncio.get_running_loop()
        limit = asyncio.timeout(None)

        def stop() -> None:
            if not enough.is_set():
                enough.set()
                limit.reschedule(loop.time() + grace)

        try:
            async with limit:
                self._stops.append(stop)
                try:
                    yield enough
                finally:
                    self._stops.remove(stop)
        except TimeoutError:
            if not limit.expired():
                raise

    async def _pass(
        self, done: list[SagaState], enough: asyncio.Event, limit: int, lease: float, attempts: int
    ) -> None:
        for states in self._all(lease):
            try:
                due = await states.due(limit)
            except FedormError as error:
                log.warning("the sagas of service %r cannot be read: %s", states.service, error)
                continue
            for saga in due:
                if enough.is_set():
                    return
                missing = [step.declared for step in saga.steps if declared(step.declared) is None]
                if missing:
                    log.warning("saga %r %r waits: steps %s are not known here", saga.name, saga.id, missing)
                elif (ended := await self._end(states, saga, lease, attempts)) is not None:
                    done.append(ended)

    async def _end(self, states: States, saga: SagaState, lease: float, attempts: int) -> SagaState | None:
        driver = Driver(self._federation, states, lease=lease, attempts=attempts)
        try:
            ours = await states.take(saga, driver.owner)
            if ours is None:
                return None
            ended = await driver.drive(ours)
        except LeaseLostError:
            return None
        except FedormError as error:
            log.warning("saga %r %r is left for later: %s", saga.name, saga.id, error)
            return None
        level, why = logging.INFO if ended.state.is_over else logging.WARNING, f": {ended.error}" if ended.error else ""
        log.log(level, "saga %r %r is %s%s", ended.name, ended.id, ended.state.value, why)
        return ended

    async def get(self, name: str, id: str, *, service: str | None = None) -> SagaState | None:
        """Return a saga, from ``service`` or from whichever keeps it; None where there is none."""
        for states in self._all() if service is None else [States(self._home(service), lease=LEASE)]:
            found = await states.get(name, id)
            if found is not None:
                return found
        return None

    async def unfinished(self) -> list[SagaState]:
        """Return the sagas that are not over, those included that somebody is just running."""
        return [saga for states in self._all() for saga in await states.unfinished()]

    async def status(self) -> dict[str, dict[State, int]]:
        """Count the sagas of each service that keeps some, by their state."""
        counts = {states.service: await states.count() for states in self._all()}
        return {service: count for service, count in counts.items() if count}

    async def forget(self, *, older_than: float = WEEK) -> int:
        """Drop sagas that were over ``older_than`` seconds ago, with their marks; return how many.

        A mark is also what stops a step that is late: give more than a process may be suspended for. Raises
        ``ConfigurationError`` for a negative time.
        """
        if not older_than >= 0:  # Nor NaN.
            raise ConfigurationError(f"older_than is a number of seconds, zero or more, not {older_than}")
        gone = 0
        for states in self._all():
            while old := await states.ended(time.time() - min(older_than, 1e10)):
                services = {step.service for saga in old for step in saga.steps}
                keys = [saga.key for saga in old]
                for service in sorted(services & self._federation.stores.keys()):
                    await self._forget_marks(self._federation.stores[service], keys)
                await states.drop(keys)
                gone += len(old)
        return gone

    async def _forget_marks(self, store: Store, keys: Sequence[str]) -> None:
        async with self._federation.session() as session:
            await greenlet_spawn(forget_marks, session.sync_session, store, keys)
            await session.commit()

    # -- the services that can keep sagas

    def states_for(self, service: str | None, steps: Iterable[PlannedStep], *, lease: float) -> States:
        """Return the service that keeps a saga: the one that is named, else that of its first step that can."""
        if service is not None:
            return States(self._home(service), lease=lease)
        for step in steps:
            store = self._federation.stores.get(step.service)
            if store is not None and _keeps(store):
                return States(cast(SQLStore, store), lease=lease)
        raise ConfigurationError(
            "no step of the saga is in a service with tables and transactions, where its state could be kept: name "
            "one,  fed.saga(..., service=...)"
        )

    def _home(self, service: str) -> SQLStore:
        store = self._federation.stores.get(service)
        if store is None:
            raise UnknownServiceError(service, known=self._federation.stores, used_by="a saga")
        if not _keeps(store):
            raise ConfigurationError(
                f"service {service!r} at {store.address} cannot keep a saga's state: it has no tables with transactions"
            )
        return cast(SQLStore, store)

    def _all(self, lease: float = LEASE) -> list[States]:
        return [States(cast(SQLStore, one), lease=lease) for one in self._federation.stores.values() if _keeps(one)]


def _check_times(**times: float) -> None:
    for name, seconds in times.items():
        if not seconds > 0:  # Nor NaN.
            raise ConfigurationError(f"{name} is a number of seconds, more than zero, not {seconds}")


def _keeps(store: Store) -> bool:
    return isinstance(store, SQLStore) and Capability.TRANSACTIONS in store.capabilities


class WithSagas:
    """The part of a ``Federation`` that runs sagas."""

    @cached_property
    def sagas(self) -> Sagas:
        """The sagas that the services keep, and the runner that ends what a crash has left of them."""
        return Sagas(cast("Federation", self))

    def saga(
        self,
        name: str,
        *,
        service: str | None = None,
        id: str | None = None,
        attempts: int = ATTEMPTS,
        lease: float = LEASE,
    ) -> Saga:
        """Return a saga to be filled in its block:  ``async with fed.saga("checkout") as saga: saga.step(reserve)``.

        When the block ends, its steps are written down in ``service``, by default in that of its first step with tables
        and transactions, and run one after the other. If one fails those before it are undone, and ``SagaError`` is
        raised; one that fails for a reason that may pass is tried ``attempts`` times. If the process ends meanwhile, or
        the caller is cancelled, another one's ``fed.sagas.run()`` goes on where it was. Nothing is begun if the block
        fails. ``id``, in a service unique for each ``name``, makes beginning it twice a ``SagaExistsError``.
        """
        return Saga(cast("Federation", self), self.sagas, name, service=service, id=id, attempts=attempts, lease=lease)
