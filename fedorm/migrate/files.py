"""A history that is a folder of Python files, carried out in the order of their names."""

from __future__ import annotations

import datetime
import os
import re
import tomllib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from textwrap import indent
from typing import Any, ClassVar

from fedorm.exc import ConfigurationError
from fedorm.migrate.base import Drift, History, Report, Revision
from fedorm.migrate.errors import MigrationError, NoHistoryError

_INDENT = " " * 8


class FileHistory(History):
    """Files with classes ``Forward`` and ``Backward``; which one a database is at, it keeps itself."""

    thing: ClassVar[str]
    """What its migrations make, in a word."""
    settings_file: ClassVar[str]
    settings_text: ClassVar[str]
    """What a new history's settings begin with; ``service`` and ``path`` are put in."""
    revision_text: ClassVar[str]
    """A new file; ``message``, ``forward`` and ``backward`` are put in."""
    adopts: ClassVar[str] = "the folder of its files"
    """What ``adopt`` is to be given."""

    def __init__(self, store: Any, directory: Path, *, sync: bool = False) -> None:
        self.service, self.directory = store.service, directory
        self._store = store
        self._sync = sync

    @abstractmethod
    def locked(self, *, wait: float) -> AbstractAsyncContextManager[None]:
        """Keep other processes from migrating the service. Raises ``BusyError`` after ``wait`` seconds."""

    # -- the folder

    @property
    def exists(self) -> bool:
        """Whether there are settings."""
        return (self.directory / self.settings_file).is_file()

    def init(self) -> list[Path]:
        """Write the settings, and make a folder for revisions."""
        return [] if self.exists else self._write_settings("versions")

    def adopt(self, folder: Path) -> list[Path]:
        """Write settings that lead there."""
        if self.exists:
            raise ConfigurationError(
                f"service {self.service!r} has a history already: remove {self.directory / self.settings_file} to "
                f"adopt another"
            )
        if not folder.is_dir():
            raise ConfigurationError(f"{folder} is no folder: name {self.adopts}")
        return self._write_settings(Path(os.path.relpath(folder.absolute(), self.directory.absolute())).as_posix())

    def _write_settings(self, path: str) -> list[Path]:
        file = self.directory / self.settings_file
        (self.directory / path).mkdir(parents=True, exist_ok=True)
        self.directory.mkdir(parents=True, exist_ok=True)
        file.write_text(self.settings_text.format(service=self.service, path=path), encoding="utf-8")
        return [file]

    @property
    def _folder(self) -> Path:
        if not self.exists:
            raise NoHistoryError(
                f"service {self.service!r} has no history in {self.directory}: begin one with  "
                f"fedorm migrate init --service {self.service}"
            )
        try:
            path = tomllib.loads((self.directory / self.settings_file).read_text(encoding="utf-8"))["path"]
        except (tomllib.TOMLDecodeError, KeyError) as error:
            raise ConfigurationError(
                f"{self.directory / self.settings_file}: write  path = ...  into it: {error}"
            ) from error
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

    @abstractmethod
    async def _run(self, path: Path, side: str, after: str | None) -> None:
        """Carry out one side of a file, after which the database is at the file of another name, or before all."""

    @abstractmethod
    async def _write_log(self, name: str | None) -> None:
        """Write down the name of the file that the database is at."""

    @abstractmethod
    async def _both(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return what the models declare, and what is there."""

    @abstractmethod
    def _changes(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
        """Return the lines that bring what is there from one state to the other."""

    @abstractmethod
    def _differences(self, wanted: Any, there: Any) -> Iterable[str]:
        """Return what is different, in words, at one thing that the models declare and that is there."""

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
            forward, backward = self._changes(there, wanted), self._changes(wanted, there)
            if not forward:
                return None
        slug = re.sub(r"\W+", "_", message).strip("_").lower()[:40]
        path = self._folder / f"{self._next_moment():%Y%m%d%H%M%S}_{slug}.py"
        text = self.revision_text.format(
            message=message.replace('"""', "'''"), forward=body(forward), backward=body(backward)
        )
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
        return found + [Drift(self.service, name, what) for name, what in self._compared(wanted, present)]

    def _compared(self, wanted: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for name in sorted({*wanted, *there}):
            if name not in there:
                yield name, f"the {self.thing} is not there"
            elif name not in wanted:
                yield name, f"no model declares the {self.thing}"
            else:
                for what in self._differences(wanted[name], there[name]):
                    yield name, what


def _message(path: Path) -> str:
    found = re.match(r'\s*"""(.+)', path.read_text(encoding="utf-8"))
    if found:
        return found[1].removesuffix('"""').strip()
    return path.stem.partition("_")[2].replace("_", " ")


def loaded(path: Path) -> Any:
    """Return a file as a module."""
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def body(lines: list[str]) -> str:
    """Return the lines as those of a method."""
    return "\n".join(indent(line, _INDENT) for line in lines or ["pass"])
