"""The transactional outbox: events that are written with the changes they tell of, and handed on afterwards."""

from fedorm.outbox.events import Event
from fedorm.outbox.rules import OutboxRule

__all__ = ["Event", "OutboxRule"]
