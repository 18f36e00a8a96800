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


NOWHERE = LogPlace(-1, 0, "")
"""Before every place, in a log whose places are not known: it is read from a GTID on."""


class Gtids:
    """The last transaction of each replication domain while MariaDB's log is read, from where these are known on."""

    def __init__(self, known: str | None) -> None:
        listed = [one.strip() for one in (known or "").split(",")]
        self._last = {int(one.partition("-")[0]): one for one in listed if one}
        self._begun: tuple[int, str] | None = None

    def begin(self, domain: int, gtid: str) -> None:
        """Take in that a transaction begins."""
        self._begun = domain, gtid

    def end(self) -> None:
        """Take in that it has ended."""
        if self._last and self._begun is not None:
            domain, self._last[domain] = self._begun
        self._begun = None

    def told(self) -> str | None:
        """Return them as MariaDB lists them; None where they are not known."""
        return ",".join(self._last.values()) or None


@dataclass(frozen=True, slots=True)
class Position:
    """Where to go on: after what, and from where on the log has to be read to know it."""

    server: str
    after: LogPlace
    start: LogPlace
    """Before ``after`` if a transaction is prepared there that was not ended up to then (XA)."""
    gtid: str | None = None
    """What MariaDB calls that place in every server's log, where nothing was prepared."""

    def __str__(self) -> str:
        told: dict[str, Any] = {"server": self.server, "file": self.after.file, "position": self.after.position}
        if self.start != self.after:
            told["from"] = [self.start.file, self.start.position]
        elif self.gtid:
            told["gtid"] = self.gtid
        return json.dumps(told)

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read what ``str()`` has written."""
        told = json.loads(text)
        after = LogPlace.of(told["file"], told["position"])
        start = LogPlace.of(*told["from"]) if "from" in told else after
        return cls(told["server"], after, start, told.get("gtid"))
