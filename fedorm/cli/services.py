"""``fedorm services`` and ``fedorm doctor``: which services there are, and how they are."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from fedorm.catalog import catalog
from fedorm.cli.failing import one_line, run
from fedorm.cli.setup import Setup
from fedorm.cli.tables import show_table
from fedorm.cli.values import dump
from fedorm.config import ServiceSettings
from fedorm.exc import (
    AuthenticationError,
    ConfigurationError,
    FedormError,
    MissingDriverError,
    ServiceTimeoutError,
    StoreError,
    TLSError,
)
from fedorm.stores.base import Store, store_for


class Form(enum.StrEnum):
    """How a list is written."""

    TABLE = "table"
    JSON = "json"


AsForm = Annotated[Form, typer.Option("--format", "-F", help="How the list is written.")]


@dataclass(frozen=True, slots=True)
class Found:
    """A service's state as the doctor found it; ``round_trip`` in milliseconds."""

    service: str
    kind: str
    address: str
    state: str
    round_trip: float | None = None
    error: str | None = None
    advice: str | None = None


def services(context: typer.Context, format: AsForm = Form.TABLE) -> None:
    """List the services: their kind, their address, and what their databases can do."""
    setup: Setup = context.obj

    async def work() -> None:
        rows = []
        for name, settings in setup.read().services.items():
            store = _store(name, settings)
            can = sorted(one.name.lower() for one in store.capabilities) if isinstance(store, Store) else []
            rows.append((name, _kind(store, settings), settings.address, can))
        if format is Form.JSON:
            for name, kind, address, can in rows:
                typer.echo(dump({"service": name, "kind": kind, "address": address, "capabilities": can}))
            return
        show_table(
            ["service", "kind", "address", "capabilities"],
            [(name, kind, address, ", ".join(can)) for name, kind, address, can in rows],
        )

    run(setup, work())


def doctor(context: typer.Context, format: AsForm = Form.TABLE) -> None:
    """Open each service and say how it is, and what to do where it is down. Ends with 1 when one is."""
    setup: Setup = context.obj

    async def work() -> None:
        settings = setup.read().services
        found = await asyncio.gather(*(_examine(name, one) for name, one in settings.items()))
        if format is Form.JSON:
            for one in found:
                typer.echo(dump({name: getattr(one, name) for name in one.__slots__}))
        else:
            _show(found)
            for note in _notes(settings):
                typer.echo(f"note: {note}")
        if any(one.state != "up" for one in found):
            raise typer.Exit(1)

    run(setup, work())


def _show(found: list[Found]) -> None:
    times = [None if one.round_trip is None else f"{one.round_trip:.1f} ms" for one in found]
    rows = [(one.service, one.kind, one.address, one.state, time or "") for one, time in zip(found, times, strict=True)]
    show_table(["service", "kind", "address", "state", "round trip"], rows)
    for one in found:
        if one.error is not None:
            typer.echo(f"\n{one.service}: {one.error}\n  what to do: {one.advice}")


async def _examine(name: str, settings: ServiceSettings) -> Found:
    store = _store(name, settings)
    kind, address = _kind(store, settings), settings.address
    if not isinstance(store, Store):
        return Found(name, kind, address, "down", None, settings.scrub(one_line(store)), _advice(store, settings))
    try:
        await store.open()
        try:
            took = await store.round_trip()
        finally:
            await store.close()
    except FedormError as error:
        return Found(name, kind, address, "down", None, settings.scrub(one_line(error)), _advice(error, settings))
    return Found(name, kind, address, "up", took)


def _store(name: str, settings: ServiceSettings) -> Store | ConfigurationError:
    """Return a service's store, or why it has none: one without its driver leaves the others to be looked at."""
    try:
        return store_for(name, settings)
    except ConfigurationError as error:
        return error


def _kind(store: Store | ConfigurationError, settings: ServiceSettings) -> str:
    return store.kind if isinstance(store, Store) else settings.backend


def _advice(error: FedormError, settings: ServiceSettings) -> str:
    limit = f"{settings.connect_timeout:g} s"
    match error:
        case MissingDriverError():
            return f"pip install 'fedorm[{error.extra}]'"
        case ConfigurationError():
            return "correct the service's settings in the file"
        case AuthenticationError():
            return "check the user, the password and the database in the url, and what the server lets them do"
        case TLSError():
            return "check tls.ca, tls.cert and tls.key in the settings, and the host that the certificate is for"
        case ServiceTimeoutError():
            return (
                f"see whether the server is overloaded or a firewall drops packets; it may take connect_timeout={limit}"
            )
        case StoreError():
            return "see whether the server runs, and whether host and port in the url are right and reachable from here"
        case _:
            return "see the message"


def _notes(settings: Mapping[str, Any]) -> list[str]:
    notes = [
        f"models name the service {name!r}, which the settings do not have"
        for name in sorted(catalog.services - settings.keys())
    ]
    missing = [name for name in ("sqlglot", "duckdb", "pyarrow") if find_spec(name) is None]
    if missing:
        notes.append(f"a select over several services needs {', '.join(missing)}: pip install 'fedorm[query]'")
    return notes
