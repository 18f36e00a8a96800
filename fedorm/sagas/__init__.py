"""Sagas: steps in several services, each with what undoes it, that a crash leaves neither half done nor half undone."""

from fedorm.sagas.errors import SagaError, SagaExistsError
from fedorm.sagas.saga import Saga, StepResult
from fedorm.sagas.sagas import Sagas, WithSagas
from fedorm.sagas.states import PlannedStep, SagaState
from fedorm.sagas.steps import Step, StepCall, current_step, saga_step
from fedorm.sagas.tables import State

__all__ = [
    "PlannedStep",
    "Saga",
    "SagaError",
    "SagaExistsError",
    "SagaState",
    "Sagas",
    "State",
    "Step",
    "StepCall",
    "StepResult",
    "WithSagas",
    "current_step",
    "saga_step",
]
