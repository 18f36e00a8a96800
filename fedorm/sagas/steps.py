"""``@saga_step``: functions that a saga runs, each in one service, and the functions that undo them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fedorm.async_session import AsyncFederatedSession
from fedorm.exc import ConfigurationError
from fedorm.sagas.tables import NAME

Function = Callable[..., Awaitable[Any]]
FunctionT = TypeVar("FunctionT", bound=Function)
_CALL = "fedorm.saga"


class Step:
    """A function that sagas run once, in the transaction of a service; calling it calls the function."""

    def __init__(self, function: Function, *, service: str, name: str | None, twophase: bool) -> None:
        self.function = function
        self.service = service
        self.name = name or function.__name__
        self.options: dict[str, Any] = {"twophase": True} if twophase else {}
        self.undo: Function | None = None
        self.__doc__ = function.__doc__
        _refuse_unless_async(self.name, function)
        if len(self.name) > NAME - 5:  # A number may be added to it.
            raise ConfigurationError(f"step {self.name!r}: its name has more than {NAME - 5} letters; give it another")

    def __call__(self, *arguments: Any, **named: Any) -> Awaitable[Any]:
        """Call the function itself, as a test would."""
        return self.function(*arguments, **named)

    def compensation(self, function: FunctionT) -> FunctionT:
        """Declare what undoes the step: a function that takes the same arguments.

        It is called only when the step was done, once in effect, and is tried until it succeeds.
        """
        _refuse_unless_async(f"{self.name}.compensation", function)
        self.undo = function
        return function

    def check(self, arguments: dict[str, Any]) -> None:
        """Raise ``TypeError`` for arguments that one of the functions does not take."""
        for function in (self.function, self.undo):
            if function is not None:
                inspect.signature(function).bind(None, **arguments)

    def __repr__(self) -> str:
        return f"<Step {self.name} in {self.service}>"


@dataclass(frozen=True, slots=True)
class StepCall:
    """What a step can know of the saga that it is called by."""

    saga: str
    id: str
    step: str
    key: str
    """The same at every try of this step of this saga, and no other's: what makes a call to the outside idempotent."""
    result: Any = None
    """For a compensation, what the step had returned."""


def saga_step(
    *, service: str, name: str | None = None, twophase: bool = False
) -> Callable[[Callable[..., Awaitable[Any]]], Step]:
    """Make an async function a step of sagas: ``async def reserve(session, *, sku, quantity)``.

    It is called with a session whose transaction is committed afterwards, together with the mark that says that the
    step is done: what it does in ``service`` it does once, whatever crashes. What it does in others may come twice,
    unless ``twophase``. Its arguments and what it returns are JSON. ``name`` is what the saga's state knows it by, the
    function's own if not given: it has to stay as it is as long as such sagas are under way, and the runner's process
    has to import the module. Raises ``ConfigurationError`` where another function has the name.
    """

    def make(function: Callable[..., Awaitable[Any]]) -> Step:
        made = Step(function, service=service, name=name, twophase=twophase)
        there = _declared.get(made.name)
        if there is not None and _place(there.function) != _place(function):
            raise ConfigurationError(
                f"two steps of sagas have the name {made.name!r}, {_place(there.function)} and {_place(function)}: "
                "give one of them another:  @saga_step(name=...)"
            )
        _declared[made.name] = made
        return made

    return make


def current_step(session: AsyncFederatedSession) -> StepCall:
    """Return which step of which saga is called with ``session``; ``LookupError`` for any other session."""
    call = session.info.get(_CALL)
    if not isinstance(call, StepCall):
        raise LookupError("this session was not given to a saga's step")
    return call


def give_call(session: AsyncFederatedSession, call: StepCall) -> None:
    """Let ``current_step`` return ``call``."""
    session.info[_CALL] = call


def declared(name: str) -> Step | None:
    """Return the step of this name, if a module that declares it was imported."""
    return _declared.get(name)


def declared_names() -> list[str]:
    """Return the names of the steps of all modules imported so far."""
    return sorted(_declared)


def as_json(value: Any, *, of: str) -> Any:
    """Return ``value`` if JSON gives it back as it was; raise ``TypeError`` if not."""
    try:
        same = json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError):
        same = False
    if not same:
        raise TypeError(
            f"{of} is {value!r}, which JSON does not give back as it was: use text, numbers, true, false, null, lists, "
            "and dicts with text as keys; a Decimal or a date as text"
        )
    return value


_declared: dict[str, Step] = {}


def _place(function: Function) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', function)}"


def _refuse_unless_async(name: str, function: Function) -> None:
    if not inspect.iscoroutinefunction(function):
        raise ConfigurationError(f"step {name!r}: {_place(function)} is not async, and sagas run on the event loop")
