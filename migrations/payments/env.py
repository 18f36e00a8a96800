"""Alembic's way into the history of the service "payments"."""

import examples.ecommerce.models  # noqa: F401 - also when alembic itself is called, without --models
from fedorm.migrate.environment import run

run()
