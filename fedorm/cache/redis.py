"""Results in Redis, shared by processes, through dogpile.cache's backend."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from fedorm.cache import codec
from fedorm.cache.memory import Look
from fedorm.cache.rows import Rows
from fedorm.config import address_of
from fedorm.exc import ConfigurationError, MissingDriverError

T = TypeVar("T")
log = logging.getLogger("fedorm.cache")

_TIMEOUT = 2.0
"""Seconds that Redis has for an answer: a cache that is slower than this is none."""
_CONNECTIONS = 20
_REST = 1.0
"""Seconds in which a Redis that did not answer is not asked again."""
_KNOWN = 7 * 86400
"""Seconds after a change in which a table's generation is known; then the table counts as changed once more."""
_CHANGED = """
redis.call('SET', KEYS[1], ARGV[1], 'NX')
redis.call('INCR', KEYS[1])
local clock = redis.call('GET', KEYS[1])
for number = 2, #KEYS do redis.call('SET', KEYS[number], clock, 'EX', ARGV[2]) end
return clock
"""
"""Moves the clock on and sets it as the tables' generations, as one step. A clock that is lost starts at a time that is
later than all it has said: a generation never comes again."""


class Threads(Protocol):
    """Runs what blocks where it blocks no event loop."""

    def run(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run ``work`` and return its result."""

    def close(self) -> None:
        """End the threads."""


class RedisCache:
    """Keeps results as JSON under ``fedorm:``; without Redis nothing is found and nothing kept."""

    evicted = 0

    def __init__(self, url: str, threads: Threads) -> None:
        try:
            import redis
            from dogpile.cache.api import NO_VALUE
            from dogpile.cache.backends.redis import RedisBackend
        except ModuleNotFoundError as error:
            raise MissingDriverError(user="the result cache", package=str(error.name), extra="redis") from error
        try:
            self._pool = redis.BlockingConnectionPool.from_url(
                url,
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
                retry=None,
                max_connections=_CONNECTIONS,
                timeout=_TIMEOUT,
            )
        except (ValueError, TypeError):
            # Not chained: it may repeat a part of the password.
            raise ConfigurationError(f"cache: {address_of(url)} is not the URL of a Redis") from None
        self._address, self._threads = address_of(url), threads
        self._errors: tuple[type[Exception], ...] = (redis.RedisError, OSError)
        self._missing = NO_VALUE
        backend: Any = RedisBackend
        self._backend: Any = backend({"connection_pool": self._pool})
        self._client = self._backend.writer_client
        self._unsent: set[str] = set()
        self._lock = threading.Lock()
        self._down_until = 0.0
        self._is_down = False
        self.clock = 0
        """The latest that Redis's clock was seen to say: it says at least this from now on."""

    def look(self, key: str, tables: Sequence[str]) -> Look | None:
        """Return what is known; None when Redis does not answer."""
        return self._ask(self._look, key, tables)

    def keep(self, key: str, rows: Rows, generations: tuple[int, ...], ttl: float) -> None:
        """Keep rows for ``ttl`` seconds; a result with values of unusual types is not kept."""
        self._ask(self._keep, key, rows, generations, ttl)

    def changed(self, tables: Iterable[str]) -> None:
        """Drop what was read from ``tables`` before now; when Redis does not answer, as soon as it does again."""
        with self._lock:
            self._unsent.update(tables)
        self._ask(self._send_changes)

    def clear(self) -> None:
        """Drop everything that fedorm keeps there, by whichever process."""
        self._ask(self._clear)

    def close(self) -> None:
        """Close the connections and end the threads."""
        self._threads.close()
        self._pool.disconnect()

    def _ask(self, work: Callable[..., T], *args: Any) -> T | None:
        if time.monotonic() < self._down_until:
            return None
        try:
            found = self._threads.run(work, *args)
        except self._errors as error:
            self._down_until = time.monotonic() + _REST
            if not self._is_down:
                self._is_down = True
                log.warning("the result cache at %s does not answer (%s): running without", self._address, _name(error))
            return None
        if self._is_down:
            self._is_down = False
            log.warning("the result cache at %s answers again", self._address)
        return found

    def _look(self, key: str, tables: Sequence[str]) -> Look:
        self._send_changes()
        names = [f"fedorm:rows:{key}", "fedorm:clock", *(f"fedorm:table:{table}" for table in tables)]
        found = self._backend.get_serialized_multi(names)
        unknown = [name for name, one in zip(names[2:], found[2:], strict=True) if one is self._missing]
        if unknown or found[1] is self._missing:
            # Redis may have let go of it, so what was read before counts as changed.
            self._move_on(unknown)
            found = self._backend.get_serialized_multi(names)
        generations = [int(one) for one in found[2:]]
        self.clock = max(self.clock, int(found[1]))
        rows = None
        if found[0] is not self._missing:
            try:
                rows = codec.decode(found[0], generations)
            except ValueError as error:
                log.warning("ignored an entry of the result cache at %s: %s", self._address, error)
        return Look(rows, tuple(generations))

    def _keep(self, key: str, rows: Rows, generations: tuple[int, ...], ttl: float) -> None:
        try:
            data = codec.encode(rows, generations)
        except codec.UnknownTypeError as error:
            log.info("a result is not kept: %s", error)
            return
        # Not by the backend's way of keeping for a time, which redis-py has deprecated.
        self._client.set(f"fedorm:rows:{key}", data, ex=max(1, round(ttl)))

    def _send_changes(self) -> None:
        if not self._unsent:
            return
        with self._lock:
            tables = set(self._unsent)
        self._move_on([f"fedorm:table:{table}" for table in tables])
        with self._lock:
            self._unsent -= tables

    def _move_on(self, names: Sequence[str]) -> None:
        keys = ["fedorm:clock", *names]
        said = self._client.eval(_CHANGED, len(keys), *keys, time.time_ns() // 1000, _KNOWN)
        self.clock = max(self.clock, int(said))

    def _clear(self) -> None:
        for name in self._client.scan_iter(match="fedorm:rows:*", count=1000):
            self._client.delete(name)


def _name(error: Exception) -> str:
    return type(error).__name__
