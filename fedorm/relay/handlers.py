"""``@handler``: functions that events are handed on to, with an inbox that makes their effect come once."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.util import greenlet_spawn

from fedorm.exc import ConfigurationError, FedormError, UnknownServiceError
from fedorm.relay.inbox import Inbox
from fedorm.relay.matching import as_types

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedorm.federation import Federation
    from fedorm.outbox.events import Event
    from fedorm.session import FederatedSession

T = TypeVar("T")
_NAME = 191
"""How long a handler's name may be, as it is a part of the inbox's key."""


class HandlerError(FedormError):
    """A handler does what its transaction does not allow."""


class Handler:
    """A function as a target; calling it calls the function."""

    def __init__(
        self,
        function: Callable[..., Any],
        types: Iterable[str],
        *,
        service: str | None,
        name: str | None,
        batch: bool,
        twophase: bool,
    ) -> None:
        self.function = function
        self.types = tuple(types)
        self.service = service
        self.name = name or f"{function.__module__}.{function.__qualname__}"
        self.batch = batch
        self.is_async = inspect.iscoroutinefunction(function)
        self._wants_session = len(inspect.signature(function).parameters) > 1
        self._options = {"twophase": True} if twophase else {}
        self._federation: Federation | None = None
        self._inbox: Inbox | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._entered: Federation | None = None
        self.__doc__ = function.__doc__
        if len(self.name) > _NAME:
            raise ConfigurationError(f"handler {self.name!r}: its name has more than {_NAME} letters; give it another")

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the function itself, as a test would."""
        return self.function(*arguments, **named)

    def __repr__(self) -> str:
        return f"<Handler {self.name} of {', '.join(self.types)}>"

    # -- the Target protocol

    async def open(self, federation: Federation) -> None:
        """Make the inbox, and open the federation for threads where the function is not async."""
        self._federation = federation
        if self.service is not None:
            store = federation.stores.get(self.service)
            if store is None:
                raise ConfigurationError(
                    str(UnknownServiceError(self.service, known=federation.stores, used_by=f"handler {self.name}"))
                )
            self._inbox = Inbox(store, self.name)
            await greenlet_spawn(self._inbox.prepare)
        if not self.is_async:
            self._threads = ThreadPoolExecutor(4, thread_name_prefix="fedorm-handler")
            self._entered = await self._in_thread(federation.__enter__)

    async def close(self) -> None:
        """Let go of the threads."""
        threads, self._threads = self._threads, None
        if threads is not None:
            federation, self._entered = self._entered, None

            def end() -> None:
                threads.shutdown()
                if federation is not None:
                    federation.__exit__(None, None, None)

            await asyncio.to_thread(end)

    async def deliver(self, events: Sequence[Event]) -> None:
        """Call the function with the events that it has not had, all in one transaction."""
        if self.is_async:
            await self._deliver(events)
        else:
            await self._in_thread(lambda: self._deliver_in_thread(events))

    # --

    async def _deliver(self, events: Sequence[Event]) -> None:
        assert self._federation is not None
        async with self._federation.session(**self._options) as session:
            new = await greenlet_spawn(self._begin, session.sync_session, events)
            if not new:
                return
            transaction = session.sync_session.get_transaction()
            for arguments in self._calls(new, session):
                await self.function(*arguments)
            self._check(session.sync_session, transaction)
            await session.commit()

    def _deliver_in_thread(self, events: Sequence[Event]) -> None:
        assert self._federation is not None
        with self._federation.sync_session(**self._options) as session:
            new = self._begin(session, events)
            if not new:
                return
            transaction = session.get_transaction()
            for arguments in self._calls(new, session):
                self.function(*arguments)
            self._check(session, transaction)
            session.commit()

    def _begin(self, session: FederatedSession, events: Sequence[Event]) -> Sequence[Event]:
        session.begin_quietly()
        return self._inbox.take(session, events) if self._inbox is not None else events

    def _calls(self, events: Sequence[Event], session: Any) -> Iterator[tuple[Any, ...]]:
        given: Iterable[Any] = [list(events)] if self.batch else events
        for one in given:
            yield (one, session) if self._wants_session else (one,)

    def _check(self, session: FederatedSession, transaction: Any) -> None:
        if session.get_transaction() is not transaction or not session.is_active:
            raise HandlerError(
                f"handler {self.name!r} has ended its session's transaction: leave commit() and rollback() to fedorm, "
                "which writes down with the effect that it is there"
            )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        assert self._threads is not None
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def handler(
    types: str | Iterable[str],
    *,
    service: str | None = None,
    name: str | None = None,
    batch: bool = False,
    twophase: bool = False,
) -> Callable[[Callable[..., Awaitable[None] | None]], Handler]:
    """Make a function a handler of events, to be added to a federation: ``fed.outbox.add(charge)``.

    ``types`` may have wildcards. The function is called with an event, for ``batch`` with a list of them, and with a
    session whose transaction is committed afterwards; several events may share one. A function that is not async is
    called in a thread, with a session for threads. With ``service`` its inbox is kept there, in the same transaction:
    what the function does in that service it does once for each event, whatever crashes; what it does in others may
    come twice, unless ``twophase``. ``name`` is what the inbox knows it by, its module and name if not given: change
    the name, and events that are under way may come once more.
    """

    def make(function: Callable[..., Awaitable[None] | None]) -> Handler:
        made = Handler(function, as_types(types), service=service, name=name, batch=batch, twophase=twophase)
        _declared[made.name] = made
        return made

    return make


_declared: dict[str, Handler] = {}


def declared() -> list[Handler]:
    """Return the handlers of all modules imported so far."""
    return list(_declared.values())
