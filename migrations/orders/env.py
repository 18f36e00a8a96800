"""Alembic's way into the history of the service "orders"."""

from migrations.environment import migrate

migrate()
