"""Triggers that write the events of an outbox, whoever changes a table's rows."""

from fedorm.outbox.triggers.installed import make_triggers
from fedorm.outbox.triggers.required import require_triggers

__all__ = ["make_triggers", "require_triggers"]
