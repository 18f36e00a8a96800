"""What the services' ``env.py`` share: the tables of one service, and its database by the federation's settings.

Its tables are those of its models and fedorm's own: decisions, events, the marks of sagas, the positions of sync rules.
"""

from __future__ import annotations

import logging
import os
from typing import Any, Literal

from alembic import context
from alembic.util import CommandError
from sqlalchemy import MetaData, TypeDecorator

import examples.ecommerce.models  # noqa: F401 - a service's MetaData holds the tables of the models imported so far
import fedorm.outbox.operations  # noqa: F401 - autogenerate finds and writes the triggers of outboxes
from fedorm import FederatedBase
from fedorm.bookkeeping import own_metadata
from fedorm.config import settings_from_file
from fedorm.stores.base import store_for
from fedorm.stores.sql import SQLStore


def migrate() -> None:
    """Run what Alembic was asked for on the service that its ``alembic.ini`` names.

    FEDORM_CONFIG is the path of the ``fedorm.toml`` that says where the service is. Raises ``CommandError`` without
    it, and for a service that it does not have or that holds no tables.
    """
    config = context.config
    if config.cmd_opts is not None:  # Called from a shell; a program has set up its own logging.
        logging.basicConfig(format="%(levelname)-5.5s [%(name)s] %(message)s", level=logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.INFO)
    service = config.get_main_option("service")
    if service is None:
        raise CommandError(f"{config.config_file_name} names no service")
    metadata, store = [FederatedBase.metadata_of(service), own_metadata(service)], store_of(service)
    if context.is_offline_mode():
        _print_sql(metadata, store)
    else:
        _change(metadata, store)


def _change(metadata: list[MetaData], store: SQLStore) -> None:
    # The store's own engine: URL, TLS and time limits as the application has them.
    engine = store.sync_engine
    try:
        with engine.connect() as connection:
            context.configure(
                connection=connection,
                target_metadata=metadata,
                render_item=render_item,
                # SQLite cannot change a column: its table is made anew.
                render_as_batch=connection.dialect.name == "sqlite",
            )
            with context.begin_transaction():
                context.run_migrations()
    finally:
        engine.dispose()


def _print_sql(metadata: list[MetaData], store: SQLStore) -> None:
    context.configure(url=store.url, target_metadata=metadata, literal_binds=True, dialect_opts={"paramstyle": "named"})
    with context.begin_transaction():
        context.run_migrations()


def render_item(kind: str, item: Any, autogen_context: Any) -> str | Literal[False]:
    """Write a model's own column type as what the database has, so that a revision outlives the model."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl_instance!r}"
    return False


def store_of(service: str) -> SQLStore:
    """Return the store of a service by the ``fedorm.toml`` that FEDORM_CONFIG names."""
    path = os.environ.get("FEDORM_CONFIG")
    if not path:
        raise CommandError("set the environment variable FEDORM_CONFIG to the path of a fedorm.toml")
    services = settings_from_file(path).services
    if service not in services:
        raise CommandError(f"{path} has no service {service!r}; it has {', '.join(sorted(services))}")
    # Only this service's store: the drivers of the others need not be installed where migrations run.
    store = store_for(service, services[service])
    if not isinstance(store, SQLStore):
        raise CommandError(f"service {service!r} has no tables to migrate: {store.address}")
    return store
