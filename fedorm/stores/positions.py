"""How far sync rules are, kept by a store that is no SQL database, beside what the rules write there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class SavedPosition:
    """What is kept of a rule; ``epoch`` is its owner's, and grows from owner to owner."""

    position: str
    version: int
    epoch: int
    saved_at: float


class PositionLog(Protocol):
    """Keeps a position for each rule; whoever saves one of a later owner's is refused."""

    async def claim(self, rule: str, epoch: int) -> SavedPosition | None:
        """Make a rule's position that of ``epoch`` unless it is a later one's; return it as it is then."""

    async def peek(self, rule: str) -> SavedPosition | None:
        """Return a rule's position, and change nothing."""

    async def save(self, handle: Any, rule: str, saved: SavedPosition) -> bool:
        """Save, within the transaction of ``RowAccess.begin()`` unless ``handle`` is None.

        False: it is a later owner's. A store that sees that at the commit alone raises ``StaleDocumentError`` there.
        """

    async def forget(self, rule: str) -> None:
        """Let the rule begin anew."""
