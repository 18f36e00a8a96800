"""``fedorm migrate``: the histories of the services, written, carried out, and compared with the databases."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from fedorm.catalog import catalog
from fedorm.cli.completing import service_names
from fedorm.cli.examples import examples
from fedorm.cli.exit_codes import ExitCode
from fedorm.cli.failing import run
from fedorm.cli.services import AsForm, AsJson, Form, form_of, write_list
from fedorm.cli.setup import Setup, UsageError
from fedorm.cli.values import dump
from fedorm.federation import Federation
from fedorm.migrate.migrations import WAIT, Migrations

migrate = typer.Typer(
    no_args_is_help=True,
    help="Carry out the migrations of the services, each of which has a history of its own. The models are those of "
    "the settings, or of --models.",
    epilog=examples("fedorm migrate upgrade", "fedorm migrate check --json"),
)

Service = Annotated[
    list[str] | None,
    typer.Option("--service", "-s", help="Only this service. Repeatable.", autocompletion=service_names),
]
OneService = Annotated[str, typer.Option("--service", "-s", help="The service.", autocompletion=service_names)]


def _revision(given: str) -> str:
    if given.startswith("--"):  # Unknown options get here, as -1 has to.
        raise typer.BadParameter(f"there is no option {given}")
    return given


To = Annotated[str, typer.Argument(metavar="REVISION", help="An id, head, heads, base, +1 or -1.", callback=_revision)]
Wait = Annotated[
    float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for another process that migrates.")
]

_SIGNED = {"ignore_unknown_options": True}
"""So that -1 is a revision."""


def _migrations(setup: Setup, *services: str) -> Migrations:
    """Return what migrates the federation of the settings. Raises ``UsageError`` for a service that it has not."""
    settings = setup.read()
    # An index may take longer to make than any answer may to come.
    unlimited = {name: one.model_copy(update={"timeout": None}) for name, one in settings.services.items()}
    federation = Federation(settings.model_copy(update={"services": unlimited}))
    for name in services:
        if name not in federation.stores:
            known = ", ".join(federation.stores)
            raise UsageError(f"--service {name}: {setup.source} has no such service; it has {known}")
    return federation.migrate


def _comparing(setup: Setup, *services: str) -> Migrations:
    """Return the same where models are compared. Raises ``UsageError`` if there are none: every table would be dropped.

    An adopted ``env.py`` names its own.
    """
    migrations = _migrations(setup, *services)
    known = catalog.services & setup.read().services.keys()
    adopted = [migrations.history(name).is_adopted for name in services or migrations.services()]
    if not known and not (adopted and all(adopted)):
        raise UsageError(
            "no models are known, so that all tables would seem to be nobody's: name their modules by --models, or by "
            f'models = ["..."] at the top of {setup.source}'
        )
    return migrations


@migrate.command(epilog=examples("fedorm migrate init", "fedorm migrate init --service orders"))
def init(context: typer.Context, service: Service = None) -> None:
    """Begin the histories of all services, or of some: their folders and settings. What is there stays as it is."""
    setup: Setup = context.obj

    async def work() -> None:
        written = _migrations(setup, *service or ()).init(service)
        for path in written:
            typer.echo(f"wrote {_from_here(path)}")
        if not written:
            typer.echo("all services have a history already")

    run(setup, work())


@migrate.command(epilog=examples("fedorm migrate adopt --service users alembic/"))
def adopt(
    context: typer.Context,
    service: OneService,
    folder: Annotated[
        Path, typer.Argument(help="The folder of an env.py, an alembic.ini, or the folder of Beanie's migrations.")
    ],
) -> None:
    """Let a folder of Alembic's, or of Beanie's, that is there already be the history of a service."""
    setup: Setup = context.obj

    async def work() -> None:
        for path in _migrations(setup, service).adopt(service, folder):
            typer.echo(f"wrote {_from_here(path)}")

    run(setup, work())


@migrate.command(epilog=examples("fedorm migrate revision --service orders -m 'Add a total' --autogenerate"))
def revision(
    context: typer.Context,
    service: OneService,
    message: Annotated[str, typer.Option("--message", "-m", help="What the revision does.")],
    autogenerate: Annotated[
        bool, typer.Option("--autogenerate", help="Write what brings the database to what the models are.")
    ] = False,
) -> None:
    """Write a new revision for a service."""
    setup: Setup = context.obj

    async def work() -> None:
        migrations = (_comparing if autogenerate else _migrations)(setup, service)
        path = await migrations.revision(service, message, autogenerate=autogenerate)
        typer.echo("nothing has changed" if path is None else f"wrote {_from_here(path)}")

    run(setup, work())


@migrate.command(
    epilog=examples("fedorm migrate upgrade", "fedorm migrate upgrade --service orders +1"), context_settings=_SIGNED
)
def upgrade(context: typer.Context, to: To = "heads", service: Service = None, wait: Wait = WAIT) -> None:
    """Carry out the revisions of all services, or of some, that were not carried out yet, up to one or to the newest.

    One service comes after the other, in the order of [migrations] in the settings; all are looked at before the first.
    """
    setup: Setup = context.obj

    async def work() -> None:
        await _moved(
            _migrations(setup, *service or ()).upgrade(service, to, report=_report, wait=wait), "is up to date"
        )

    run(setup, work())


@migrate.command(
    epilog=examples("fedorm migrate downgrade --service orders -1", "fedorm migrate downgrade --all base"),
    context_settings=_SIGNED,
)
def downgrade(
    context: typer.Context,
    to: To,
    service: Service = None,
    wait: Wait = WAIT,
    every: Annotated[bool, typer.Option("--all", help="Of all services.")] = False,
) -> None:
    """Undo the revisions of some services, or of all, the last service first; back to base, all of them."""
    setup: Setup = context.obj

    async def work() -> None:
        if every == bool(service):
            raise UsageError("name the services by --service, or all of them by --all")
        moving = _migrations(setup, *service or ()).downgrade(service, to, report=_report, wait=wait)
        await _moved(moving, "has nothing to undo")

    run(setup, work())


@migrate.command(epilog=examples("fedorm migrate stamp --service orders head"))
def stamp(context: typer.Context, to: To, service: Service = None) -> None:
    """Write down that databases are at a revision, and change nothing else."""
    setup: Setup = context.obj

    async def work() -> None:
        migrations = _migrations(setup, *service or ())
        await migrations.stamp(service, to)
        for name, revisions in (await migrations.current(service)).items():
            typer.echo(f"{name} is at {', '.join(revisions) or 'base'}")

    run(setup, work())


@migrate.command(epilog=examples("fedorm migrate current --json"))
def current(
    context: typer.Context, service: Service = None, format: AsForm = Form.TABLE, as_json: AsJson = False
) -> None:
    """Show which revisions the databases are at. Ends with 1 where one is not at the newest."""
    setup: Setup = context.obj

    async def work() -> None:
        migrations = _migrations(setup, *service or ())
        heads = migrations.heads(service)
        there = await migrations.current(service)
        rows = [(name, ", ".join(there[name]) or None, sorted(there[name]) == sorted(heads[name])) for name in there]
        write_list(["service", "revision", "newest"], rows, form_of(format, as_json))
        if not all(newest for _, _, newest in rows):
            raise typer.Exit(ExitCode.FAILED)

    run(setup, work())


@migrate.command(epilog=examples("fedorm migrate history --service orders", "fedorm migrate history --json"))
def history(
    context: typer.Context, service: Service = None, format: AsForm = Form.TABLE, as_json: AsJson = False
) -> None:
    """List the revisions of each service, the newest first; asks no server."""
    setup: Setup = context.obj

    async def work() -> None:
        rows = [
            (name, one.id, ", ".join(one.down) or None, one.is_head, one.message)
            for name, revisions in _migrations(setup, *service or ()).revisions(service).items()
            for one in revisions
        ]
        write_list(
            ["service", "revision", "follows", "head", "message"], rows, form_of(format, as_json), "no revisions"
        )

    run(setup, work())


@migrate.command(epilog=examples("fedorm migrate heads"))
def heads(
    context: typer.Context, service: Service = None, format: AsForm = Form.TABLE, as_json: AsJson = False
) -> None:
    """List the newest revisions of each service; asks no server. Ends with 1 where a history has several."""
    setup: Setup = context.obj

    async def work() -> None:
        found = _migrations(setup, *service or ()).heads(service)
        rows = [(name, one) for name, ids in found.items() for one in ids]
        write_list(["service", "revision"], rows, form_of(format, as_json), "no revisions")
        if any(len(ids) > 1 for ids in found.values()):
            raise typer.Exit(ExitCode.FAILED)

    run(setup, work())


@migrate.command(epilog=examples("fedorm migrate check", "fedorm --models shop.models migrate check --json"))
def check(
    context: typer.Context, service: Service = None, format: AsForm = Form.TABLE, as_json: AsJson = False
) -> None:
    """Compare models and databases, and the keys of relationships between services. Ends with 1 where they differ."""
    setup: Setup = context.obj

    async def work() -> None:
        found = await _comparing(setup, *service or ()).check(service)
        if form_of(format, as_json) is Form.JSON:
            for one in found:
                told = {name: getattr(one, name) for name in one.__slots__}
                typer.echo(dump(told | {"what": setup.scrub(one.what)}))
        elif not found:
            typer.echo("models and databases agree")
        else:
            place: tuple[str, str] | None = None
            for one in found:
                if place != (one.service, one.table):
                    place = (one.service, one.table)
                    typer.echo(f"{one.service}.{one.table}" if one.table else one.service)
                typer.echo(f"  {setup.scrub(one.what)}")
        if found:
            raise typer.Exit(ExitCode.FAILED)

    run(setup, work())


@migrate.command(
    epilog=examples(
        "fedorm migrate sql --service orders > upgrade.sql", "fedorm migrate sql --service orders --from 0001"
    )
)
def sql(
    context: typer.Context,
    to: To = "heads",
    service: OneService = "",
    start: Annotated[
        str | None, typer.Option("--from", metavar="REVISION", help="Where the database is; without it, at base.")
    ] = None,
) -> None:
    """Print the SQL that an upgrade of a service would send, to be looked at or carried out by others."""
    setup: Setup = context.obj

    async def work() -> None:
        if not service:
            raise UsageError("name the service by --service")
        typer.echo(await _migrations(setup, service).sql(service, to, start=start), nl=False)

    run(setup, work())


async def _moved(moving: Coroutine[Any, Any, dict[str, list[str]]], idle: str) -> None:
    for service, done in (await moving).items():
        if not done:
            typer.echo(f"{service} {idle}")


def _report(service: str, what: str) -> None:
    typer.echo(f"{service} {what}")


def _from_here(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
