"""The history of a service of tables: Alembic's, over the store's own engine."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine

from fedorm.migrate.adopted import ADOPTED, adopt, prepared
from fedorm.migrate.base import Drift, History, Report, Revision
from fedorm.migrate.differences import described
from fedorm.migrate.directives import tidied_or_none, tidied_plainly
from fedorm.migrate.enum_operations import compared_enums
from fedorm.migrate.environment import CONNECTION, OPTIONS, STORE, options_for
from fedorm.migrate.errors import MigrationError, NoHistoryError
from fedorm.migrate.templates import ENV, INI, SCRIPT
from fedorm.migrate.working import alone
from fedorm.stores.sql import SQLStore

T = TypeVar("T")


class AlembicHistory(History):
    """Revisions in ``<directory>/versions``, carried out as ``alembic`` itself would, and by it just as well.

    A folder that was adopted is another one, with an ``env.py`` of its own, which is run in a thread.
    """

    def __init__(self, store: SQLStore, directory: Path, *, sync: bool = False) -> None:
        self.service, self.directory = store.service, directory
        self._store, self._sync = store, sync

    # -- the folder

    @property
    def exists(self) -> bool:
        """Whether there are settings of Alembic's."""
        return (self.directory / "alembic.ini").is_file()

    @property
    def is_adopted(self) -> bool:
        """Whether the ``env.py`` is not fedorm's, and names what it compares itself."""
        return self.exists and self._config().get_main_option(ADOPTED) is not None

    def init(self) -> list[Path]:
        """Write the settings, the ``env.py``, the template of revisions, and a folder for them."""
        if self.exists:
            return []
        here = Path.cwd()  # The file is other machines', too.
        place = self.directory.relative_to(here) if self.directory.is_relative_to(here) else self.directory
        files = {
            "alembic.ini": INI.format(service=self.service, directory=place.as_posix()),
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

    def adopt(self, folder: Path) -> list[Path]:
        """Write an ``alembic.ini`` that leads there."""
        return adopt(self.service, self.directory, folder)

    def _config(self, **attributes: Any) -> Config:
        if not self.exists:
            raise NoHistoryError(
                f"service {self.service!r} has no history in {self.directory}: begin one with  "
                f"fedorm migrate init --service {self.service}"
            )
        config = Config(str(self.directory / "alembic.ini"), stdout=io.StringIO())
        vars(config)["messaging_opts"] = {"quiet": True}  # It writes to stdout.
        config.attributes.update({STORE: self._store, **attributes})
        return config

    @property
    def _script(self) -> ScriptDirectory:
        return ScriptDirectory.from_config(self._config())

    def revisions(self) -> list[Revision]:
        """Walk through Alembic's scripts."""
        with self._named():
            script = self._script
            heads = set(script.get_heads())
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

    def heads(self) -> list[str]:
        """Ask Alembic's scripts."""
        with self._named():
            return list(self._script.get_heads())

    def find(self, name: str) -> None:
        """Let Alembic's scripts look for it; what is counted from where the database is cannot be known here."""
        if name[:1] not in "+-":
            with self._named():
                self._script.get_revisions(name)

    # -- the database

    async def current(self) -> list[str]:
        """Read the version table."""
        found: list[str] = []

        def ask(connection: Connection) -> None:
            if self.exists:
                self._run_env(connection, lambda heads, context: found.extend(heads))
            else:
                context = MigrationContext.configure(connection, opts=options_for(self._store))
                found.extend(context.get_current_heads())

        await self._connected(ask)
        return found

    async def revision(self, message: str, *, autogenerate: bool = False) -> Path | None:
        """Let Alembic compare and write."""
        before = {one.id for one in self.revisions()}

        def write(connection: Connection | None) -> None:
            config = self._config_over(connection)
            if autogenerate:
                config.attributes[OPTIONS] = {"process_revision_directives": tidied_or_none}
            # The options are for fedorm's own env.py; what another one carries out has to be Alembic's own.
            plain: Any = tidied_plainly if autogenerate and self.is_adopted else None
            command.revision(config, message, autogenerate, process_revision_directives=plain)

        if autogenerate:
            for behind in await self._behind():
                raise MigrationError(f"service {self.service!r}: {behind.what}")
            await self._connected(write)
        else:
            await self._alone(lambda engine: write(None))
        return next((one.path for one in self.revisions() if one.id not in before), None)

    async def upgrade(self, to: str = "heads", *, report: Report | None = None) -> list[str]:
        """Run the revisions, each in a transaction of its own where the database makes tables in transactions."""
        return await self._moved(command.upgrade, to, report)

    async def downgrade(self, to: str, *, report: Report | None = None) -> list[str]:
        """Run the revisions backwards. When none is left, so is not Alembic's own table, but in adopted folders."""
        done = await self._moved(command.downgrade, to, report)
        if done and not self.is_adopted and not await self.current():
            await self._connected(self._drop_versions)
        return done

    def _drop_versions(self, connection: Connection) -> None:
        def drop(context: MigrationContext) -> None:
            context._version.drop(connection, checkfirst=True)

        self._run_env(connection, lambda heads, context: drop(context))

    async def _moved(self, move: Callable[..., None], to: str, report: Report | None) -> list[str]:
        done: list[str] = []

        def applied(*, step: Any, **more: Any) -> None:
            done.append(str(step.up_revision_id))
            if report is not None:
                report(self.service, f"{'did' if step.is_upgrade else 'undid'} {step.up_revision_id}")

        options = {"on_version_apply": applied, "transaction_per_migration": True}

        def run(connection: Connection) -> None:
            move(self._config_over(connection, **{OPTIONS: options}), to)

        before = await self.current() if self.is_adopted else []
        await self._connected(run)
        if not done and self.is_adopted:
            done, was = await self._between(before), _ancestors(self.revisions(), before)
            if report is not None:
                for one in done:
                    report(self.service, f"{'undid' if one in was else 'did'} {one}")
        return done

    async def _between(self, before: list[str]) -> list[str]:
        """Return what an ``env.py`` that says nothing has carried out or undone."""
        revisions = self.revisions()
        above, below = (_ancestors(revisions, ids) for ids in (await self.current(), before))
        order = [one.id for one in revisions]
        done = [one for one in reversed(order) if one in above - below]
        return done or [one for one in order if one in below - above]

    async def stamp(self, to: str) -> None:
        """Write the version table alone."""
        known = {one.id for one in self.revisions()}
        unknown = [one for one in await self.current() if one not in known]

        def forget(context: MigrationContext) -> None:
            versions = context._version
            for one in unknown:
                context.impl._exec(versions.delete().where(versions.c.version_num == one))

        def write(connection: Connection) -> None:
            if unknown:  # Alembic would not know how to come from there.
                self._run_env(connection, lambda heads, context: forget(context))
                connection.commit()
            command.stamp(self._config_over(connection), to)

        await self._connected(write)

    async def sql(self, to: str = "heads", *, start: str | None = None) -> str:
        """Run Alembic offline."""
        script = io.StringIO()

        def run(engine: Engine) -> None:
            config = self._config()
            if self.is_adopted:
                prepared(config, engine, self._store)
            config.output_buffer = script
            command.upgrade(config, f"{start}:{to}" if start is not None else to, sql=True)

        await self._alone(run)
        return script.getvalue()

    async def check(self) -> list[Drift]:
        """Let Alembic compare the models' tables, and fedorm's own, with the database's."""
        found: list[Drift] = []

        def compare(context: MigrationContext) -> None:
            wanted = context.opts["target_metadata"]
            differences = described(compare_metadata(context, wanted))
            if context.connection is not None:
                every = wanted if isinstance(wanted, list | tuple) else [wanted]
                differences = sorted([*differences, *compared_enums(context.connection, every)])
            found.extend(Drift(self.service, table, what) for table, what in differences)

        def ask(connection: Connection) -> None:
            if self.exists:
                self._run_env(connection, lambda heads, context: compare(context))
            else:
                compare(MigrationContext.configure(connection, opts=options_for(self._store)))

        found += await self._behind() if self.exists else []
        await self._connected(ask)
        return found

    async def _behind(self) -> list[Drift]:
        there, heads = sorted(await self.current()), sorted(self.heads())
        return [] if there == heads else [self.behind(there, heads)]

    # -- running

    def _run_env(self, connection: Connection, ask: Callable[[Any, MigrationContext], object]) -> None:
        """Let the ``env.py`` configure, and ask instead of migrating."""

        def asked(heads: Any, context: MigrationContext) -> list[Any]:
            ask(heads, context)
            return []

        config = self._config_over(connection)
        script = ScriptDirectory.from_config(config)
        with EnvironmentContext(config, script, fn=asked, as_sql=False, dont_mutate=True):
            script.run_env()

    async def _connected(self, work: Callable[[Connection], T]) -> T:
        def run(engine: Engine) -> T:
            with engine.connect() as connection:
                result = work(connection)
                connection.commit()
                return result

        return await self._alone(run)

    async def _alone(self, work: Callable[[Engine], T]) -> T:
        def run(engine: Engine) -> T:
            with self._named():
                return work(engine)

        return await alone(self._store, run, sync=self._sync or self.is_adopted)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except CommandError as error:
            raise MigrationError(f"service {self.service!r}: {error}") from error

    def _config_over(self, connection: Connection | None, **attributes: Any) -> Config:
        """Return what an ``env.py`` is given; the connection under the name, too, by which other programs give it."""
        config = self._config(**{CONNECTION: connection, "connection": connection, **attributes})
        if connection is not None and config.get_main_option(ADOPTED) is not None:
            prepared(config, connection.engine, self._store)
        return config


def _ancestors(revisions: Iterable[Revision], ids: Iterable[str]) -> set[str]:
    """Return these revisions and all that they follow."""
    found = set(ids)
    for one in revisions:  # The newest first.
        if one.id in found:
            found.update(one.down)
    return found
