"""``fedorm new``: a small project that runs, with models, settings, migrations and tests."""

from __future__ import annotations

import importlib
import json
import keyword
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.abc import Traversable
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from string import Template
from typing import Annotated

import typer
from pydantic import SecretStr

from fedorm.cli.failing import run
from fedorm.cli.setup import Setup, UsageError
from fedorm.config import FederationSettings, settings_from_file
from fedorm.federation import Federation
from fedorm.stores.base import Capability
from fedorm.stores.sql import SQLStore

SERVICES = ("users", "orders", "inventory")
_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_LAYOUT = ("tests", "migrations")
"""Folders of every project, which its package cannot be."""
_PASSWORD = re.compile(r"://[^/?#@:]*:(?!\$\{)[^@]+@")
_SUFFIX = ".tpl"
_FIRST = "Make the tables"


def new(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The project, and its package: my-shop has my_shop.")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Where to write it, if not into a folder of its name.")
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url",
            metavar="SERVICE=URL",
            help="An empty database, on a server that runs, for users, orders or inventory; else a file of SQLite. "
            "Repeatable.",
        ),
    ] = None,
) -> None:
    """Write a small project that runs: three services with models, settings, migrations and tests.

    It works at once, on files of SQLite. Nothing is written into a folder that is not empty.
    """
    setup: Setup = context.obj

    async def work() -> None:
        package = package_name(name)
        target = folder or Path(name)
        _refuse_used(target)
        urls = {service: f"sqlite+aiosqlite:///{service}.db" for service in SERVICES} | _given(url or ())
        extras = _extras(urls)
        words = {one: json.dumps(value) for one, value in urls.items()}
        with _undone_if_it_fails(target):
            write_project(target, {"name": name, "package": package, "extras": ",".join(extras), **words})
            await _write_histories(setup, target, package)
        typer.echo(f"wrote {target}: three services, with models, migrations and tests. To see it run:\n")
        for line in (f"cd {target}", "pip install -e '.[test]'", "fedorm migrate upgrade", f"python -m {package}"):
            typer.echo(f"  {line}")
        typer.echo("  pytest")

    run(setup, work())


def package_name(name: str) -> str:
    """Return the package of a project. Raises ``UsageError`` for a name that cannot be one."""
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} cannot be the name of a project: write small letters, digits, and - or _ between them, "
            f"as in  fedorm new my-shop"
        )
    package = name.replace("-", "_")
    taken = "a word of Python" if keyword.iskeyword(package) else "a folder of the project" if name in _LAYOUT else None
    if taken is None and package in sys.stdlib_module_names:
        taken = "a module of Python's own"
    if taken is None and (spec := find_spec(package)) is not None and spec.origin is not None:
        taken = f"a module already, in {spec.origin}"
    if taken is not None:
        raise UsageError(f"{package!r} is {taken}: choose another name for the project")
    return package


def _refuse_used(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        what = "is not empty" if target.is_dir() else "is no folder"
        raise UsageError(f"{target} {what}, and nothing is written there: name another folder, as the second argument")


def _given(urls: list[str] | tuple[str, ...]) -> dict[str, str]:
    given = {}
    for one in urls:
        service, equals, url = one.partition("=")
        if service not in SERVICES or not equals:
            raise UsageError(f"--url {service}: write  --url SERVICE=URL,  with one of {', '.join(SERVICES)}")
        if _PASSWORD.search(url):
            raise UsageError(
                f"--url {service}: the settings are no place for a password: put it into the environment, and write "
                f"${{{service.upper()}_PASSWORD}} in its place"
            )
        given[service] = url
    return given


def _extras(urls: Mapping[str, str]) -> list[str]:
    """Return what a project has to install of fedorm for its services. Raises ``ConfigurationError``."""
    stores = Federation({name: re.sub(r"\$\{[^}]*\}", "x", url) for name, url in urls.items()})
    _ = stores.migrate.services()  # Without Alembic, it is refused before anything is written.
    extras = {"alembic", "cli", "query"}
    for name, store in stores.stores.items():
        if not isinstance(store, SQLStore) or Capability.TRANSACTIONS not in store.capabilities:
            raise UsageError(
                f"--url {name}: the models are tables in PostgreSQL, MySQL, MariaDB or SQLite, and this is {store.kind}"
            )
        extras.add(store.extra)
    return sorted(extras)


# -- writing it


def write_project(target: Path, words: Mapping[str, str]) -> None:
    """Write the files of a project, with the words of ``$word``."""
    for path, text in _templates(files("fedorm.cli") / "project"):
        parts = [words["package"] if part == "package" else part for part in PurePosixPath(path).parts]
        if parts == ["gitignore"]:  # Under its own name git would heed it in fedorm's folder.
            parts = [".gitignore"]
        file = target.joinpath(*parts)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template(text).substitute(words), encoding="utf-8")


def _templates(folder: Traversable, above: str = "") -> Iterator[tuple[str, str]]:
    for one in sorted(folder.iterdir(), key=lambda one: one.name):
        if one.is_dir():
            yield from _templates(one, f"{above}{one.name}/")
        elif one.name.endswith(_SUFFIX):
            yield f"{above}{one.name.removesuffix(_SUFFIX)}", one.read_text(encoding="utf-8")


async def _write_histories(setup: Setup, target: Path, package: str) -> None:
    """Begin the histories, and write into each what makes the tables in an empty database of its kind."""
    settings = setup.settings = settings_from_file(target / "fedorm.toml")
    _import_models(target, package)
    with tempfile.TemporaryDirectory() as empty:
        federation = Federation(_elsewhere(settings, Path(empty)))
        async with federation:
            for service in SERVICES:
                if there := sorted(await federation.reflect(service)):
                    raise UsageError(f"--url {service}: its database is not empty, there is {there[0]}: name another")
            federation.migrate.init()
            for service in SERVICES:
                await federation.migrate.revision(service, _FIRST, autogenerate=True)


def _import_models(target: Path, package: str) -> None:
    sys.path.insert(0, str(target.absolute()))
    importlib.invalidate_caches()
    importlib.import_module(f"{package}.models")


def _elsewhere(settings: FederationSettings, folder: Path) -> FederationSettings:
    """Return settings with other files of SQLite, so that the project's own are made when it is used."""
    services = {
        name: one.model_copy(update={"url": SecretStr(f"sqlite+aiosqlite:///{folder / name}.db")})
        if one.backend == "sqlite"
        else one
        for name, one in settings.services.items()
    }
    return settings.model_copy(update={"services": services})


@contextmanager
def _undone_if_it_fails(target: Path) -> Iterator[None]:
    """Leave a folder as it was, empty or not there, where it cannot be filled."""
    was_there = target.exists()
    target.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for one in target.iterdir():
            shutil.rmtree(one) if one.is_dir() else one.unlink()
        if not was_there:
            target.rmdir()
        raise
