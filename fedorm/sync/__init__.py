"""Keeping data in sync between services: rules on models, four strategies, one engine."""

from fedorm.sync.copying import copy_service
from fedorm.sync.errors import SyncRuleError, UnknownRuleError
from fedorm.sync.replacing import Replacing
from fedorm.sync.rule import SyncRule, sync_hook
from fedorm.sync.strategies import CDC, Batch, EventDriven, RealTime

__all__ = [
    "CDC",
    "Batch",
    "EventDriven",
    "RealTime",
    "Replacing",
    "SyncRule",
    "SyncRuleError",
    "UnknownRuleError",
    "copy_service",
    "sync_hook",
]
