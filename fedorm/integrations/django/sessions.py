"""The federation of the settings, and the sessions of a request."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.utils.module_loading import import_string

from fedorm.async_session import AsyncFederatedSession
from fedorm.bridge import Turns
from fedorm.exc import ConfigurationError, FedormError
from fedorm.federation import Federation
from fedorm.integrations.in_process import OpenInProcess
from fedorm.session import FederatedSession


@lru_cache(maxsize=1)
def in_process() -> OpenInProcess:
    """Return the federation of this process."""
    return OpenInProcess(_configured(getattr(settings, "FEDORM", None) or {}))


def federation() -> Federation:
    """Return the federation that the settings describe; it is opened by the first request that needs it."""
    return in_process().federation


def _configured(given: dict[str, Any]) -> Federation:
    if services := given.get("SERVICES"):
        return Federation(services)
    if file := given.get("CONFIG"):
        return Federation.from_file(file)
    if name := given.get("FEDERATION"):
        found: Federation = import_string(name)
        return found
    raise ConfigurationError(
        "the settings do not say which services there are: set FEDORM to a dict with SERVICES, CONFIG or FEDERATION"
    )


_opening = Turns()


async def opened_for_tasks() -> Federation:
    """Open the federation in this event loop, unless it is open already."""
    fed = federation()
    if not fed._open:
        async with _opening:
            await fed.open()
    return fed


def option(name: str, default: Any) -> Any:
    """Return one of the settings in ``FEDORM``."""
    return (getattr(settings, "FEDORM", None) or {}).get(name, default)


class RequestSessions:
    """What ``request.fedorm`` is: the request's sessions, made at first use.

    ``refusal`` is why the federation could not be opened in the request's event loop.
    """

    def __init__(self, *, is_asgi: bool, refusal: FedormError | None = None) -> None:
        self._is_asgi = is_asgi
        self._refusal = refusal
        self._is_undone = False
        self._session: FederatedSession | None = None
        self._async_session: AsyncFederatedSession | None = None

    @property
    def session(self) -> FederatedSession:
        """The request's session in a view without ``async``."""
        if self._session is None:
            self._session = in_process().opened().sync_session(**option("SESSION_OPTIONS", {}))
        return self._session

    @property
    def async_session(self) -> AsyncFederatedSession:
        """The request's session in an async view. Raises ``FedormError`` where the server is one of WSGI.

        There every request has an event loop of its own, and the connections of a pool belong to one.
        """
        if not self._is_asgi:
            raise FedormError("request.fedorm.async_session needs an ASGI server, or AsyncClient in a test")
        if self._refusal is not None:
            raise self._refusal
        if self._async_session is None:
            self._async_session = federation().session(**option("SESSION_OPTIONS", {}))
        return self._async_session

    def set_rollback(self, rollback: bool = True) -> None:
        """Let the request's transaction be undone at its end, whatever the view returns; or, with False, not."""
        self._is_undone = rollback

    def commit(self) -> None:
        """Commit the session of threads, unless it is to be undone."""
        if self._session is not None and not self._is_undone:
            self._session.commit()

    async def acommit(self) -> None:
        """Commit both."""
        if self._async_session is not None and not self._is_undone:
            await self._async_session.commit()
        if self._session is not None:
            await sync_to_async(self.commit, thread_sensitive=True)()

    def close(self) -> None:
        """Close the session of threads; what was not committed is undone."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    async def aclose(self) -> None:
        """Close both."""
        session, self._async_session = self._async_session, None
        try:
            if session is not None:
                await session.close()
        finally:
            # In the thread of the request's sync views, and so behind them: one whose client has hung up goes on there.
            await sync_to_async(self.close, thread_sensitive=True)()
