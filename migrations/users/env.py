"""Alembic's way into the history of the service "users"."""

from migrations.environment import migrate

migrate()
