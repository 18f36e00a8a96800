"""The history of a service of documents."""

from __future__ import annotations

from fedorm.migrate.base import History


class BeanieHistory(History):
    """Beanie's migrations."""
