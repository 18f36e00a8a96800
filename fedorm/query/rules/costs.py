"""What reading costs, in milliseconds: enough to choose between ways that differ by far.

The figures are from two cores and servers on the same machine.
"""

from __future__ import annotations

import math

_SCANNED = 5e-5
"""A row that a server looks at."""
_MADE = 4e-3
"""A row that comes over the session's connection and becomes a Python tuple."""
_STREAMED = 3e-4
"""A row that DuckDB reads by itself."""
_AGGREGATED = 1.5e-4
"""A row that a server looks at and adds to a group."""
_KEY = 1e-3
"""A key that is sent, and looked up."""
_ROUND_TRIP = 0.5
_ATTACHED = 5.0
"""What a read by DuckDB takes before its first row."""


def inside(total: float, wanted: float) -> float:
    """Return the cost of reading ``wanted`` of ``total`` rows over the session's connection."""
    return _ROUND_TRIP + total * _SCANNED + wanted * _MADE


def outside(total: float, wanted: float, *, filters: bool) -> float:
    """Return the cost of letting DuckDB read; ``filters``: the server leaves out what is not wanted."""
    return _ATTACHED + total * _SCANNED + (wanted if filters else total) * _STREAMED


def grouped(total: float, groups: float) -> float:
    """Return the cost of letting the server aggregate ``total`` rows into ``groups``."""
    return _ROUND_TRIP + total * _AGGREGATED + groups * _MADE


def most_keys(total: float, each: float, cost: float, *, batch: int, indexed: bool) -> int:
    """Return with how many keys a lookup costs more than ``cost``; ``each`` finds so many rows."""
    return int(
        max(0.0, cost - lookup(total, 0, 0, batch=batch, indexed=indexed)) / lookup_each(total, each, batch, indexed)
    )


def lookup_each(total: float, each: float, batch: int, indexed: bool) -> float:
    """Return what one key more costs."""
    return _KEY + each * _MADE + (_ROUND_TRIP + (0.0 if indexed else total * _SCANNED)) / batch


def lookup(total: float, keys: float, wanted: float, *, batch: int, indexed: bool) -> float:
    """Return the cost of sending ``keys``, ``batch`` at a time, and reading the ``wanted`` rows that have them."""
    each = _ROUND_TRIP + (0.0 if indexed else total * _SCANNED)
    return math.ceil(keys / batch) * each + keys * _KEY + wanted * _MADE
