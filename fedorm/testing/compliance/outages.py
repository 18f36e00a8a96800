"""A service goes and comes back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from fedorm import FederatedSession, Federation, FederationOpenError, ServiceUnavailableError
from fedorm.testing.compliance.base import Suite, everything_sync, in_thread, models_of, read, write
from fedorm.testing.compliance.rows import SERVICE
from fedorm.testing.servers import Server


class Outage(ABC):
    """A service that a test may take away and bring back at the same address, with what it holds."""

    url: str
    interrupts: bool
    """Whether a federation that is open loses the service, too; one that is embedded is part of the process."""

    @abstractmethod
    def begin(self) -> None:
        """Take the service away, as a crash would."""

    @abstractmethod
    def end(self) -> None:
        """Bring it back."""


class ServerOutage(Outage):
    """A server of the test's own that is killed and started again on the same port."""

    interrupts = True

    def __init__(self, server: Server, url: str) -> None:
        self.server, self.url = server, url

    def begin(self) -> None:
        """End it by SIGKILL."""
        self.server.kill()

    def end(self) -> None:
        """Start it again with its data."""
        self.server.restart()


class EmbeddedOutage(Outage):
    """A database that is files: what is moved away cannot be opened."""

    interrupts = False

    def __init__(self, place: Path, url: str) -> None:
        """Remember where the files are; ``place`` is the folder in which the database lies."""
        self.place, self.url = place, url

    def begin(self) -> None:
        """Move the folder away and leave a file in its place."""
        self.place.rename(self._aside)
        self.place.write_text("not a folder")

    def end(self) -> None:
        """Put the folder back."""
        self.place.unlink()
        self._aside.rename(self.place)

    @property
    def _aside(self) -> Path:
        return self.place.with_name(f"{self.place.name}.away")


class OutageSuite(Suite):
    """What happens when the service goes; a subclass gives ``outage``."""

    @pytest.fixture
    def outage(self) -> Outage:
        """Give a service that may be taken away."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture 'outage': an Outage of the store's kind")

    async def test_gone_and_back(self, outage: Outage, no_stray_tasks: None) -> None:
        """Errors name the service while it is gone; once it is back the same federation works, and no row is lost."""
        fed = self.federation(outage.url)
        sample = models_of(fed.stores[SERVICE]).sample
        if not outage.interrupts:
            await self._check_reopening(fed, outage)
            return
        async with fed:
            await fed.create_all()
            await write(fed, [sample(id=1, text="kept")])
            async with fed.session() as session:
                await session.get(sample, 1)
                outage.begin()
                with pytest.raises(ServiceUnavailableError, match=f"service '{SERVICE}'"):
                    await session.get(sample, 1, populate_existing=True)
                await session.rollback()
            with pytest.raises(ServiceUnavailableError, match=f"service '{SERVICE}'"):
                await write(fed, [sample(id=2, text="never written")])
            health = (await fed.health())[SERVICE]
            assert (health.state, isinstance(health.error, ServiceUnavailableError)) == ("down", True)
            with pytest.raises(FederationOpenError, match=SERVICE) as raised:
                await in_thread(fed, lambda session: None)
            assert isinstance(raised.value.failures[SERVICE], ServiceUnavailableError)
            outage.end()
            assert (await fed.health())[SERVICE].state == "up"
            await write(fed, [sample(id=3, text="after")])
            assert [(one.id, one.text) for one in await read(fed, sample)] == [(1, "kept"), (3, "after")]

    async def test_threads_outlive_an_outage(self, outage: Outage) -> None:
        """A session for threads fails by name, and the next one works once the service is back."""
        fed = self.federation(outage.url)
        sample = models_of(fed.stores[SERVICE]).sample
        if not outage.interrupts:
            await self._check_reopening(fed, outage)
            return
        async with fed:
            await fed.create_all()

        def work(session: FederatedSession) -> None:
            session.add(sample(id=1, text="kept"))
            session.commit()
            outage.begin()
            with pytest.raises(ServiceUnavailableError, match=f"service '{SERVICE}'"):
                session.get(sample, 1, populate_existing=True)
            session.rollback()
            health = fed.sync_health()[SERVICE]
            assert (health.state, isinstance(health.error, ServiceUnavailableError)) == ("down", True)
            outage.end()
            with fed.sync_session() as next_one:
                assert [one.text for one in everything_sync(next_one, sample)] == ["kept"]

        await in_thread(fed, work)

    async def _check_reopening(self, fed: Federation, outage: Outage) -> None:
        """A database inside the process cannot go while it is open: it keeps its rows for the next opening."""
        sample = models_of(fed.stores[SERVICE]).sample
        async with fed:
            await fed.create_all()
            await write(fed, [sample(id=1, text="kept")])
        outage.begin()
        try:
            with pytest.raises(FederationOpenError, match=SERVICE) as raised:
                await fed.open()
            assert isinstance(raised.value.failures[SERVICE], ServiceUnavailableError)
        finally:
            outage.end()
        async with fed:
            assert [(one.id, one.text) for one in await read(fed, sample)] == [(1, "kept")]
        assert await in_thread(fed, lambda session: [one.text for one in everything_sync(session, sample)]) == ["kept"]
