"""How a step went."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """What a step returned, and how long it took in milliseconds."""

    rows: int
    bytes: int
    milliseconds: float
