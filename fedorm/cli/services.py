"""``fedorm services``, and services as ``fedorm doctor`` finds them: which there are, and how they are."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from sqlalchemy.util import greenlet_spawn

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
from fedorm.recovery import GRACE, in_doubt_of, look, opened
from fedorm.stats import ServiceInDoubt
from fedorm.stores.base import Capability, Store, store_for
from fedorm.stores.sql import SQLStore


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


@dataclass(frozen=True, slots=True)
class Found:
    """A service's state as the doctor found it; ``round_trip`` in milliseconds."""

    service: str
    kind: str
    address: str
    state: str
    round_trip: float | None = None
    in_doubt: int | None = None
    """Branches of two-phase commits that are prepared there and have not ended; None where it is not known."""
    oldest: float | None = None
    """For how many seconds the oldest of them is."""
    refusal: str | None = None
    """Why it cannot take part in a two-phase commit as it is set up."""
    error: str | None = None
    advice: str | None = None


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


def show_services(found: list[Found]) -> None:
    """Write the services for people."""
    rows = [
        (
            *(one.service, one.kind, one.address, one.state),
            "" if one.round_trip is None else f"{one.round_trip:.1f} ms",
            "" if not one.in_doubt else f"{one.in_doubt}, oldest {one.oldest:.0f} s",
        )
        for one in found
    ]
    show_table(["service", "kind", "address", "state", "round trip", "in doubt"], rows)
    for one in found:
        if one.error is not None:
            typer.echo(f"\n{one.service}: {one.error}\n  what to do: {one.advice}")


async def examine(settings: Mapping[str, ServiceSettings]) -> list[Found]:
    """Look at every service, those that are up together: what is in doubt in one is decided in another."""
    made = {name: _store(name, one) for name, one in settings.items()}
    stores = {name: store for name, store in made.items() if isinstance(store, Store)}
    found: list[Found] = []
    async with opened(stores) as down:
        up = {name: store for name, store in stores.items() if name not in down}
        answers = dict(zip(up, await asyncio.gather(*map(_round_trip, up.values())), strict=True)) | down
        in_doubt = await look(stores, down)
        counted = in_doubt_of(in_doubt, stores).services
        for name, store in made.items():
            one = Found(name, _kind(store, settings[name]), settings[name].address, "down")
            answer = answers[name] if isinstance(store, Store) else store
            if isinstance(answer, FedormError):
                found.append(_with(one, answer, settings[name]))
                continue
            one = replace(one, state="up", round_trip=answer, refusal=await _refusal(store))
            if (unasked := in_doubt.unasked.get(name)) is not None:
                one = _with(one, unasked, settings[name])
            elif (there := counted.get(name)) is not None:
                one = replace(one, in_doubt=there.branches, oldest=there.oldest)
                if there.oldest >= GRACE:
                    one = replace(one, error=_left(there), advice=_RECOVER)
            found.append(one)
    return found


async def _refusal(store: Store | ConfigurationError) -> str | None:
    if not isinstance(store, SQLStore) or Capability.TWO_PHASE not in store.capabilities:
        return None
    return await greenlet_spawn(store.two_phase_refusal, store.engine)


async def _round_trip(store: Store) -> float | FedormError:
    try:
        return await store.round_trip()
    except FedormError as error:
        return error


def _with(found: Found, error: FedormError, settings: ServiceSettings) -> Found:
    return replace(found, error=settings.scrub(one_line(error)), advice=advice(error, settings))


_RECOVER = "run  fedorm recover: it ends them as was decided; until then what they have written stays locked"


def _left(there: ServiceInDoubt) -> str:
    if there.branches == 1:
        return f"a transaction of a two-phase commit is in doubt, for {there.oldest:.0f} s"
    return f"{there.branches} transactions of two-phase commits are in doubt, the oldest for {there.oldest:.0f} s"


def refusals(found: list[Found]) -> list[str]:
    """Return which services cannot take part in two-phase commits, and why."""
    return [f"{one.service} cannot take part in session(twophase=True): {one.refusal}" for one in found if one.refusal]


def _store(name: str, settings: ServiceSettings) -> Store | ConfigurationError:
    """Return a service's store, or why it has none: one without its driver leaves the others to be looked at."""
    try:
        return store_for(name, settings)
    except ConfigurationError as error:
        return error


def _kind(store: Store | ConfigurationError, settings: ServiceSettings) -> str:
    return store.kind if isinstance(store, Store) else settings.backend


def advice(error: FedormError, settings: ServiceSettings) -> str:
    """Return what to do about a service's error."""
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


def notes(settings: Mapping[str, Any]) -> list[str]:
    """Return what is worth knowing, and no error."""
    found = [
        f"models name the service {name!r}, which the settings do not have"
        for name in sorted(catalog.services - settings.keys())
    ]
    missing = [name for name in ("sqlglot", "duckdb", "pyarrow") if find_spec(name) is None]
    if missing:
        found.append(f"a select over several services needs {', '.join(missing)}: pip install 'fedorm[query]'")
    return found
