"""``fed.saga()``: the steps of one saga, written down together and then run."""

from __future__ import annotations

import secrets
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fedorm import points
from fedorm.exc import FedormError
from fedorm.sagas.driving import Driver, in_words
from fedorm.sagas.errors import LeaseLostError, SagaError
from fedorm.sagas.states import PlannedStep, SagaState
from fedorm.sagas.steps import Step, as_json
from fedorm.sagas.tables import ID, NAME, State

if TYPE_CHECKING:
    from fedorm.federation import Federation
    from fedorm.sagas.sagas import Sagas


class StepResult:
    """What a step of a saga will return: give it to a later step as an argument."""

    def __init__(self, saga: Saga, step: str) -> None:
        self._saga = saga
        self.step = step

    @property
    def value(self) -> Any:
        """What the step has returned; ``LookupError`` before the saga is done."""
        if self._saga.state is not State.DONE:
            raise LookupError(f"step {self.step!r} has no result before its saga is done")
        return self._saga.results[self.step]

    def __repr__(self) -> str:
        return f"<result of {self.step}>"


class Saga:
    """Takes its steps down in the block of ``async with``, and runs them when the block ends without an error."""

    def __init__(
        self,
        federation: Federation,
        sagas: Sagas,
        name: str,
        *,
        service: str | None,
        id: str | None,
        attempts: int,
        lease: float,
    ) -> None:
        self.name = name
        self.id = id or secrets.token_hex(16)
        self.state: State | None = None
        """None as long as nothing was begun."""
        self.results: dict[str, Any] = {}
        """What each step has returned, by its name."""
        self._federation, self._sagas = federation, sagas
        self._service, self._attempts, self._lease = service, attempts, lease
        self._steps: list[PlannedStep] = []
        if not name or len(name) > NAME or len(self.id) > ID:
            raise ValueError(f"a saga's name has 1 to {NAME} letters, and its id at most {ID}")
        if attempts < 1 or lease <= 0:
            raise ValueError("attempts is at least 1, and lease more than 0 seconds")

    def step(self, step: Step, /, **arguments: Any) -> StepResult:
        """Add a step, with arguments that are JSON, or what ``step()`` has returned for an earlier one.

        The same step can be added several times: it is then ``"reserve"``, ``"reserve 2"`` and so on.
        """
        if self.state is not None:
            raise FedormError(f"saga {self.name!r} {self.id!r} has begun, and takes no more steps")
        step.check(arguments)
        times = sum(one.declared == step.name for one in self._steps)
        name = step.name if not times else f"{step.name} {times + 1}"
        values, results = {}, {}
        for key, value in arguments.items():
            if isinstance(value, StepResult):
                if value._saga is not self:
                    raise FedormError(f"argument {key!r} of step {name!r} is the result of another saga's step")
                results[key] = value.step
            else:
                values[key] = as_json(value, of=f"argument {key!r} of step {name!r}")
        self._steps.append(PlannedStep(name, step.name, step.service, values, results))
        return StepResult(self, name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._steps:
            await self._run()

    async def _run(self) -> None:
        states = self._sagas.states_for(self._service, self._steps, lease=self._lease)
        driver = Driver(self._federation, states, lease=self._lease, attempts=self._attempts)
        saga = SagaState(states.service, self.name, self.id, State.RUNNING, tuple(self._steps))
        for step in self._steps:
            await driver.check(step, saga)
        points.reached("before begin")
        try:
            await states.begin(saga, driver.owner)
        except SagaError:
            raise
        except FedormError as error:
            message = f"service {states.service!r} may not have taken it down: {error}"
            raise SagaError(message, saga=self.name, id=self.id, state="unknown", service=states.service) from error
        self.state = State.RUNNING
        points.reached("after begin")
        try:
            ended = await driver.drive(saga)
        except LeaseLostError as error:
            raise SagaError(f"left to another runner: {error}", saga=self.name, id=self.id, state="unknown") from error
        except FedormError as error:
            message = f"service {states.service!r} could not be told how far it is; a runner will find out: {error}"
            raise SagaError(message, saga=self.name, id=self.id, state="unknown", service=states.service) from error
        self.state, self.results = ended.state, ended.results
        points.reached("after end")
        if ended.state is not State.DONE:
            raise _error_of(ended, driver.cause) from driver.cause


def _error_of(saga: SagaState, cause: BaseException | None) -> SagaError:
    service = next((one.service for one in saga.steps if one.name == saga.failed_step), None)
    why = in_words(cause) if cause is not None else saga.error
    message = f"step {saga.failed_step!r} in service {service!r} failed"
    if saga.state is State.COMPENSATED:
        message += f", and what was done before it is undone: {why}"
    else:
        left = ", ".join(one.name for one in saga.steps[: saga.position])
        message += f" ({why}); {left} will be undone by  await fed.sagas.run_once(), as now: {saga.error}"
    return SagaError(
        message, saga=saga.name, id=saga.id, state=saga.state.value, step=saga.failed_step, service=service
    )
