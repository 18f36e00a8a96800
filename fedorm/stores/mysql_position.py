"""Places in a binary log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, order=True, slots=True)
class LogPlace:
    """A place between two transactions. Files of one server have numbers as their endings."""

    number: int
    position: int
    file: str

    @classmethod
    def of(cls, file: str, position: int) -> LogPlace:
        """Make the place of what the server calls it."""
        ending = file.rpartition(".")[2]
        return cls(int(ending) if ending.isdigit() else 0, position, file)


@dataclass(frozen=True, slots=True)
class Position:
    """Where to go on: after what, and from where on the log has to be read to know it."""

    server: str
    after: LogPlace
    start: LogPlace
    """Before ``after`` if a transaction is prepared there that was not ended up to then (XA)."""

    def __str__(self) -> str:
        told: dict[str, Any] = {"server": self.server, "file": self.after.file, "position": self.after.position}
        if self.start != self.after:
            told["from"] = [self.start.file, self.start.position]
        return json.dumps(told)

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read what ``str()`` has written."""
        told = json.loads(text)
        after = LogPlace.of(told["file"], told["position"])
        return cls(told["server"], after, LogPlace.of(*told["from"]) if "from" in told else after)
