"""The events that event-driven rules follow: models make them from the moment on that a rule for them is declared."""

from __future__ import annotations

from typing import Any, cast

from fedorm.outbox.changes import hear_also
from fedorm.outbox.rules import OutboxRule
from fedorm.sync.strategies import EventDriven


def event_type(model: type[Any]) -> str:
    """Return what the events of a model's changes are called for its rules."""
    return f"fedorm.sync.{model.__service__}.{model.__name__}"


def hear(model: type[Any], strategy: EventDriven) -> None:
    """Let changes of a model make events, in whichever process: also in one that does not have the rule's target."""
    hear_also(model, OutboxRule(type=f"{event_type(model)}.{{event}}", by=cast(Any, strategy.by)))
