"""What a federation has done: figures over a bounded window, and the hooks by which it is watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Observed(Protocol):
    """A statement or a step that runs; ``rows`` may be set when it has returned some."""

    rows: int | None
    """How many rows came, None where that is not known."""


class Observer(Protocol):
    """Watches the statements of a federation. An error that leaves a block has ended what the block watched."""

    def statement(self, sent: Callable[[], str]) -> AbstractContextManager[Observed]:
        """Watch a statement that a session was given; ``sent`` returns its text with placeholders."""

    def step(
        self, service: str, name: str, sent: Callable[[], str], strategy: str = ""
    ) -> AbstractContextManager[Observed]:
        """Watch one step of a statement, at one service; ``sent`` returns what is sent there, called only if needed."""


class _Unseen:
    """What nobody looks at."""

    rows: int | None = None


class Unobserved:
    """The observer of a federation that nobody watches."""

    @contextmanager
    def statement(self, sent: Callable[[], str]) -> Iterator[Observed]:
        """Do nothing."""
        yield _Unseen()

    @contextmanager
    def step(self, service: str, name: str, sent: Callable[[], str], strategy: str = "") -> Iterator[Observed]:
        """Do nothing."""
        yield _Unseen()


UNOBSERVED = Unobserved()
"""What a ``QueryRunner`` starts with."""
