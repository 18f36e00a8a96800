"""Bringing one saga to its end: forward over its steps, or back over their compensations."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import greenlet_spawn

from fedorm import points
from fedorm.exc import FedormError, UnknownServiceError
from fedorm.sagas.errors import LeaseLostError
from fedorm.sagas.marks import Marks
from fedorm.sagas.states import PlannedStep, SagaState, States, changed
from fedorm.sagas.steps import Step, StepCall, as_json, declared, give_call
from fedorm.sagas.tables import Mark, State
from fedorm.sagas.trying import ATTEMPTS, pause, persist

if TYPE_CHECKING:
    from fedorm.async_session import AsyncFederatedSession
    from fedorm.federation import Federation


class VoidError(LeaseLostError):
    """A step was compensated before it was done, by a runner that has taken its saga over."""


class Driver:
    """Owns a saga for a time, and runs it."""

    def __init__(self, federation: Federation, states: States, *, lease: float, attempts: int = ATTEMPTS) -> None:
        self._federation = federation
        self._states = states
        self._lease = lease
        self._attempts = attempts
        self._saga: SagaState
        self.owner = secrets.token_hex(16)
        self.cause: BaseException | None = None
        """The error for which the saga is compensated, or for which a compensation is to be tried again."""

    async def drive(self, saga: SagaState) -> SagaState:
        """Run a saga that is owned already, and return how far it has come: to its end, or to where it has to wait.

        Raises ``LeaseLostError`` where another runner has it by now, and what the saga's own service raises. Whoever
        cancels this leaves the saga to another runner, at once.
        """
        self._saga = saga
        work = asyncio.create_task(self._drive(), name=f"fedorm-saga-{saga.id}")
        beat = asyncio.create_task(self._beat(), name=f"fedorm-saga-lease-{saga.id}")
        try:
            await asyncio.wait({work, beat}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await beat  # It ends by itself only with an error: the lease is lost.
        finally:
            beat.cancel()
            work.cancel()
            await asyncio.wait({work, beat})
            if work.cancelled() and beat.cancelled():
                await self._let_go()
        try:
            return work.result()
        except LeaseLostError:
            raise
        except Exception:
            await self._let_go()
            raise

    async def check(self, planned: PlannedStep, saga: SagaState) -> None:
        """Raise what keeps a step from being run at all, and make its service's table of marks."""
        self._saga = saga
        await self._known(planned)

    async def _let_go(self) -> None:
        try:
            async with asyncio.timeout(5):
                await asyncio.shield(self._states.release(self._saga, self.owner))
        except (FedormError, TimeoutError):
            pass  # Then it is free when the lease has run out.

    async def _beat(self) -> None:
        """Renew the lease; end with ``LeaseLostError`` when it is lost, or could not be renewed in time."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(self._lease / 3)
            try:
                await self._states.renew(self._saga, self.owner)
                renewed = time.monotonic()
            except LeaseLostError:
                raise
            except FedormError as error:
                if time.monotonic() - renewed > self._lease * 2 / 3:
                    raise LeaseLostError(
                        f"the lease of saga {self._saga.id!r} could not be renewed: {error}"
                    ) from error

    async def _save(self, *, release: bool = False, **values: Any) -> None:
        saga = changed(self._saga, **values)
        await persist(lambda: self._states.save(saga, self.owner, release=release), attempts=self._attempts)
        self._saga = saga

    # -- forward, and back

    async def _drive(self) -> SagaState:
        if self._saga.state is State.RUNNING:
            await self._forward()
        if self._saga.state is State.COMPENSATING:
            await self._back()
        return self._saga

    async def _forward(self) -> None:
        steps = self._saga.steps
        for position in range(self._saga.position, len(steps)):
            planned = steps[position]
            try:
                result = await persist(lambda one=planned: self._do(one), attempts=self._attempts)  # type: ignore[misc]
            except LeaseLostError:
                raise
            except Exception as error:
                self.cause = error
                await self._save(
                    state=State.COMPENSATING, position=position + 1, failed_step=planned.name, error=in_words(error)
                )
                return
            points.reached(f"before note {planned.name}")
            results = {**self._saga.results, planned.name: result}
            state = State.DONE if position + 1 == len(steps) else State.RUNNING
            await self._save(state=state, position=position + 1, results=results, release=state is State.DONE)
            points.reached(f"after note {planned.name}")

    async def _back(self) -> None:
        # Also the step that has failed: its commit may have come to the service, and then it is done.
        while self._saga.position > 0:
            planned = self._saga.steps[self._saga.position - 1]
            try:
                await persist(lambda one=planned: self._undo(one), attempts=self._attempts, again=_always)  # type: ignore[misc]
            except LeaseLostError:
                raise
            except Exception as error:
                self.cause = self.cause or error
                failures = self._saga.failures + 1
                words = f"compensation of {planned.name}: {in_words(error)}"
                next_at = time.time() + pause(failures, first=1.0)
                await self._save(failures=failures, error=words, next_at=next_at, release=True)
                return
            points.reached(f"before note undo {planned.name}")
            position = self._saga.position - 1
            state = State.COMPENSATED if position == 0 else State.COMPENSATING
            await self._save(position=position, state=state, failures=0, release=state.is_over)
            points.reached(f"after note undo {planned.name}")

    # -- one step, in one transaction of its service

    async def _do(self, planned: PlannedStep) -> Any:
        step, marks = await self._known(planned)
        points.reached(f"before do {planned.name}")
        async with self._federation.session(cache_ttl=None, **step.options) as session:
            there = await greenlet_spawn(marks.find, session.sync_session)
            if there is not None:
                mark, result = there
                if mark is Mark.DONE:
                    return result
                raise VoidError(f"step {planned.name!r} of saga {self._saga.id!r} was compensated by another runner")
            await greenlet_spawn(marks.write, session.sync_session, Mark.DONE)
            result = await self._called(session, step.function, self._call(planned), self._arguments(planned))
            as_json(result, of=f"the result of step {planned.name!r}")
            if result is not None:
                await greenlet_spawn(marks.returned, session.sync_session, result)
            await session.flush()
            points.reached(f"within do {planned.name}")
            await session.commit()
        points.reached(f"after do {planned.name}")
        return result

    async def _undo(self, planned: PlannedStep) -> None:
        step, marks = await self._known(planned)
        points.reached(f"before undo {planned.name}")
        async with self._federation.session(cache_ttl=None, **step.options) as session:
            there = await greenlet_spawn(marks.find, session.sync_session)
            if there is None:
                await greenlet_spawn(marks.write, session.sync_session, Mark.VOID)
            elif there[0] is Mark.DONE:
                is_ours = await greenlet_spawn(marks.undo, session.sync_session)
                if is_ours and step.undo is not None:
                    call = self._call(planned, there[1])
                    await self._called(session, step.undo, call, self._arguments(planned))
            await session.flush()
            points.reached(f"within undo {planned.name}")
            await session.commit()
        points.reached(f"after undo {planned.name}")

    async def _called(
        self, session: AsyncFederatedSession, function: Any, call: StepCall, arguments: Mapping[str, Any]
    ) -> Any:
        give_call(session, call)
        transaction = session.sync_session.get_transaction()
        result = await function(session, **arguments)
        if session.sync_session.get_transaction() is not transaction or not session.sync_session.is_active:
            raise StepTransactionError(
                f"step {call.step!r} has ended its session's transaction: leave commit() and rollback() to the saga, "
                "which writes down with the effect that it is there"
            )
        return result

    def _call(self, planned: PlannedStep, result: Any = None) -> StepCall:
        saga = self._saga
        return StepCall(saga.name, saga.id, planned.name, f"{saga.key}:{planned.name}", result)

    def _arguments(self, planned: PlannedStep) -> dict[str, Any]:
        # A step that is compensated may stand before the failure that kept a result from being there; it has its own.
        given = {name: self._saga.results.get(step) for name, step in planned.results.items()}
        return {**planned.arguments, **given}

    async def _known(self, planned: PlannedStep) -> tuple[Step, Marks]:
        step = declared(planned.declared)
        if step is None:
            raise UnknownStepError(
                f"step {planned.declared!r} is not known here: import the module that declares it before the runner"
            )
        store = self._federation.stores.get(planned.service)
        if store is None:
            raise UnknownServiceError(planned.service, known=self._federation.stores, used_by=f"step {planned.name}")
        marks = Marks(store, self._saga.key, planned.name)
        await greenlet_spawn(marks.prepare)
        return step, marks


class StepTransactionError(FedormError):
    """A step does what its transaction does not allow."""


class UnknownStepError(FedormError):
    """A saga has a step that no module imported here declares."""


def in_words(error: BaseException) -> str:
    """Return an error as it is kept in a saga's state."""
    return f"{type(error).__name__}: {error}"[:2000]


def _always(error: BaseException) -> bool:
    return not isinstance(error, LeaseLostError)
