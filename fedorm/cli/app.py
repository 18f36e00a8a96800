"""The ``fedorm`` command: what goes for all commands, and the list of them."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from fedorm.cli.completing import service_names
from fedorm.cli.doctor import doctor
from fedorm.cli.examples import examples
from fedorm.cli.explain import explain
from fedorm.cli.migrate import migrate
from fedorm.cli.new import new
from fedorm.cli.outbox import outbox
from fedorm.cli.recover import recover
from fedorm.cli.saga import saga
from fedorm.cli.services import services
from fedorm.cli.setup import Setup
from fedorm.cli.sql import sql
from fedorm.cli.sync import sync

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # They may show the values of variables, and so a password.
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    epilog=examples(
        "fedorm new shop",
        "fedorm doctor",
        "fedorm --config deploy/fedorm.toml --models shop.models sync status",
        'fedorm sql "select count(*) from users.users"',
    ),
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fedorm {version('fedorm')}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            envvar="FEDORM_CONFIG",
            help="The file of the services' settings; by default the nearest fedorm.toml, from here upward.",
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--models",
            "-m",
            envvar="FEDORM_MODELS",
            help="A module that declares models, as in import, instead of those that the settings name. Repeatable.",
        ),
    ] = None,
    reflect: Annotated[
        list[str] | None,
        typer.Option(
            "--reflect",
            "-r",
            metavar="SERVICE",
            help="A service whose tables are read from its database. Repeatable; without models, all are.",
            autocompletion=service_names,
        ),
    ] = None,
    trace: Annotated[bool, typer.Option("--traceback", help="Show where in the code an error comes from.")] = False,
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Ask the services of a federation, and look after them."""
    given = context.obj.given if isinstance(context.obj, Setup) else None
    context.obj = Setup(
        config=config, models=tuple(models or ()), reflect=tuple(reflect or ()), trace=trace, given=given
    )


app.command(epilog=examples("fedorm new shop", "fedorm new shop services/shop"))(new)
app.command(epilog=examples("fedorm services", "fedorm services --json"))(services)
app.command(epilog=examples("fedorm doctor", "fedorm --models shop.models doctor --json"))(doctor)
app.command(epilog=examples("fedorm recover --dry-run", "fedorm recover --older-than 300 --json"))(recover)
app.command(
    epilog=examples(
        'fedorm sql "select * from users.users order by id limit 10"',
        'fedorm sql --param country=DE --json "select id from users.users where country = :country"',
        "fedorm sql --file report.sql --format parquet --output report.parquet",
    )
)(sql)
app.command(
    epilog=examples(
        'fedorm explain "select u.id, o.total from users.users u join orders.orders o on o.user_id = u.id"',
        "fedorm explain --analyze --file report.sql",
        "fedorm explain --file report.sql --format svg --output plan.svg",
    )
)(explain)
app.add_typer(outbox, name="outbox")
app.add_typer(saga, name="saga")
app.add_typer(migrate, name="migrate")
app.add_typer(sync, name="sync")
