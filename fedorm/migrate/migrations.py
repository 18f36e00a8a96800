"""``fed.migrate``: the histories of a federation's services, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from fedorm.exc import ConfigurationError, FedormError, MissingDriverError, UnknownServiceError
from fedorm.migrate.base import Drift, History, Report, Revision
from fedorm.migrate.errors import MigrationError, MigrationFailedError, NoHistoryError
from fedorm.stores.base import DocumentStore, Store
from fedorm.stores.sql import SQLStore

if TYPE_CHECKING:
    from fedorm.federation import Federation

T = TypeVar("T")
_WAIT = 300.0


class Migrations:
    """The histories of the services, in ``directory/<service>``.

    What is done for several services is done in ``order``, then in the order that the federation names them in; all
    that could stand against it is looked for in all of them before the first one is touched.
    """

    def __init__(self, federation: Federation, directory: Path, order: Iterable[str] = ()) -> None:
        self._federation = federation
        self.directory = directory
        self.order = tuple(order)
        unknown = [name for name in self.order if name not in federation.stores]
        if unknown:
            raise ConfigurationError(f"[migrations] order names {unknown[0]!r}, which is no service of the federation")

    # -- which

    def history(self, service: str) -> History:
        """Return a service's history. Raises ``UnknownServiceError``."""
        store = self._federation.stores.get(service)
        if store is None:
            raise UnknownServiceError(service, known=self._federation.stores)
        return _history(store, self.directory / service)

    def services(self, chosen: Iterable[str] | str | None = None) -> list[str]:
        """Return services in their order: those chosen, else all that have a history."""
        names = [*self.order, *(name for name in self._federation.stores if name not in self.order)]
        if chosen is None:
            return [name for name in names if self.history(name).exists]
        wanted = [chosen] if isinstance(chosen, str) else list(chosen)
        for name in wanted:
            if name not in self._federation.stores:
                raise UnknownServiceError(name, known=self._federation.stores)
        return [name for name in names if name in wanted]

    def _chosen(self, services: Iterable[str] | str | None) -> list[History]:
        histories = [self.history(name) for name in self.services(services)]
        if not histories:
            raise NoHistoryError(
                f"no service has a history in {self.directory}: begin them with  fedorm migrate init,  or name the "
                f"folder in fedorm.toml:  [migrations]  directory = ..."
            )
        return histories

    # -- writing histories

    def init(self, services: Iterable[str] | str | None = None) -> list[Path]:
        """Begin the histories of these services, or of all; return the files that were written."""
        names = self.services(services) if services is not None else list(self._federation.stores)
        return [path for name in names for path in self.history(name).init()]

    async def revision(self, service: str, message: str, *, autogenerate: bool = False) -> Path | None:
        """Write a new revision for a service; None where nothing has changed."""
        history = self.history(service)
        async with history.locked(wait=_WAIT):
            return await history.revision(message, autogenerate=autogenerate)

    # -- carrying them out

    async def upgrade(
        self,
        services: Iterable[str] | str | None = None,
        to: str = "heads",
        *,
        report: Report | None = None,
        wait: float = _WAIT,
    ) -> dict[str, list[str]]:
        """Go forward, and return what was carried out in each service.

        Another process that migrates at the same time is waited for, ``wait`` seconds at most. Raises
        ``MigrationFailedError``, which says where each service stands.
        """
        return await self._moved(services, lambda history: history.upgrade(to, report=report), to, wait)

    async def downgrade(
        self,
        services: Iterable[str] | str | None,
        to: str,
        *,
        report: Report | None = None,
        wait: float = _WAIT,
    ) -> dict[str, list[str]]:
        """Go back, the last service first, and return what was undone in each."""
        return await self._moved(
            services, lambda history: history.downgrade(to, report=report), to, wait, backwards=True
        )

    async def _moved(
        self,
        services: Iterable[str] | str | None,
        move: Callable[[History], object],
        to: str,
        wait: float,
        *,
        backwards: bool = False,
    ) -> dict[str, list[str]]:
        histories = self._chosen(services)
        if backwards:
            histories.reverse()
        done: dict[str, list[str]] = {}
        async with AsyncExitStack() as stack:
            for history in sorted(
                histories, key=lambda one: one.service
            ):  # As everybody takes them: none waits for ever.
                await stack.enter_async_context(history.locked(wait=wait))
            for history in histories:
                await self._check_before(history, to)
            for at, history in enumerate(histories):
                try:
                    done[history.service] = await move(history)  # type: ignore[misc]
                except Exception as error:
                    left = [one.service for one in histories[at + 1 :]]
                    raise MigrationFailedError(history.service, error, await self._standing(histories), left) from error
        return done

    @staticmethod
    async def _check_before(history: History, to: str) -> None:
        known = {one.id for one in history.revisions()}
        unknown = [one for one in await history.current() if one not in known]
        if unknown:
            raise MigrationError(
                f"service {history.service!r} is at revision {unknown[0]}, which {history.directory} does not have: "
                f"get the revisions that it was migrated with, or say where it stands with  fedorm migrate stamp"
            )
        heads = history.heads()
        if len(heads) > 1 and to == "head":
            raise MigrationError(
                f"service {history.service!r} has several heads, {', '.join(heads)}: merge them, or name one"
            )

    async def _standing(self, histories: Iterable[History]) -> dict[str, str]:
        standing = {}
        for history in histories:
            try:
                standing[history.service] = ", ".join(await history.current()) or "base"
            except FedormError as error:
                standing[history.service] = f"an unknown revision ({error})"
        return standing

    async def stamp(self, services: Iterable[str] | str | None, to: str) -> None:
        """Say where these services stand, and change nothing else."""
        for history in self._chosen(services):
            async with history.locked(wait=_WAIT):
                await history.stamp(to)

    # -- asking

    async def current(self, services: Iterable[str] | str | None = None) -> dict[str, list[str]]:
        """Return the revisions that the databases are at."""
        return {history.service: await history.current() for history in self._chosen(services)}

    def revisions(self, services: Iterable[str] | str | None = None) -> dict[str, list[Revision]]:
        """Return all revisions of each service, the newest first."""
        return {history.service: history.revisions() for history in self._chosen(services)}

    def heads(self, services: Iterable[str] | str | None = None) -> dict[str, list[str]]:
        """Return the newest revisions of each service."""
        return {history.service: history.heads() for history in self._chosen(services)}

    async def sql(self, service: str, to: str = "heads", *, start: str | None = None) -> str:
        """Return what an upgrade of a service would send."""
        return await self.history(service).sql(to, start=start)

    async def check(self, services: Iterable[str] | str | None = None) -> list[Drift]:
        """Return what models and databases differ in, and relationships between services whose keys do not fit."""
        from fedorm.migrate.relations import relation_drifts

        found: list[Drift] = []
        chosen = self.services(services) if services is not None else list(self._federation.stores)
        for name in chosen:
            found += await self.history(name).check()
        return found + await relation_drifts(self._federation, chosen)


def _history(store: Store, directory: Path) -> History:
    if isinstance(store, SQLStore):
        try:
            from fedorm.migrate.alembic_history import AlembicHistory
        except ModuleNotFoundError as error:
            raise MissingDriverError(service=store.service, package="alembic", extra="alembic") from error
        return AlembicHistory(store, directory)
    assert isinstance(store, DocumentStore)
    from fedorm.migrate.beanie_history import BeanieHistory

    return BeanieHistory(store, directory)


class WithMigrations:
    """The part of a ``Federation`` that migrates its services."""

    migrations_directory: Path
    migrations_order: tuple[str, ...]

    @cached_property
    def migrate(self) -> Migrations:
        """The histories of the services: writing them, carrying them out, and comparing databases with models."""
        return Migrations(cast("Federation", self), self.migrations_directory, self.migrations_order)
