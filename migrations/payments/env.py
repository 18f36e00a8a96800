"""Alembic's way into the history of the service "payments"."""

from migrations.environment import migrate

migrate()
