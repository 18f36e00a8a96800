"""The history of a service of tables: Alembic's, over the store's own engine."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.util import greenlet_spawn

from fedorm.migrate.base import Drift, History, Report, Revision
from fedorm.migrate.differences import described
from fedorm.migrate.environment import CONNECTION, OPTIONS, STORE, metadata_of
from fedorm.migrate.errors import MigrationError, NoHistoryError
from fedorm.migrate.locks import locked
from fedorm.migrate.templates import ENV, INI, SCRIPT
from fedorm.stores.sql import SQLStore

T = TypeVar("T")
_ALEMBIC = asyncio.Lock()
"""Alembic's ``context`` and ``op`` are the process's: one history at a time."""


class AlembicHistory(History):
    """Revisions in ``<directory>/versions``, carried out as ``alembic`` itself would, and by it just as well."""

    def __init__(self, store: SQLStore, directory: Path) -> None:
        self.service, self.directory = store.service, directory
        self._store = store

    # -- the folder

    @property
    def exists(self) -> bool:
        """Whether there are settings of Alembic's."""
        return (self.directory / "alembic.ini").is_file()

    def init(self) -> list[Path]:
        """Write the settings, the ``env.py``, the template of revisions, and a folder for them."""
        files = {
            "alembic.ini": INI.format(service=self.service, directory=self.directory),
            "env.py": ENV.format(service=self.service),
            "script.py.mako": SCRIPT,
        }
        made = []
        (self.directory / "versions").mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            path = self.directory / name
            if not path.exists():
                path.write_text(text, encoding="utf-8")
                made.append(path)
        return made

    def _config(self, **attributes: Any) -> Config:
        if not self.exists:
            raise NoHistoryError(
                f"service {self.service!r} has no history in {self.directory}: begin one with  "
                f"fedorm migrate init --service {self.service}"
            )
        config = Config(str(self.directory / "alembic.ini"), stdout=io.StringIO())
        config.attributes.update({STORE: self._store, **attributes})
        return config

    @property
    def _script(self) -> ScriptDirectory:
        return self._named(lambda: ScriptDirectory.from_config(self._config()))

    def revisions(self) -> list[Revision]:
        """Walk through Alembic's scripts."""
        script = self._script
        heads = set(script.get_heads())

        def walk() -> list[Revision]:
            return [
                Revision(
                    one.revision,
                    tuple(one._versioned_down_revisions),
                    one.doc or "",
                    Path(one.path),
                    one.revision in heads,
                )
                for one in script.walk_revisions()
            ]

        return self._named(walk)

    def heads(self) -> list[str]:
        """Ask Alembic's scripts."""
        return self._named(self._script.get_heads)

    # -- the database

    async def current(self) -> list[str]:
        """Read the version table."""

        def ask(connection: Connection) -> list[str]:
            return list(self._context(connection).get_current_heads())

        return await self._connected(ask)

    async def revision(self, message: str, *, autogenerate: bool = False) -> Path | None:
        """Let Alembic compare and write."""
        before = {one.id for one in self.revisions()}

        def empty(context: Any, revision: Any, directives: list[Any]) -> None:
            if autogenerate and directives[0].upgrade_ops.is_empty():
                directives[:] = []

        def write(connection: Connection) -> None:
            config = self._config(**{CONNECTION: connection, OPTIONS: {"process_revision_directives": empty}})
            command.revision(config, message=message, autogenerate=autogenerate)

        await self._connected(write)
        return next((one.path for one in self.revisions() if one.id not in before), None)

    async def upgrade(self, to: str = "heads", *, report: Report | None = None) -> list[str]:
        """Run the revisions, each in a transaction of its own where the database makes tables in transactions."""
        return await self._moved(command.upgrade, to, report)

    async def downgrade(self, to: str, *, report: Report | None = None) -> list[str]:
        """Run the revisions backwards."""
        return await self._moved(command.downgrade, to, report)

    async def _moved(self, move: Callable[..., None], to: str, report: Report | None) -> list[str]:
        done: list[str] = []

        def applied(*, step: Any, **more: Any) -> None:
            ids = step.up_revision_ids if step.is_upgrade else step.down_revision_ids
            moved = step.up_revision_id if step.is_upgrade else (step.source_revision_ids or ids)[0]
            done.append(str(moved))
            if report is not None:
                report(self.service, f"{'did' if step.is_upgrade else 'undid'} {moved}")

        options = {"on_version_apply": applied, "transaction_per_migration": True}

        def run(connection: Connection) -> None:
            move(self._config(**{CONNECTION: connection, OPTIONS: options}), to)

        await self._connected(run)
        return done

    async def stamp(self, to: str) -> None:
        """Write the version table alone."""
        await self._connected(lambda connection: command.stamp(self._config(**{CONNECTION: connection}), to))

    async def sql(self, to: str = "heads", *, start: str | None = None) -> str:
        """Run Alembic offline."""
        script = io.StringIO()

        def run() -> None:
            config = self._config()
            config.output_buffer = script
            command.upgrade(config, f"{start}:{to}" if start is not None else to, sql=True)

        async with _ALEMBIC:
            await greenlet_spawn(self._named, run)
        return script.getvalue()

    async def check(self) -> list[Drift]:
        """Let Alembic compare the models' tables, and fedorm's own, with the database's."""

        def compare(connection: Connection) -> list[Drift]:
            context = self._context(connection, compare_type=True, target_metadata=metadata_of(self.service))
            differences = compare_metadata(context, metadata_of(self.service))  # type: ignore[arg-type]
            return [Drift(self.service, table, what) for table, what in described(differences)]

        return await self._connected(compare)

    def locked(self, *, wait: float) -> AbstractAsyncContextManager[None]:
        """Use what the database has for that."""
        return locked(self._store, wait=wait)

    # --

    def _context(self, connection: Connection, **options: Any) -> MigrationContext:
        table = self._config().get_main_option("version_table") if self.exists else None
        if table:
            options["version_table"] = table
        return MigrationContext.configure(connection, opts=options)

    async def _connected(self, work: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self._store.engine.connect() as connection:
                result = work(connection)
                connection.commit()
                return result

        async with _ALEMBIC:
            return await greenlet_spawn(self._named, run)

    def _named(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except CommandError as error:
            raise MigrationError(f"service {self.service!r}: {error}") from error
