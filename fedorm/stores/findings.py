"""What is not as it has to be at a service, each with what to do; and what its models need of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Table

About = Literal["reach", "version", "privilege", "setting", "table", "drift", "in doubt", "lag"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and its mend: a statement to run, a setting to change."""

    problem: str
    mend: str
    about: About = "setting"
    is_error: bool = True
    """Whether something that is asked of the service will fail; else it is as somebody may have wanted it."""

    def __str__(self) -> str:
        return f"{self.problem}: {self.mend}" if self.mend else self.problem


@dataclass(frozen=True, slots=True)
class Needs:
    """What a service is asked whether it can do."""

    tables: Sequence[Table] = ()
    """Those of the models, and of what rules read and write."""
    documents: Sequence[type[Any]] = ()
    own: Sequence[Table] = ()
    """Tables of fedorm's own, which it makes where they are not there."""
    written: frozenset[str] = frozenset()
    """The names of tables and collections that fedorm itself writes to."""
    woken: frozenset[str] = frozenset()
    """The names of tables whose changes rules want to be told of at once, by a trigger where there are such."""
    two_phase: bool = False
    transactions: str | None = None
    """What cannot do without transactions, in words."""
    compares: bool = True
    """Whether to look for tables and columns that are not there: no history of the service's says more."""


def too_old(name: str, version: str, oldest: Sequence[int]) -> Finding | None:
    """Return what stands against a server's version, as it has told it itself."""
    there = [int(part) for part in re.findall(r"\d+", version.partition("-")[0])[: len(oldest)]]
    if not there or there >= list(oldest):
        return None
    wanted = ".".join(map(str, oldest))
    return Finding(
        f"it is {name} {version}, which fedorm does not know", f"bring it to {name} {wanted} or later", "version"
    )


def listed(names: Sequence[str]) -> str:
    """Write a list of names, the first ten of them."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
