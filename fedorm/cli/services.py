"""``fedorm services``: which services there are; and how lists of the command line are written."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from fedorm.cli.failing import run
from fedorm.cli.setup import Setup
from fedorm.cli.tables import show_table
from fedorm.cli.values import dump
from fedorm.config import ServiceSettings
from fedorm.exc import ConfigurationError
from fedorm.stores.base import Store, store_for


class Form(enum.StrEnum):
    """How a list is written."""

    TABLE = "table"
    JSON = "json"


AsForm = Annotated[Form, typer.Option("--format", "-F", help="How the list is written.")]
AsJson = Annotated[bool, typer.Option("--json", help="The same as --format json.")]


def form_of(format: Form, as_json: bool) -> Form:
    """Return how a list is to be written."""
    return Form.JSON if as_json else format


def write_list(names: Sequence[str], rows: Sequence[Sequence[Any]], format: Form, none: str = "") -> None:
    """Write rows as a table, with ``none`` in its place where there are none, or as JSON, an object a line."""
    if format is Form.JSON:
        for row in rows:
            typer.echo(dump(dict(zip(names, row, strict=True))))
    elif rows:
        show_table(names, rows)
    else:
        typer.echo(none)


def services(context: typer.Context, format: AsForm = Form.TABLE, as_json: AsJson = False) -> None:
    """List the services: their kind, their address, and what their databases can do."""
    setup: Setup = context.obj

    async def work() -> None:
        rows = []
        for name, settings in setup.read().services.items():
            store = _store(name, settings)
            can = sorted(one.name.lower() for one in store.capabilities) if isinstance(store, Store) else []
            rows.append((name, _kind(store, settings), settings.address, can))
        if form_of(format, as_json) is Form.JSON:
            for name, kind, address, can in rows:
                typer.echo(dump({"service": name, "kind": kind, "address": address, "capabilities": can}))
            return
        show_table(
            ["service", "kind", "address", "capabilities"],
            [(name, kind, address, ", ".join(can)) for name, kind, address, can in rows],
        )

    run(setup, work())


def _store(name: str, settings: ServiceSettings) -> Store | ConfigurationError:
    """Return a service's store, or why it has none: one without its driver leaves the others to be looked at."""
    try:
        return store_for(name, settings)
    except ConfigurationError as error:
        return error


def _kind(store: Store | ConfigurationError, settings: ServiceSettings) -> str:
    return store.kind if isinstance(store, Store) else settings.backend
