"""What a command works with: the settings' file, the models, and the federation that they make."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from fedorm.config import (
    FILE,
    FILE_VARIABLE,
    FederationSettings,
    ServiceSettings,
    find_settings_file,
    settings_from_file,
)
from fedorm.exc import ConfigurationError
from fedorm.federation import Federation
from fedorm.stores.base import Capability
from fedorm.stores.sql import SQLStore


class UsageError(Exception):
    """A command was not called as it has to be."""


@dataclass(slots=True)
class Setup:
    """The options that go for all commands."""

    config: Path | None = None
    """The settings' file; None: it is looked for."""
    models: tuple[str, ...] = ()
    reflect: tuple[str, ...] = ()
    trace: bool = False
    given: FederationSettings | None = None
    """Settings in the place of a file's, where a framework's own command has called."""
    settings: FederationSettings | None = field(default=None, init=False)
    """What was read from the file, for messages that must not show its passwords."""
    _file: Path | None = field(default=None, init=False)

    @property
    def file(self) -> Path:
        """The settings' file, which is looked for once. Raises ``ConfigurationError``."""
        if self._file is None:
            file = self.config or find_settings_file()
            if not file.exists():
                where = "" if file.is_absolute() else f" in {Path.cwd()}"
                raise ConfigurationError(
                    f"there is no file {file}{where}: write one with a table [services.<name>] for each service, or "
                    f"name another by --config or {FILE_VARIABLE}; without them the nearest {FILE} is used, from the "
                    f"working directory upward"
                )
            self._file = file
        return self._file

    @property
    def source(self) -> str:
        """Where the settings are from, for messages."""
        return "the application" if self.given is not None else str(self.file)

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules with models: those of --models, else those of the settings."""
        if self.models or self.given is not None or self.settings is None:
            return self.models  # A framework has imported its own.
        return self.settings.models

    def read(self) -> FederationSettings:
        """Read the settings and import the models.

        Raises ``ConfigurationError`` and ``UsageError``.
        """
        self.settings = self.given or settings_from_file(self.file)
        self._look_around()
        for name in self.modules:
            _import(name, f"--models {name}" if self.models else f"{self.source}: models: {name}")
        return self.settings

    def _look_around(self) -> None:
        """Let modules be imported from the settings' folder, and from where the command is called.

        An installed script looks in neither. Where the file was found, its folder alone is right: in a package's own
        folder, further down, modules may have the names of others, as of Python's own.
        """
        beside = None
        with suppress(ConfigurationError):
            if self.given is None:
                beside = str(self.file.parent.resolve())
        first = beside if beside is not None and self.config is None else os.getcwd()
        if first not in sys.path:
            sys.path.insert(0, first)
        if beside is not None and beside not in sys.path:
            sys.path.append(beside)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Federation]:
        """Open the federation for reading alone, and read the tables that no model declares."""
        federation = Federation(self.read())
        for name in self.reflect:
            if name not in federation.stores:
                raise UsageError(f"--reflect {name}: {self.source} has no such service")
        for store in federation.stores.values():
            if isinstance(store, SQLStore) and Capability.WHOLE_QUERIES in store.capabilities:
                # It gets whole statements, in which any function may be called, also one that writes.
                store.engine.update_execution_options(postgresql_readonly=True)
        async with federation:
            reflected = self.reflect or (() if self.modules or self.given else federation.stores)
            await asyncio.gather(*map(federation.reflect, reflected))
            yield federation

    @asynccontextmanager
    async def opened(self, app: str | None = None) -> AsyncIterator[Federation]:
        """Open the federation of the settings, or the one that ``app`` names, as ``module:name``."""
        async with self.federation(app) as federation:
            yield federation

    def federation(self, app: str | None = None) -> Federation:
        """Return the same without opening it."""
        if app is None:
            return Federation(self.read())
        self._look_around()
        federation = _named(app)
        self.settings = federation.settings
        return federation

    def scrub(self, text: str) -> str:
        """Return text without any service's password, nor the cache's."""
        if self.settings is None:
            return text
        cache = self.settings.cache.url
        for one in (*self.settings.services.values(), *([ServiceSettings(url=cache)] if cache else [])):
            text = one.scrub(text)
        return text


def _named(app: str) -> Federation:
    module, _, name = app.partition(":")
    try:
        found = importlib.import_module(module)
        for part in (name or "fed").split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--app {app}: {error}") from error
    if not isinstance(found, Federation):
        raise UsageError(f"--app {app}: it is a {type(found).__name__}, not a Federation")
    return found


def _import(name: str, named_by: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"{named_by}: it imports {error.name}, which is not installed") from error
        as_imported = name.removesuffix(".py").replace("/", ".")
        hint = f": write it as in  import {as_imported}" if as_imported != name else ""
        hint = ": give the option once for each module" if "," in name else hint
        raise UsageError(
            f"{named_by}: there is no such module beside the settings or here, nor installed{hint}"
        ) from error
    except Exception as error:
        raise UsageError(f"{named_by}: cannot be imported: {type(error).__name__}: {error}") from error
