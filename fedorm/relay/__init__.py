"""The relay: it hands the events of every service's outbox on to handlers, to models and to brokers."""

from fedorm.relay.handlers import Handler, handler
from fedorm.relay.outbox import Outbox, OutboxStatus, TargetStatus
from fedorm.relay.sources import Held
from fedorm.relay.targets import PartlyDeliveredError, Target, TargetUnavailableError

__all__ = [
    "Handler",
    "Held",
    "Outbox",
    "OutboxStatus",
    "PartlyDeliveredError",
    "Target",
    "TargetStatus",
    "TargetUnavailableError",
    "handler",
]
