"""What is kept of a statement: the rows as the driver gave them, before SQLAlchemy makes values and objects of them."""

from __future__ import annotations

import copy
import datetime
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any
from uuid import UUID

ADDRESSES: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)
}
_FIXED = frozenset(
    {type(None), bool, int, float, complex, str, bytes, Decimal, UUID, datetime.date, datetime.datetime, datetime.time}
    | {datetime.timedelta, *ADDRESSES.values()}
)
_SAMPLE = 1000
"""How many rows are measured; a larger result is taken to go on as these."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A result's rows, and the description of its columns as PEP 249 has it."""

    description: tuple[tuple[Any, ...], ...]
    rows: Sequence[tuple[Any, ...]]
    is_fixed: bool = field(init=False)
    """Whether no value can be changed in place, so that all who ask may be given the same."""

    def __post_init__(self) -> None:
        kinds = {type(value) for row in self.rows for value in row}
        object.__setattr__(self, "is_fixed", kinds <= _FIXED)

    def own(self) -> Rows:
        """Return rows that their taker may change in place."""
        return self if self.is_fixed else copy.deepcopy(self)

    def size(self) -> int:
        """Return about how many bytes of memory the rows take."""
        rows = self.rows
        if not rows:
            return sys.getsizeof(rows)
        sample = rows[:: max(1, len(rows) // _SAMPLE)]
        measured = sum(sys.getsizeof(row) + sum(map(_size, row)) for row in sample)
        return sys.getsizeof(rows) + measured * len(rows) // len(sample)


def _size(value: Any) -> int:
    size = sys.getsizeof(value)
    if isinstance(value, list | tuple | set | frozenset):
        return size + sum(map(_size, value))
    if isinstance(value, dict):
        return size + sum(_size(key) + _size(one) for key, one in value.items())
    return size
