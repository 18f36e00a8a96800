"""What a command works with: the settings' file, the models, and the federation that they make."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fedorm.config import FederationSettings, ServiceSettings, settings_from_file
from fedorm.exc import ConfigurationError
from fedorm.federation import Federation
from fedorm.stores.base import Capability
from fedorm.stores.sql import SQLStore


class UsageError(Exception):
    """A command was not called as it has to be."""


@dataclass(slots=True)
class Setup:
    """The options that go for all commands."""

    config: Path
    models: tuple[str, ...] = ()
    reflect: tuple[str, ...] = ()
    trace: bool = False
    settings: FederationSettings | None = field(default=None, init=False)
    """What was read from the file, for messages that must not show its passwords."""

    def read(self) -> FederationSettings:
        """Read the settings and import the models.

        Raises ``ConfigurationError`` and ``UsageError``.
        """
        if not self.config.exists():
            raise ConfigurationError(
                f"there is no file {self.config}: write one with a table [services.<name>] for each service, "
                f"or name it with --config or FEDORM_CONFIG"
            )
        self.settings = settings_from_file(self.config)
        _look_here()
        for name in self.models:
            _import(name)
        return self.settings

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Federation]:
        """Open the federation for reading alone, and read the tables that no model declares."""
        federation = Federation(self.read())
        for name in self.reflect:
            if name not in federation.stores:
                raise UsageError(f"--reflect {name}: {self.config} has no such service")
        for store in federation.stores.values():
            if isinstance(store, SQLStore) and Capability.WHOLE_QUERIES in store.capabilities:
                # It gets whole statements, in which any function may be called, also one that writes.
                store.engine.update_execution_options(postgresql_readonly=True)
        async with federation:
            reflected = self.reflect or (() if self.models else federation.stores)
            await asyncio.gather(*map(federation.reflect, reflected))
            yield federation

    @asynccontextmanager
    async def opened(self, app: str | None = None) -> AsyncIterator[Federation]:
        """Open the federation of the settings, or the one that ``app`` names, as ``module:name``."""
        async with self.federation(app) as federation:
            yield federation

    def federation(self, app: str | None = None) -> Federation:
        """Return the same without opening it."""
        return Federation(self.read()) if app is None else _named(app)

    def scrub(self, text: str) -> str:
        """Return text without any service's password, nor the cache's."""
        if self.settings is None:
            return text
        cache = self.settings.cache.url
        for one in (*self.settings.services.values(), *([ServiceSettings(url=cache)] if cache else [])):
            text = one.scrub(text)
        return text


def _look_here() -> None:
    """Let modules be imported from where the command is called: an installed script does not look there."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)


def _named(app: str) -> Federation:
    module, _, name = app.partition(":")
    _look_here()
    try:
        found = importlib.import_module(module)
        for part in (name or "fed").split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--app {app}: {error}") from error
    if not isinstance(found, Federation):
        raise UsageError(f"--app {app}: it is a {type(found).__name__}, not a Federation")
    return found


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"--models {name}: it imports {error.name}, which is not installed") from error
        raise UsageError(f"--models {name}: there is no such module in {os.getcwd()}, nor installed") from error
    except Exception as error:
        raise UsageError(f"--models {name}: cannot be imported: {type(error).__name__}: {error}") from error
