"""Processes that are killed in the middle of their work, and what they have said until then."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from typing import Any


def watched(pipe: Any, dies_at: str | None) -> Callable[[str], None]:
    """What a child does at each named point: it says over ``pipe`` that it has come there, or it dies."""
    seen: set[str] = set()

    def reached(point: str) -> None:
        if point == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if point not in seen:
            seen.add(point)
            pipe.send(("point", point))

    return reached


@dataclass
class Child:
    """A process, and what it has said so far."""

    process: Any
    pipe: Any
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    points: list[str] = field(default_factory=list)
    is_open: bool = False
    ended: bool = False
    is_dead: bool = False

    @classmethod
    def start(cls, processes: ForkServerContext, work: Callable[..., None], order: Any) -> Child:
        ours, theirs = processes.Pipe()
        process = processes.Process(target=work, args=(order, theirs), daemon=True)
        process.start()
        theirs.close()
        return cls(process, ours)

    def listen(self, seconds: float) -> None:
        """Take in what it says, until it is dead or at its end, has just opened its federation, or the time is over."""
        until = time.monotonic() + seconds
        try:
            while not self.ended and self.pipe.poll(max(0.0, until - time.monotonic())):
                kind, said = self.pipe.recv()
                match kind:
                    case "open":
                        self.is_open = True
                        return
                    case "done":
                        self.done.add(said)
                    case "failed":
                        self.failed[said[0]] = said[1]
                    case "point":
                        self.points.append(said)
                    case "end":
                        self.ended = True
        except (EOFError, ConnectionResetError):
            self.is_dead = True

    def kill(self) -> None:
        """Kill it, and take in the rest of what it has said."""
        self.process.kill()
        self.process.join()
        while not self.is_dead and not self.ended:
            self.listen(5)
        self.pipe.close()


def release(urls: Iterable[str]) -> None:
    """Let MongoDB end the transactions of the dead at once: by itself it would keep their locks for a minute."""
    import pymongo

    for url in urls:
        if url.startswith("mongodb"):
            with pymongo.MongoClient(url) as client:
                client.admin.command({"killAllSessions": []})
