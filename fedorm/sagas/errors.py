"""The errors of sagas."""

from __future__ import annotations

from fedorm.exc import FedormError


class SagaError(FedormError):
    """A saga did not come to its end; the error of the step is chained as the cause.

    ``state`` is "compensated" when nothing of it is left, "compensating" when a runner undoes the rest, "running" when
    a runner will finish it, and "unknown" when the service that keeps it could not be asked any more: then a runner
    will find out. ``step`` and ``service`` are those that failed, None where none has.
    """

    def __init__(
        self, message: str, *, saga: str, id: str, state: str, step: str | None = None, service: str | None = None
    ) -> None:
        self.saga, self.id, self.state, self.step, self.service = saga, id, state, step, service
        super().__init__(f"saga {saga!r} {id!r}: {message}")


class SagaExistsError(SagaError):
    """A saga with this name and id was begun before; nothing has been done."""


class LeaseLostError(FedormError):
    """Another runner has taken a saga over, as this one was not heard of for too long."""
