"""Alembic's way into the history of the service "catalogue"."""

from fedorm.migrate.environment import run

run()
