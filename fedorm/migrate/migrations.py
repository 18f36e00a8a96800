"""``fed.migrate``: the histories of a federation's services, carried out one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fedorm.exc import ConfigurationError, FedormError, UnknownServiceError
from fedorm.migrate.base import Drift, History, Report, Revision
from fedorm.migrate.errors import MigrationError, MigrationFailedError, NoHistoryError
from fedorm.migrate.histories import history_of, locks_of
from fedorm.stores.base import Store

if TYPE_CHECKING:
    from fedorm.federation import Federation

T = TypeVar("T")
Services = Iterable[str] | str | None
WAIT = 300.0
"""For how many seconds another process that migrates is waited for."""
_ONE_HISTORY = (
    "a database has one history. Name the service whose history it is, by  --service,  until the other one's URL leads "
    "to a database of its own"
)
_OF_ALL = ("head", "heads", "base")


class Migrations:
    """The histories of the services, in ``directory/<service>``.

    What is done for several services is done in ``order``, then in the order that the federation names them in; all
    that could stand against it is looked for in all of them before the first one is touched. In a federation that is
    not open, the services that are needed are opened and closed.
    """

    def __init__(
        self, federation: Federation, directory: Path, order: Iterable[str] = (), *, sync: bool = False
    ) -> None:
        self._federation = federation
        self.directory = directory
        self.order = tuple(order)
        self._sync = sync
        unknown = [name for name in self.order if name not in federation.stores]
        if unknown:
            raise ConfigurationError(f"[migrations] order names {unknown[0]!r}, which is no service of the federation")

    # -- which

    def history(self, service: str) -> History:
        """Return a service's history. Raises ``UnknownServiceError``."""
        return history_of(self._store(service), self.directory / service, sync=self._sync)

    def _store(self, service: str) -> Store:
        store = self._federation.stores.get(service)
        if store is None:
            raise UnknownServiceError(service, known=self._federation.stores)
        return store

    def services(self, chosen: Services = None) -> list[str]:
        """Return services in their order: those chosen, else all that have a history."""
        names = [*self.order, *(name for name in self._federation.stores if name not in self.order)]
        if chosen is None:
            return [name for name in names if self._store(name).has_schema and self.history(name).exists]
        wanted = [chosen] if isinstance(chosen, str) else list(chosen)
        for name in wanted:
            self._store(name)
        return [name for name in names if name in wanted]

    def _chosen(self, services: Services) -> list[History]:
        histories = [self.history(name) for name in self.services(services)]
        if not histories:
            raise NoHistoryError(
                f"no service has a history in {self.directory}: begin them with  fedorm migrate init,  or name the "
                f"folder in fedorm.toml:  [migrations]  directory = ..."
            )
        return histories

    # -- writing histories

    def init(self, services: Services = None) -> list[Path]:
        """Begin the histories of these services, or of all; return the files that were written."""
        all_of_them = [name for name, store in self._federation.stores.items() if store.has_schema]
        names = self.services(all_of_them if services is None else services)
        return [path for name in names for path in self.history(name).init()]

    def adopt(self, service: str, folder: Path) -> list[Path]:
        """Let a folder that is there already be a service's history; return the files that were written.

        Of Alembic: the folder of an ``env.py``, or an ``alembic.ini``; of Beanie: the folder of its migrations.
        """
        return self.history(service).adopt(folder)

    async def revision(self, service: str, message: str, *, autogenerate: bool = False) -> Path | None:
        """Write a new revision for a service; None where nothing has changed.

        With ``autogenerate`` the models are compared with the database, which has to be at the newest revision.
        """
        history = self.history(service)
        if not autogenerate:
            return await history.revision(message)
        async with self._opened([service]), locks_of([history], self._federation.stores, wait=WAIT, sync=self._sync):
            await self._check_before(history)
            return await history.revision(message, autogenerate=True)

    # -- carrying them out

    async def upgrade(
        self, services: Services = None, to: str = "heads", *, report: Report | None = None, wait: float = WAIT
    ) -> dict[str, list[str]]:
        """Go forward, and return what was carried out in each service.

        Another process that migrates at the same time is waited for, ``wait`` seconds at most. Raises
        ``MigrationFailedError``, which says where each service stands.
        """
        return await self._moved(self._chosen(services), lambda one: one.upgrade(to, report=report), to, wait)

    async def downgrade(
        self, services: Services, to: str, *, report: Report | None = None, wait: float = WAIT
    ) -> dict[str, list[str]]:
        """Go back, the last service first, and return what was undone in each."""
        histories = self._chosen(services)[::-1]
        return await self._moved(histories, lambda one: one.downgrade(to, report=report), to, wait)

    async def _moved(
        self,
        histories: list[History],
        move: Callable[[History], Coroutine[Any, Any, list[str]]],
        to: str,
        wait: float,
    ) -> dict[str, list[str]]:
        done: dict[str, list[str]] = {}
        _check_name(histories, to)
        self._check_apart(histories)
        stores = self._federation.stores
        async with (
            self._opened([one.service for one in histories]),
            locks_of(histories, stores, wait=wait, sync=self._sync),
        ):
            for history in histories:
                await self._check_before(history)
            for at, history in enumerate(histories):
                try:
                    done[history.service] = await move(history)
                except Exception as error:
                    left = [one.service for one in histories[at + 1 :]]
                    raise MigrationFailedError(history.service, error, await _standing(histories), left) from error
        return done

    async def stamp(self, services: Services, to: str) -> None:
        """Say where these services stand, and change nothing else."""
        histories = self._chosen(services)
        _check_name(histories, to)
        self._check_apart(histories)
        names = [one.service for one in histories]
        async with (
            self._opened(names),
            locks_of(histories, self._federation.stores, wait=WAIT, sync=self._sync),
        ):
            for history in histories:
                await self._check_owner(history)
            for history in histories:
                await history.stamp(to)

    async def _check_before(self, history: History) -> None:
        """Refuse a database that is at a revision which its history does not have."""
        await self._check_owner(history)
        known = {one.id for one in history.revisions()}
        unknown = [one for one in await history.current() if one not in known]
        if unknown:
            raise MigrationError(
                f"service {history.service!r} is at revision {unknown[0]}, which {history.directory} does not have: "
                f"get the revisions that it was migrated with, or say where it stands with  fedorm migrate stamp"
            )

    async def _check_owner(self, history: History) -> None:
        """Refuse a database in which the history of another service is carried out."""
        owner = await self._owner(history)
        if owner is not None:
            name, revision = owner
            raise MigrationError(
                f"service {history.service!r} is in the database of {name!r}, which is at revision {revision} of "
                f"{name!r}: {_ONE_HISTORY}"
            )

    async def _owner(self, history: History) -> tuple[str, str] | None:
        """Return the service whose history is carried out in the database of another one, and where it is."""
        others = [one for one in map(self.history, self._beside(history.service)) if one.exists]
        if not others:
            return None
        there = set(await history.current())
        if history.exists:
            there -= {one.id for one in history.revisions()}
        for other in others:
            if theirs := sorted(there & {one.id for one in other.revisions()}):
                return other.service, theirs[0]
        return None

    def _check_apart(self, histories: list[History]) -> None:
        """Refuse two histories of one database, where both would say in one table which revision it is at."""
        names = [one.service for one in histories]
        for name in names:
            others = [one for one in self._beside(name) if one in names]
            if others:
                raise MigrationError(f"services {name!r} and {others[0]!r} are in one database: {_ONE_HISTORY}")

    def _beside(self, service: str) -> list[str]:
        """Return the other services that are in the same database."""
        stores = self._federation.stores
        place = stores[service].settings.place
        return [name for name, one in stores.items() if name != service and one.settings.place == place]

    # -- asking

    async def current(self, services: Services = None) -> dict[str, list[str]]:
        """Return the revisions that the databases are at."""
        histories = self._chosen(services)
        async with self._opened([one.service for one in histories]):
            return {history.service: await history.current() for history in histories}

    def revisions(self, services: Services = None) -> dict[str, list[Revision]]:
        """Return all revisions of each service, the newest first."""
        return {history.service: history.revisions() for history in self._chosen(services)}

    def heads(self, services: Services = None) -> dict[str, list[str]]:
        """Return the newest revisions of each service."""
        return {history.service: history.heads() for history in self._chosen(services)}

    async def sql(self, service: str, to: str = "heads", *, start: str | None = None) -> str:
        """Return what an upgrade of a service would send; asks no server."""
        return await self.history(service).sql(to, start=start)

    async def check(self, services: Services = None) -> list[Drift]:
        """Return what models and databases differ in, and relationships between services whose keys do not fit."""
        from fedorm.migrate.relations import relation_drifts

        found: list[Drift] = []
        all_of_them = [name for name, store in self._federation.stores.items() if store.has_schema]
        names = self.services(all_of_them if services is None else services)
        async with self._opened(names):
            for name in names:
                history = self.history(name)
                if services is not None:
                    await self._check_owner(history)
                elif await self._owner(history) is not None:
                    continue  # Its tables are that one's.
                found += await history.check()
        return found + relation_drifts(self._federation.stores, names)

    # -- opening

    @asynccontextmanager
    async def _opened(self, names: Iterable[str]) -> AsyncIterator[None]:
        """Have these services open inside the block, and those that keep their locks."""
        if self._sync or self._federation.is_open:
            yield
            return
        async with AsyncExitStack() as stack:
            for store in self._federation.stores.values():
                stack.push_async_callback(store.close)  # Also of one that keeps another's lock.
            for name in names:
                await self._store(name).open()
            yield


def _check_name(histories: list[History], to: str) -> None:
    """Refuse a revision that not every one of the histories has."""
    if len(histories) > 1 and to not in _OF_ALL and to[:1] not in "+-":
        raise MigrationError(
            f"{to} can be a revision of one service alone: say of which, with  --service,  or go to  heads"
        )
    for history in histories:
        history.find(to)


async def _standing(histories: Iterable[History]) -> dict[str, str]:
    standing = {}
    for history in histories:
        try:
            standing[history.service] = ", ".join(await history.current()) or "base"
        except FedormError as error:
            standing[history.service] = f"an unknown revision ({error})"
    return standing


class WithMigrations:
    """The part of a ``Federation`` that migrates its services."""

    migrations_directory: Path
    migrations_order: tuple[str, ...]

    @cached_property
    def migrate(self) -> Migrations:
        """The histories of the services: writing them, carrying them out, and comparing databases with models."""
        return Migrations(cast("Federation", self), self.migrations_directory, self.migrations_order)

    @cached_property
    def sync_migrate(self) -> SyncMigrations:
        """The same in code that is not async, inside of  ``with federation:``."""
        return SyncMigrations(cast("Federation", self), self.migrations_directory, self.migrations_order)


class SyncMigrations:
    """``fed.migrate`` for code that is not async: its methods return what those there do."""

    def __init__(self, federation: Federation, directory: Path, order: Iterable[str]) -> None:
        self._federation = federation
        self._migrations = Migrations(federation, directory, order, sync=True)

    def upgrade(
        self, services: Services = None, to: str = "heads", *, report: Report | None = None, wait: float = WAIT
    ) -> dict[str, list[str]]:
        """Go forward; see ``Migrations.upgrade``."""
        return self._run(self._migrations.upgrade(services, to, report=report, wait=wait))

    def downgrade(
        self, services: Services, to: str, *, report: Report | None = None, wait: float = WAIT
    ) -> dict[str, list[str]]:
        """Go back; see ``Migrations.downgrade``."""
        return self._run(self._migrations.downgrade(services, to, report=report, wait=wait))

    def current(self, services: Services = None) -> dict[str, list[str]]:
        """Return the revisions that the databases are at."""
        return self._run(self._migrations.current(services))

    def check(self, services: Services = None) -> list[Drift]:
        """Return what models and databases differ in; see ``Migrations.check``."""
        return self._run(self._migrations.check(services))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._federation.run_for_threads(work, "sync_migrate")
