"""The history of a service of documents: Beanie's migrations, carried out over the store's own client."""

from __future__ import annotations

import datetime
import os
import re
import tomllib
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from fedorm.exc import ConfigurationError
from fedorm.migrate.base import Drift, History, Report, Revision
from fedorm.migrate.collections import DATABASE, SchemaMigration, body, changes, compared
from fedorm.migrate.errors import MigrationError, NoHistoryError
from fedorm.migrate.templates import DOCUMENTS, DOCUMENTS_SETTINGS
from fedorm.stores.base import Capability
from fedorm.stores.mongodb import MongoDBStore
from fedorm.stores.mongodb_schema import HISTORY, Collection, declared, own_collections, present

_SETTINGS = "beanie.toml"


class BeanieHistory(History):
    """Files with classes ``Forward`` and ``Backward``, in the order of their names, as ``beanie migrate`` has them.

    Which one a database is at is in the collection that Beanie keeps it in. Where the server has transactions, each is
    carried out in one of its own, but for what changes collections.
    """

    def __init__(self, store: Any, directory: Path, *, sync: bool = False) -> None:
        self.service, self.directory = store.service, directory
        self._store: MongoDBStore = store
        self._sync = sync

    # -- the folder

    @property
    def exists(self) -> bool:
        """Whether there are settings."""
        return (self.directory / _SETTINGS).is_file()

    def init(self) -> list[Path]:
        """Write the settings, and make a folder for revisions."""
        return [] if self.exists else self._write_settings("versions")

    def adopt(self, folder: Path) -> list[Path]:
        """Write settings that lead there."""
        if self.exists:
            raise ConfigurationError(
                f"service {self.service!r} has a history already: remove {self.directory / _SETTINGS} to adopt another"
            )
        if not folder.is_dir():
            raise ConfigurationError(f"{folder} is no folder: name the one that  beanie migrate --path  is given")
        return self._write_settings(Path(os.path.relpath(folder.absolute(), self.directory.absolute())).as_posix())

    def _write_settings(self, path: str) -> list[Path]:
        file = self.directory / _SETTINGS
        (self.directory / path).mkdir(parents=True, exist_ok=True)
        self.directory.mkdir(parents=True, exist_ok=True)
        file.write_text(DOCUMENTS_SETTINGS.format(service=self.service, path=path), encoding="utf-8")
        return [file]

    @property
    def _folder(self) -> Path:
        if not self.exists:
            raise NoHistoryError(
                f"service {self.service!r} has no history in {self.directory}: begin one with  "
                f"fedorm migrate init --service {self.service}"
            )
        try:
            path = tomllib.loads((self.directory / _SETTINGS).read_text(encoding="utf-8"))["path"]
        except (tomllib.TOMLDecodeError, KeyError) as error:
            raise ConfigurationError(f"{self.directory / _SETTINGS}: write  path = ...  into it: {error}") from error
        return self.directory / str(path)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("[!_]*.py"), key=lambda path: path.name)

    def revisions(self) -> list[Revision]:
        """List the files, the last one first."""
        files = self._files()
        found = [
            Revision(path.stem, (before.stem,) if before else (), _message(path), path, path is files[-1])
            for before, path in zip([None, *files], files, strict=False)
        ]
        return found[::-1]

    def heads(self) -> list[str]:
        """Name the last file."""
        return [path.stem for path in self._files()[-1:]]

    def find(self, name: str) -> None:
        """Look for a file whose name begins like that."""
        if name[:1] not in "+-":
            self._place(name, [path.stem for path in self._files()], -1)

    def _place(self, name: str, ids: list[str], current: int) -> int:
        """Return which of ``ids`` is meant; -1 for before the first."""
        if name in ("head", "heads"):
            return len(ids) - 1
        if name == "base":
            return -1
        if re.fullmatch(r"[+-]\d+", name):
            place = current + int(name)
            if not -1 <= place < len(ids):
                raise MigrationError(f"service {self.service!r}: {name} leads out of its history")
            return place
        found = [at for at, one in enumerate(ids) if one == name] or [
            at for at, one in enumerate(ids) if one.startswith(name)
        ]
        if len(found) != 1:
            problem = "several revisions begin with" if found else "there is no revision"
            raise MigrationError(f"service {self.service!r}: {problem} {name!r}; see  fedorm migrate history")
        return found[0]

    # -- the database

    async def current(self) -> list[str]:
        """Read Beanie's log."""
        async with self._store.named():
            found = await self._log.find_one({"is_current": True})
        return [str(found["name"]).removesuffix(".py")] if found is not None else []

    @property
    def _log(self) -> Any:
        return self._store.own_collection(HISTORY, sync=self._sync)

    async def revision(self, message: str, *, autogenerate: bool = False) -> Path | None:
        """Write a file; with what brings the database's collections to those of the models."""
        forward: list[str] = []
        backward: list[str] = []
        if autogenerate:
            if await self.current() != self.heads():
                raise MigrationError(
                    f"service {self.service!r} is not at its newest revision, which it is to be compared at: "
                    f"run  fedorm migrate upgrade --service {self.service}"
                )
            wanted, there = await self._both()
            forward, backward = changes(there, wanted), changes(wanted, there)
            if not forward:
                return None
        slug = re.sub(r"\W+", "_", message).strip("_").lower()[:40]
        path = self._folder / f"{self._next_moment():%Y%m%d%H%M%S}_{slug}.py"
        text = DOCUMENTS.format(message=message.replace('"""', "'''"), forward=body(forward), backward=body(backward))
        path.write_text(text, encoding="utf-8")
        return path

    def _next_moment(self) -> datetime.datetime:
        """Return now, or a second after the last file, whose name has to come before the new one's."""
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None, microsecond=0)
        for last in self.heads():
            if found := re.match(r"\d{14}", last):
                now = max(now, datetime.datetime.strptime(found[0], "%Y%m%d%H%M%S") + datetime.timedelta(seconds=1))
        return now

    async def upgrade(self, to: str = "heads", *, report: Report | None = None) -> list[str]:
        """Run the ``Forward`` classes."""
        files, current = self._files(), await self._at()
        target = self._place(to, [path.stem for path in files], current)
        steps = files[current + 1 : target + 1]
        for path in steps:
            await self._run(path, "Forward", path.name)
            if report is not None:
                report(self.service, f"did {path.stem}")
        return [path.stem for path in steps]

    async def downgrade(self, to: str, *, report: Report | None = None) -> list[str]:
        """Run the ``Backward`` classes."""
        files, current = self._files(), await self._at()
        target = self._place(to, [path.stem for path in files], current)
        steps = range(current, target, -1)
        for at in steps:
            await self._run(files[at], "Backward", files[at - 1].name if at else None)
            if report is not None:
                report(self.service, f"undid {files[at].stem}")
        return [files[at].stem for at in steps]

    async def _at(self) -> int:
        ids = [path.stem for path in self._files()]
        return next((self._place(one, ids, -1) for one in await self.current()), -1)

    async def _run(self, path: Path, side: str, after: str | None) -> None:
        migrations = _migrations(path, side)
        schema = [one for one in migrations if isinstance(one, SchemaMigration)]
        documents = [one for one in migrations if not isinstance(one, SchemaMigration)]
        database = self._store.own_database(sync=self._sync)
        token = DATABASE.set(database)
        try:
            async with self._store.named():
                if HISTORY not in await database.list_collection_names():
                    await database.create_collection(HISTORY)  # Not every server makes it in a transaction.
                for one in schema if side == "Forward" else ():
                    await one.run(session=None)
                await self._bind(documents, database)
                # The schema of a way back is still to be undone when the documents are.
                later = schema if side == "Backward" else []
                await self._change(documents, None if later else (after,))
                for one in later:
                    await one.run(session=None)
                if later:
                    await self._change([], (after,))
        finally:
            DATABASE.reset(token)

    @staticmethod
    async def _bind(migrations: list[Any], database: Any) -> None:
        from beanie import init_beanie

        models = list(dict.fromkeys(model for one in migrations for model in one.models))
        if models:
            await init_beanie(database=database, document_models=models, skip_indexes=True)

    async def _change(self, migrations: list[Any], after: tuple[str | None] | None) -> None:
        """Change documents, and write down what the database is at then, in one transaction if there are any."""
        transaction = await self._store.begin(sync=self._sync)
        try:
            for one in migrations:
                await one.run(session=transaction)
            if after is not None:
                await self._write_log(after[0], transaction)
        except BaseException:
            if transaction is not None:
                await self._store.abort(transaction)
            raise
        if transaction is not None:
            await self._store.commit(transaction)

    async def _write_log(self, name: str | None, transaction: Any = None) -> None:
        await self._log.update_many({"is_current": True}, {"$set": {"is_current": False}}, session=transaction)
        if name is not None:
            now = datetime.datetime.now(datetime.UTC)
            await self._log.insert_one({"ts": now, "name": name, "is_current": True}, session=transaction)

    async def stamp(self, to: str) -> None:
        """Write Beanie's log alone."""
        files = self._files()
        at = self._place(to, [path.stem for path in files], await self._at_if_known())
        async with self._store.named():
            await self._write_log(files[at].name if at >= 0 else None)

    async def _at_if_known(self) -> int:
        try:
            return await self._at()
        except MigrationError:
            return -1

    async def sql(self, to: str = "heads", *, start: str | None = None) -> str:
        """Refuse: what is sent to a database of documents is no SQL."""
        raise MigrationError(
            f"service {self.service!r} holds documents, whose migrations are no SQL: read them in {self._folder}"
        )

    async def check(self) -> list[Drift]:
        """Compare collections, indexes and validators."""
        found = []
        if self.exists:
            there, heads = await self.current(), self.heads()
            if there != heads:
                found.append(self.behind(there, heads))
        wanted, present = await self._both()
        return found + [Drift(self.service, name, what) for name, what in compared(wanted, present)]

    async def _both(self) -> tuple[dict[str, Collection], dict[str, Collection]]:
        wanted = declared(self._store.models())
        if Capability.TRANSACTIONS in self._store.capabilities:
            wanted |= own_collections()
        async with self._store.named():
            return wanted, await present(self._store.own_database(sync=self._sync))


def _message(path: Path) -> str:
    found = re.match(r'\s*"""(.+)', path.read_text(encoding="utf-8"))
    if found:
        return found[1].removesuffix('"""').strip()
    return path.stem.partition("_")[2].replace("_", " ")


def _migrations(path: Path, side: str) -> list[Any]:
    """Return what the class of that name in a file carries out, in Beanie's order: that of the methods' names."""
    from beanie.migrations.controllers.base import BaseMigrationController

    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[..., Any] | None = getattr(module, side, None)
    if found is None:
        return []
    members = (getattr(found, name) for name in dir(found))
    return [one for one in members if isinstance(one, BaseMigrationController)]
