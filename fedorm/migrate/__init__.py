"""Migrations: one history a service, carried out together."""

from fedorm.migrate.base import Drift, Revision
from fedorm.migrate.errors import BusyError, MigrationError, MigrationFailedError, NoHistoryError
from fedorm.migrate.migrations import Migrations

__all__ = [
    "BusyError",
    "Drift",
    "MigrationError",
    "MigrationFailedError",
    "Migrations",
    "NoHistoryError",
    "Revision",
]
