"""Connections to Redis: redis-py's pool, and many commands in one round trip over one of its connections."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import redis.asyncio as aioredis
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from fedorm.config import ServiceSettings, TLSSettings
from fedorm.exc import (
    AuthenticationError,
    ConfigurationError,
    PoolExhaustedError,
    ServiceTimeoutError,
    ServiceUnavailableError,
    StoreError,
    TLSError,
)
from fedorm.stats import Recorder

if TYPE_CHECKING:
    from fedorm.stores.redis_codec import Keys

Command = Sequence[bytes]
Each = Callable[[Any], None]
_MANY, _AT_ONCE = 100, 1_000
_JOINED = b"""
local found = redis.call('MGET', unpack(KEYS))
for at = 1, #KEYS do found[at] = found[at] or '' end
return table.concat(found, '\\0')
"""
"""Returns many texts as one, parted by what is in no JSON: an answer costs redis-py more than a text costs pydantic."""


def pack(command: Command) -> bytes:
    """Return a command as it is sent; many of them take redis-py several times as long."""
    return b"*%d\r\n%b" % (len(command), b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in command]))


class RedisClient:
    """The connections of one event loop."""

    def __init__(self, service: str, settings: ServiceSettings, sent: Recorder) -> None:
        self._sent, self._timeout = sent, settings.timeout
        self._joins = True
        """Whether the server runs scripts, as far as that is known."""
        url = settings.url.get_secret_value()
        if settings.tls is not None:
            url = f"rediss://{url.partition('://')[2]}"
        options: dict[str, Any] = {
            "max_connections": settings.pool_size + settings.max_overflow,
            "timeout": settings.pool_timeout,
            "socket_connect_timeout": settings.connect_timeout,
            # Of a whole exchange, not of each answer: see below. What was sent is not sent twice.
            "socket_timeout": None,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            **(_tls_options(settings.tls) if settings.tls is not None else {}),
            **settings.options,
        }
        try:
            self._pool: Any = aioredis.BlockingConnectionPool.from_url(url, **options)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                f"service {service!r}: {settings.address} is not usable: {settings.scrub(str(error))}"
            ) from None

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.disconnect()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[RedisConnection]:
        """Take a connection out of the pool for the block; one that was interrupted is closed."""
        connection = await self.take()
        try:
            yield connection
        finally:
            await connection.release()

    async def take(self) -> RedisConnection:
        """Take a connection out of the pool; whoever does gives it back."""
        return RedisConnection(self._pool, await self._pool.get_connection(), self._sent, self._timeout)

    async def exchange(self, commands: Sequence[bytes], each: Each | None = None) -> list[Any]:
        """Send packed commands over a connection, and return their answers; an error is an answer, too.

        ``each`` is given every answer as it comes, while the server is at work on the next one.
        """
        if not commands:
            return []
        async with self.connection() as connection:
            return await connection.exchange(commands, each)

    async def ask(self, *command: bytes) -> Any:
        """Send one command; raise the error that it is answered with."""
        (answer,) = await self.exchange([pack(command)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    # -- records

    async def records(self, codec: Keys, keys: Sequence[bytes], each: Each | None = None) -> list[Any]:
        """Return what is kept under keys: the fields that the class has, or the texts; in one round trip.

        ``each`` may be given some of the texts, as they come, in the order of the keys: all of them, or it is in vain.
        """
        if not keys:
            return []
        if codec.is_json:
            return await self._texts(keys, each)
        head = b"*%d\r\n$5\r\nHMGET\r\n" % (2 + len(codec.asked))
        tail = b"".join([b"$%d\r\n%b\r\n" % (len(name), name) for name in codec.asked])
        answers = await self.exchange([b"%b$%d\r\n%b\r\n%b" % (head, len(key), key, tail) for key in keys])
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _texts(self, keys: Sequence[bytes], each: Each | None) -> list[Any]:
        if len(keys) >= _MANY and self._joins:
            found: list[bytes | None] = []

            def take(answer: Any) -> None:
                if not isinstance(answer, Exception):
                    texts = [text or None for text in answer.split(b"\0")]
                    found.extend(texts)
                    if each is not None:
                        each(texts)

            parts = [keys[at : at + _AT_ONCE] for at in range(0, len(keys), _AT_ONCE)]
            commands = [pack((b"EVAL", _JOINED, b"%d" % len(part), *part)) for part in parts]
            answers = await self.exchange(commands, take)
            self._joins = not any(isinstance(answer, Exception) for answer in answers)
            if self._joins and len(found) == len(keys):  # Else one of them is no JSON.
                return found
        texts: list[Any] = await self.ask(b"MGET", *keys)
        return texts

    async def scan(self, prefix: bytes, count: int = 2_000) -> AsyncIterator[list[bytes]]:
        """Yield the keys that begin so; one may come twice. All are among them that are there all the while."""
        pattern, cursor = _SPECIAL.sub(rb"\\\g<0>", prefix) + b"*", b"0"
        while True:
            cursor, keys = await self.ask(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"%d" % count)
            yield keys
            if cursor == b"0":
                return


_SPECIAL = re.compile(rb"[*?\[\]\\^-]")
"""What means something in a pattern."""


class RedisConnection:
    """A connection that is one task's."""

    def __init__(self, pool: Any, connection: Any, sent: Recorder, timeout: float | None) -> None:
        self._pool, self._connection = pool, connection
        self._sent, self._timeout = sent, timeout

    async def exchange(self, commands: Sequence[bytes], each: Each | None = None) -> list[Any]:
        """Send packed commands, and return their answers; an error is an answer, too. ``each`` is given them, too."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                answers = await self._exchanged(commands, each)
        except BaseException:
            self._sent.failed(time.perf_counter() - started)
            await self._connection.disconnect(nowait=True)  # Answers that nobody waits for are still to come.
            raise
        self._sent.done(time.perf_counter() - started, len(answers))
        return answers

    async def _exchanged(self, commands: Sequence[bytes], each: Each | None) -> list[Any]:
        connection = self._connection
        await connection.send_packed_command([b"".join(commands)], check_health=False)
        read, answers = connection.read_response, []
        for _ in commands:
            try:
                answers.append(await read())
            except exceptions.ResponseError as error:
                answers.append(error)
            if each is not None:
                each(answers[-1])
        return answers

    async def release(self, *, broken: bool = False) -> None:
        """Give it back; ``broken``: in a state that nobody else can use."""
        if broken:
            await self._connection.disconnect(nowait=True)
        await self._pool.release(self._connection)


def _tls_options(tls: TLSSettings) -> dict[str, Any]:
    given = {"ssl_ca_certs": tls.ca, "ssl_certfile": tls.cert, "ssl_keyfile": tls.key}
    made: dict[str, Any] = {name: str(path) for name, path in given.items() if path is not None}
    made["ssl_cert_reqs"] = "required" if tls.verify else "none"
    made["ssl_check_hostname"] = tls.verify
    return made


def classify(error: BaseException) -> type[StoreError]:
    """Return the class of error that one of redis-py's stands for: by its class or its words."""
    text = str(error).lower()
    if isinstance(error, exceptions.AuthenticationError) or text.startswith(("noauth", "wrongpass")):
        return AuthenticationError
    if isinstance(error, exceptions.AuthorizationError | exceptions.NoPermissionError):
        return AuthenticationError
    if isinstance(error, exceptions.TimeoutError):
        return ServiceUnavailableError if "connecting" in text else ServiceTimeoutError
    if isinstance(error, exceptions.ConnectionError | OSError):
        if "no connection available" in text:
            return PoolExhaustedError
        return TLSError if "ssl" in text or "certificate" in text else ServiceUnavailableError
    return StoreError
