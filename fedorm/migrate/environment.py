"""What the ``env.py`` of every history runs: one service's tables, over the connection that it is given, or its own."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Any, Literal

from alembic import context
from alembic.autogenerate.render import _repr_type
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, TypeDecorator

from fedorm.bookkeeping import own_metadata
from fedorm.catalog import catalog
from fedorm.config import settings_from_file
from fedorm.migrate import clickhouse
from fedorm.migrate.directives import tidied
from fedorm.migrate.journal import ClickHouseJournal, Journal
from fedorm.migrate.locks import TRANSIENT
from fedorm.outbox.operations import plain_type  # Its import alone lets autogenerate find and write outboxes' triggers.
from fedorm.stores.base import Capability, store_for
from fedorm.stores.sql import SQLStore

CONNECTION, STORE, OPTIONS = "fedorm.connection", "fedorm.store", "fedorm.options"
"""The keys of a configuration's attributes under which fedorm itself gives what is used."""


def run() -> None:
    """Run what Alembic was asked for.

    Called by ``alembic`` itself, FEDORM_CONFIG is the path of the ``fedorm.toml`` that says where the service is, and
    FEDORM_MODELS names modules with its models, if not those that the settings name. Raises ``CommandError``.
    """
    config = context.config
    store = config.attributes.get(STORE) or _store_of(config)
    options = {**options_for(store), **config.attributes.get(OPTIONS, {})}
    if context.is_offline_mode():
        context.configure(url=store.url, literal_binds=True, dialect_opts={"paramstyle": "named"}, **options)
        with context.begin_transaction():
            context.run_migrations()
        return
    connection: Connection | None = config.attributes.get(CONNECTION)
    if connection is not None:
        _migrate(connection, store, options)
        return
    try:
        with store.sync_engine.connect() as own:
            _migrate(own, store, options)
    finally:
        store.sync_engine.dispose()


def _migrate(connection: Connection, store: SQLStore, options: dict[str, Any]) -> None:
    # SQLite cannot change a column: its table is made anew.
    context.configure(connection=connection, render_as_batch=connection.dialect.name == "sqlite", **options)
    if Capability.DDL_IN_TRANSACTIONS not in store.capabilities:
        kind = ClickHouseJournal if store.sql_dialect == "clickhouse" else Journal
        kind(store.service, context.get_context()).attach()
    with _foreign_keys_off(connection), context.begin_transaction():
        context.run_migrations()


@contextmanager
def _foreign_keys_off(connection: Connection) -> Iterator[None]:
    """Let SQLite drop a table that is made anew: else it would delete the rows that refer to its own."""
    if connection.dialect.name != "sqlite":
        yield
        return
    _pragma(connection, "OFF")
    try:
        yield
    finally:
        connection.commit()
        _pragma(connection, "ON")


def _pragma(connection: Connection, state: str) -> None:
    # To the driver itself: within a transaction, which a statement would begin, it has no effect.
    cursor = connection.connection.cursor()
    try:
        cursor.execute(f"PRAGMA foreign_keys = {state}")
    finally:
        cursor.close()


def options_for(store: SQLStore) -> dict[str, Any]:
    """Return what ``context.configure()`` is told of a service."""
    metadata = metadata_of(store)
    schemas = {table.schema for one in metadata for table in one.tables.values()} - {None}
    options: dict[str, Any] = {
        "target_metadata": metadata,
        "render_item": render_item,
        "compare_type": True,
        # The schemas that models name, beside the one that is searched without a name.
        "include_schemas": bool(schemas) and store.sql_dialect != "clickhouse",
        "include_name": lambda name, kind, parents: _is_included(name, kind, schemas),
        "process_revision_directives": tidied,
        "transactional_ddl": Capability.DDL_IN_TRANSACTIONS in store.capabilities,
        clickhouse.STORE: store,
    }
    if store.sql_dialect == "clickhouse":
        options["autogenerate_plugins"] = clickhouse.PLUGINS
    return options


def metadata_of(store: SQLStore) -> list[MetaData]:
    """Return the tables of a service's models, and fedorm's own there, which need transactions."""
    models = catalog.metadata(store.service)
    catalog.refuse_crossing_keys([store.service])
    for table in models.tables.values():
        store.prepare_table(table)
    if Capability.TRANSACTIONS not in store.capabilities:
        return [models]
    return [models, own_metadata(store.service)]


def _is_included(name: str | None, kind: str, schemas: Set[str | None]) -> bool:
    """Leave out the schemas of others, and what is there only while a migration is carried out."""
    if kind == "schema":
        return name is None or name in schemas
    return not (kind == "table" and name in TRANSIENT)


def render_item(kind: str, item: Any, autogen_context: Any) -> str | Literal[False]:
    """Write a model's own column type as what the database has, so that a revision outlives the model."""
    if kind == "type" and isinstance(item, clickhouse.Native):
        autogen_context.imports.add("from fedorm.migrate.clickhouse import Native")
        return f"Native({item.declared!r})"
    if kind == "type" and isinstance(item, TypeDecorator):
        plain = plain_type(item, autogen_context)
        # SQLAlchemy's Interval stays what it is, and is written by its name.
        return False if plain is item else _repr_type(plain, autogen_context)
    return False


def _store_of(config: Any) -> SQLStore:
    if config.cmd_opts is not None:  # Called from a shell; a program has set up its own logging.
        logging.basicConfig(format="%(levelname)-5.5s [%(name)s] %(message)s", level=logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.INFO)
    service, path = config.get_main_option("service"), os.environ.get("FEDORM_CONFIG")
    if service is None:
        raise CommandError(f"{config.config_file_name} names no service: write  service = ...  below [alembic]")
    if not path:
        raise CommandError("set the environment variable FEDORM_CONFIG to the path of a fedorm.toml")
    settings = settings_from_file(path)
    for module in os.environ.get("FEDORM_MODELS", "").split() or settings.models:
        importlib.import_module(module)
    services = settings.services
    if service not in services:
        raise CommandError(f"{path} has no service {service!r}; it has {', '.join(sorted(services))}")
    # Only this service's store: the drivers of the others need not be installed where migrations run.
    store = store_for(service, services[service])
    if not isinstance(store, SQLStore):
        raise CommandError(f"service {service!r} has no tables: its history is carried out by  fedorm migrate")
    return store
