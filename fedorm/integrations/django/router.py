"""A database router that keeps Django's tables out of databases that are fedorm's."""

from __future__ import annotations

from typing import Any

from fedorm.integrations.django.sessions import federation


class FedormRouter:
    """Lets nothing of Django's be made in a database of ``DATABASES`` that has the name of a service.

    In the settings: ``DATABASE_ROUTERS = ["fedorm.integrations.django.router.FedormRouter"]``. Such a database can be
    read by ``connections["orders"]`` and by unmanaged models; its tables are fedorm's to make and to migrate.
    """

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Refuse migrations in a service's database, and leave all others to the next router."""
        return False if db in federation().stores else None

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool | None:
        """Refuse foreign keys between a service's database and another one."""
        databases = {one._state.db, other._state.db}
        return False if len(databases) > 1 and databases & federation().stores.keys() else None
