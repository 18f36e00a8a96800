"""Alembic's way into the history of the service "users"."""

from fedorm.migrate.environment import run

run()
