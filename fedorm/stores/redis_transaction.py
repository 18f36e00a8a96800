"""What a session or a sync rule wants written to Redis: held back, checked under WATCH, and sent as one MULTI/EXEC.

Redis has no transaction that could be read in, and no rollback: commands that fail in an EXEC leave the others done. So
everything that could fail is looked at first, of keys that are watched: if one of them changes before the EXEC, that
does nothing, and it is all looked at again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

from fedorm.exc import DuplicateKeyError, RowError, StaleDocumentError, StoreError
from fedorm.stores.redis_client import Command, RedisClient, RedisConnection, pack
from fedorm.stores.redis_codec import DOCUMENT, LIFE, Codec, Raw, as_json

_TRIES = 5
"""How many times everything is looked at, before somebody else is said to change it all the time."""
MakeError = Callable[[type[StoreError], str], StoreError]


@dataclass(frozen=True, slots=True)
class State:
    """A key as it is, or will be: whether it is there, and the text that it holds if it holds one."""

    there: bool
    text: bytes | None = None


class Write(ABC):
    """A change of one key."""

    key: bytes
    is_text: bool
    """Whether the key holds a text, and not a hash."""
    expects_nothing = False
    """Whether the key must not be there yet."""

    @property
    def asking(self) -> bytes:
        """What asks how the key is."""
        return pack((b"GET" if self.is_text else b"TYPE", self.key))

    @abstractmethod
    def check(self, state: State, fail: MakeError) -> None:
        """Raise what stands against it."""

    @abstractmethod
    def commands(self, state: State) -> tuple[list[Command], State]:
        """Return what carries it out, and how the key is then."""


@dataclass(slots=True)
class RecordWrite(Write):
    """A change of one record. ``kind`` says what is expected of the key.

    ``insert``: it is not there. ``update``, ``delete``: it is. ``put``, ``remove``: either. ``merge``: either, and it
    gets the ``defaults``, too, if it is not there. ``change``: it stays away if it is not there.
    """

    codec: Codec
    identity: Any
    kind: str
    fields: Mapping[str, bytes] = field(default_factory=dict)
    """What fields have then; of a text, ``DOCUMENT``'s, or of ``merge`` and ``change`` JSON of each field."""
    removed: Collection[str] = ()
    life: int | None = None
    """How long it lives from then on, 0: for ever; None: what its class says, or what is left."""
    before: bytes | None = None
    """The text that was read, which has to be there still."""
    defaults: Mapping[str, bytes] = field(default_factory=dict)
    key: bytes = b""
    is_text: bool = False
    expects_nothing: bool = False

    def __post_init__(self) -> None:
        self.key, self.is_text = self.codec.key(self.identity), self.codec.is_json
        self.expects_nothing = self.kind == "insert"

    @property
    def _label(self) -> str:
        return f"{self.codec.model.__name__} {self.identity!r}"

    def check(self, state: State, fail: MakeError) -> None:
        """See whether the key is as it is expected to be."""
        if self.kind == "insert" and state.there:
            raise fail(DuplicateKeyError, f"there is a {self._label} already")
        if self.kind in ("merge", "change") and self.is_text and state.there and _object(state.text) is None:
            raise fail(RowError, f"the key {self.key.decode(errors='replace')!r} holds no JSON object")
        if self.kind not in ("update", "delete"):
            return
        if not state.there:
            raise StaleDocumentError(
                f"{self._label} was to be changed or deleted, and is no longer there: deleted, or past its time to live"
            )
        if self.before is not None and state.text != self.before:
            raise StaleDocumentError(f"{self._label} was changed by somebody else since it was read; read it again")

    def commands(self, state: State) -> tuple[list[Command], State]:
        """Make the commands for a hash or a text."""
        if self.kind in ("delete", "remove"):
            return [(b"DEL", self.key)], State(there=False)
        if self.kind == "change" and not state.there:
            return [], state
        return self._set_text(state) if self.is_text else self._set_fields(state)

    def _life(self, state: State) -> int | None:
        """Return how long it lives from now on, 0: for ever; None: what is left to it."""
        if self.life is not None:
            return self.life
        if not state.there or self.codec.renews:
            return self.codec.ttl
        return None

    def _set_text(self, state: State) -> tuple[list[Command], State]:
        if self.kind in ("merge", "change"):
            values = (_object(state.text) if state.there else None) or {}
            given = dict(self.fields) if state.there else {**self.defaults, **self.fields}
            values |= {name: from_json(value) for name, value in given.items()}
            values |= dict.fromkeys(self.removed)
            text = as_json({"id": self.identity} | values)
        else:
            text = self.fields[DOCUMENT]
        life = self._life(state)
        if life:
            return [(b"SET", self.key, text, b"PX", b"%d" % life)], State(True, text)
        keeps = (b"KEEPTTL",) if life is None and state.there else ()
        return [(b"SET", self.key, text, *keeps)], State(True, text)

    def _set_fields(self, state: State) -> tuple[list[Command], State]:
        given = self.fields if state.there else {**self.defaults, **self.fields}
        pairs = [part for name, value in given.items() for part in (name.encode(), value)]
        # An empty hash is none: a record of which only the id is known is there, too.
        made: list[Command] = [(b"HSET", self.key, b"id", self.key[len(self.codec.prefix) :], *pairs)]
        if self.removed and state.there:
            made.append((b"HDEL", self.key, *(name.encode() for name in self.removed)))
        life = self._life(state)
        if life:
            made.append((b"PEXPIRE", self.key, b"%d" % life))
        elif life == 0 and state.there:
            made.append((b"PERSIST", self.key))
        return made, State(True)


def _object(text: bytes | None) -> dict[str, Any] | None:
    with suppress(ValueError):
        values = from_json(text or b"")
        return values if isinstance(values, dict) else None
    return None


class RedisTransaction:
    """What is to be written, and how records are then to whoever has written it."""

    def __init__(self, client: RedisClient, fail: MakeError, *, holds: bool = False) -> None:
        self._client, self._fail = client, fail
        self._holds = holds
        """Whether keys are watched from the moment on that they are written to; it takes a connection until the end."""
        self._connection: RedisConnection | None = None
        self._writes: dict[bytes, list[Write]] = {}
        self._states: dict[bytes, State] = {}
        """How keys were when they were looked at."""
        self.records: dict[bytes, Raw | None] = {}
        """Records as they are to whoever has written them; None: gone."""
        self.changed: set[str] = set()
        """The names that were written to."""

    async def add(self, writes: Sequence[Write]) -> None:
        """Look at the keys, and hold the writes back. Raises what stands against them; then none of them is held."""
        new = {one.key: one for one in writes if one.key not in self._states}
        await self._look(list(new.values()))
        states = {key: self._after(key) for key in {one.key for one in writes}}
        for one in writes:
            one.check(states[one.key], self._fail)
            states[one.key] = one.commands(states[one.key])[1]
        for one in writes:
            self._writes.setdefault(one.key, []).append(one)

    def _after(self, key: bytes) -> State:
        state = self._states[key]
        for one in self._writes.get(key, ()):
            state = one.commands(state)[1]
        return state

    async def _look(self, writes: Sequence[Write]) -> None:
        """Ask how keys are, and watch them where this has a connection of its own."""
        if not writes:
            return
        if self._holds:
            if self._connection is None:
                self._connection = await self._client.take()
            self._states |= await self._seen(self._connection.exchange, writes, watch=True)
        else:
            self._states |= await self._seen(self._client.exchange, writes, watch=False)

    async def _seen(
        self, exchange: Callable[[Sequence[bytes]], Awaitable[list[Any]]], writes: Sequence[Write], *, watch: bool
    ) -> dict[bytes, State]:
        """Return how keys are; ``watch`` them first. What is to be new is asked for by one number."""
        new = [one for one in writes if one.expects_nothing]
        others = [one for one in writes if not one.expects_nothing]
        commands = [pack((b"WATCH", *(one.key for one in writes)))] if watch else []
        commands.append(pack((b"EXISTS", *(one.key for one in new))) if new else pack((b"PING",)))
        answers = await exchange([*commands, *(one.asking for one in others)])
        found, rest = answers[len(commands) - 1], answers[len(commands) :]
        if new and found != 0:
            if isinstance(found, Exception):
                raise found
            others, rest = [*others, *new], [*rest, *await exchange([one.asking for one in new])]
            new = []
        states = {one.key: State(there=False) for one in new}
        return states | {one.key: self._state(one, answer) for one, answer in zip(others, rest, strict=True)}

    def _state(self, write: Write, answer: Any) -> State:
        if isinstance(answer, Exception):
            if not str(answer).startswith("WRONGTYPE"):
                raise answer
            raise self._fail(RowError, f"the key {write.key.decode(errors='replace')!r} holds no text")
        if write.is_text:
            return State(answer is not None, answer)
        if answer not in (b"none", b"hash"):
            raise self._fail(RowError, f"the key {write.key.decode(errors='replace')!r} holds no hash")
        return State(answer == b"hash")

    async def commit(self) -> None:
        """Carry everything out, or nothing, and raise why."""
        if not self._writes:
            await self.close()
            return
        first = [writes[0] for writes in self._writes.values()]
        watched = self._connection is not None
        connection = self._connection or await self._client.take()
        self._connection, finished = connection, False
        try:
            for _ in range(_TRIES):
                if not watched:
                    self._states = await self._seen(connection.exchange, first, watch=True)
                commands = self._commands()
                answers = await connection.exchange([pack(one) for one in ((b"MULTI",), *commands, (b"EXEC",))])
                if answers[-1] is not None:
                    self._raise(answers)
                    finished = True
                    return
                watched = False
            raise StaleDocumentError("others change what this transaction writes all the time; repeat it")
        finally:
            # A connection that still watches is of no use to others.
            self._connection = None
            await connection.release(broken=not finished)

    def _commands(self) -> list[Command]:
        commands: list[Command] = []
        for key, writes in self._writes.items():
            state = self._states[key]
            for one in writes:
                one.check(state, self._fail)
                made, state = one.commands(state)
                commands += made
        return commands

    @staticmethod
    def _raise(answers: Sequence[Any]) -> None:
        """Raise the first error: of a command that was not taken, for which nothing was done, or of one that failed."""
        for answer in (*answers[1:-1], answers[-1], *(answers[-1] if isinstance(answers[-1], list) else ())):
            if isinstance(answer, Exception):
                raise answer

    async def close(self) -> None:
        """Let go of everything; what was held back is not written."""
        connection, self._connection = self._connection, None
        self._writes.clear()
        if connection is not None:
            await connection.release(broken=True)


def life_of(raw: Raw) -> int | None:
    """Take out of a record how long it is to live from this write on."""
    life: int | None = raw.pop(LIFE, None)
    return life
