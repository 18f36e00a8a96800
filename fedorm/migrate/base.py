"""What a history is, whatever its database: revisions in a folder, one of which the database is at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Report = Callable[[str, str], None]
"""Told of each step: the service, and what is done."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One step of a history."""

    id: str
    down: tuple[str, ...]
    """The revisions that it follows; none for the first."""
    message: str
    path: Path
    is_head: bool = False


@dataclass(frozen=True, slots=True)
class Drift:
    """A difference between what models declare and what the database has."""

    service: str
    table: str
    """The table or collection; empty for what belongs to none."""
    what: str


class History(ABC):
    """The history of one service. Raises ``MigrationError``, and ``StoreError`` for what is the service's fault."""

    service: str
    directory: Path

    @property
    @abstractmethod
    def exists(self) -> bool:
        """Whether it was begun."""

    @property
    def is_adopted(self) -> bool:
        """Whether it names what databases are compared with by itself; else these are the models that are imported."""
        return False

    @abstractmethod
    def init(self) -> list[Path]:
        """Begin it: write what its folder needs, and return the files; those that are there stay as they are."""

    @abstractmethod
    def adopt(self, folder: Path) -> list[Path]:
        """Let a folder that is there already be this history; return the files that were written."""

    @abstractmethod
    def revisions(self) -> list[Revision]:
        """Return all revisions, the newest first."""

    @abstractmethod
    def heads(self) -> list[str]:
        """Return the ids of those that no other follows."""

    @abstractmethod
    def find(self, name: str) -> None:
        """Raise ``MigrationError`` unless there is a revision of that name; relative ones are not looked for."""

    @abstractmethod
    async def current(self) -> list[str]:
        """Return what the database is at: nothing before the first revision."""

    @abstractmethod
    async def revision(self, message: str, *, autogenerate: bool = False) -> Path | None:
        """Write a new revision; None if it was to be found out what has changed, and nothing has."""

    @abstractmethod
    async def upgrade(self, to: str = "heads", *, report: Report | None = None) -> list[str]:
        """Go forward to a revision and return those that were carried out."""

    @abstractmethod
    async def downgrade(self, to: str, *, report: Report | None = None) -> list[str]:
        """Go back to a revision, ``base`` for before the first, and return those that were undone."""

    @abstractmethod
    async def stamp(self, to: str) -> None:
        """Say that the database is at a revision, and change nothing else."""

    @abstractmethod
    async def sql(self, to: str = "heads", *, start: str | None = None) -> str:
        """Return what an upgrade would send, as a script; asks no server."""

    @abstractmethod
    async def check(self) -> list[Drift]:
        """Compare the models with the database."""

    def behind(self, there: Sequence[str], heads: Sequence[str]) -> Drift:
        """Return the difference between what the database is at and the newest revisions."""
        return Drift(
            self.service,
            "",
            f"the database is at {', '.join(there) or 'base'}, the newest revision is {', '.join(heads) or 'none'}: "
            f"run  fedorm migrate upgrade --service {self.service}",
        )
