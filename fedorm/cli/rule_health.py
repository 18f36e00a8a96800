"""Sync rules as ``fedorm doctor`` finds them: what stands against each, whether it lags, or has failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import typer
from sqlalchemy.exc import SQLAlchemyError

from fedorm.cli.failing import one_line
from fedorm.cli.service_health import LATE, show_finding
from fedorm.cli.setup import Setup
from fedorm.cli.tables import show_table
from fedorm.exc import ConfigurationError, FedormError, FeedLostError
from fedorm.federation import Federation
from fedorm.stores.findings import Finding
from fedorm.sync.checking import findings_of
from fedorm.sync.homes import positions_of
from fedorm.sync.resolving import ResolvedRule
from fedorm.sync.retaining import MUCH, unlimited_bytes
from fedorm.sync.status import RuleStatus, named
from fedorm.sync.strategies import CDC, Batch, RealTime

T = TypeVar("T")
_RECENT = 300.0
"""For how long a lag that was measured says something of now: one of events is measured when there are some."""
_AT_REST = {"stopped", "new", "paused"}


@dataclass(slots=True)
class FoundRule:
    """A rule's state as the doctor found it; ``lag`` in seconds, ``lag_bytes`` of its source's log."""

    rule: str
    source: str | None = None
    target: str | None = None
    strategy: str | None = None
    state: str = "invalid"
    lag: float | None = None
    lag_bytes: int | None = None
    dead_letters: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        """What has to be mended."""
        return [finding for finding in self.findings if finding.is_error]


def rules_of(federation: Federation) -> tuple[list[ResolvedRule], FoundRule | None]:
    """Return the rules between the services of a federation, or what is wrong with one of them."""
    try:
        return list(federation.sync.rules.values()), None
    except ConfigurationError as error:
        mend = "correct it where the models are declared"
        return [], FoundRule("(all)", findings=[Finding(one_line(error), mend)])


async def examine_rules(
    federation: Federation, rules: Sequence[ResolvedRule], down: Mapping[str, FedormError], *, limit: float
) -> list[FoundRule]:
    """Look at all rules at once, each within ``limit`` seconds for each thing that is asked."""
    if not rules:
        return []
    return list(await asyncio.gather(*(_look(federation, rule, down, limit) for rule in rules)))


async def _look(federation: Federation, rule: ResolvedRule, down: Mapping[str, FedormError], limit: float) -> FoundRule:
    found = FoundRule(rule.name, strategy=rule.strategy.name)
    away = sorted(rule.services & down.keys())
    if away:
        _put(found, named(rule, "unknown"))
        found.findings.append(Finding(f"service {', '.join(away)} is down", "see there", "reach"))
        return found
    one = await _within(limit, rule, federation.sync.ask(rule))
    if isinstance(one, Finding):
        _put(found, named(rule, "unknown"))
        found.findings.append(one)
        return found
    _put(found, one)
    lacking = await _within(limit, rule, findings_of(federation.sync, rule))
    found.findings += [lacking] if isinstance(lacking, Finding) else map(_for_opening, lacking)
    behind = await _within(limit, rule, _behind(federation, rule))
    if isinstance(behind, Finding):
        found.findings.append(behind)
    else:
        found.lag_bytes = behind
        found.findings += _too_much(rule, behind)
    kept = await _within(limit, rule, unlimited_bytes(federation.sync, rule))
    found.findings += [kept] if isinstance(kept, Finding) else _unlimited(kept)
    found.findings += _of_status(rule, one)
    return found


def _put(found: FoundRule, one: RuleStatus) -> None:
    found.source, found.target, found.state = one.source, one.target, one.state
    found.lag, found.dead_letters = one.lag_seconds, one.dead_letters


async def _within(limit: float, rule: ResolvedRule, asking: Awaitable[T]) -> T | Finding:
    """Return an answer, or that there was none in time or an error in its place."""
    try:
        async with asyncio.timeout(limit):
            return await asking
    except TimeoutError:
        return Finding(f"no answer within {limit:g} s", "see its services", "reach")
    except FeedLostError as error:
        return Finding(one_line(error), f"run  fedorm sync backfill {rule.name}", "lag")
    except FedormError as error:
        return Finding(one_line(error), "see its services", "reach")
    except SQLAlchemyError as error:
        return Finding(one_line(error), "see what the servers let their users look at", "privilege")


def _for_opening(finding: Finding) -> Finding:
    """Say with what a server lacks that it keeps a federation from opening."""
    mend = finding.mend or "change that at the server"
    return replace(finding, mend=f"{mend};  until then the federation does not open")


async def _behind(federation: Federation, rule: ResolvedRule) -> int | None:
    """Return how many bytes of its source's log a rule has not read yet; None where that is not known.

    Raises ``FeedLostError`` where the log does not reach back to where the rule is.
    """
    if not isinstance(rule.strategy, CDC):
        return None
    position = await positions_of(rule, federation.stores).peek()
    if position is None or position.feed is None:
        return None
    return (await federation.sync.feed(rule).backlog(position.feed)).bytes


def _too_much(rule: ResolvedRule, behind: int | None) -> Iterator[Finding]:
    if isinstance(rule.strategy, CDC) and behind is not None and behind > (rule.strategy.most_retained or MUCH):
        yield Finding(
            f"its source's log has {behind / 2**20:.0f} MiB that were not read",
            f"let  fedorm sync run  read them, or give the rule up:  fedorm sync reset {rule.name}",
            "lag",
        )


def _unlimited(kept: int | None) -> Iterator[Finding]:
    """Tell of a log that nothing limits: somebody may want it so."""
    if kept is not None:
        yield Finding(
            f"PostgreSQL keeps its log for it until it is read ({kept:,} bytes now), so that the disk fills while "
            "nobody carries it out",
            "set a limit by  CDC(most_retained=...)  or  max_slot_wal_keep_size",
            "lag",
            is_error=False,
        )


def _of_status(rule: ResolvedRule, one: RuleStatus) -> Iterator[Finding]:
    """Say what its account says against a rule."""
    if one.state == "unknown":
        yield Finding(one.last_error or "its services do not say how it does", "see its services", "reach")
    elif one.state == "failed":
        lost = f"end its cause; what its log has lost is made up for by  fedorm sync backfill {rule.name}"
        yield Finding(one.last_error or "it has failed", lost, "lag")
    elif one.dead_letters:
        problem = f"{one.dead_letters} row(s) could not be synced"
        yield Finding(problem, f"see  fedorm sync dead-letters list {rule.name}", "lag")
    else:
        late = _late(rule, one)
        if late is not None:
            yield Finding(late, "see whether its services are slow, and what its process logs", "lag")


def _late(rule: ResolvedRule, one: RuleStatus) -> str | None:
    if one.state in _AT_REST or one.last_sync_at is None:
        return None
    ago, strategy = time.time() - one.last_sync_at, rule.strategy
    if one.lag_seconds is not None and one.lag_seconds > LATE and ago < _RECENT:
        return f"its target is {one.lag_seconds:.0f} s behind"
    pause = strategy.every if isinstance(strategy, Batch) else strategy.poll if isinstance(strategy, RealTime) else None
    if pause is not None and one.state == "waiting" and ago > pause + LATE:
        return f"it was last synced {ago:.0f} s ago, and should be every {pause:g} s"
    return None


def show_rules(setup: Setup, found: Sequence[FoundRule]) -> None:
    """Write the rules for people, and what several of them lack once."""
    if not found:
        return
    typer.echo()
    show_table(
        ["rule", "from", "to", "strategy", "state", "lag", "log not read", "dead letters"],
        [
            (
                *(one.rule, one.source or "", one.target or "", one.strategy or "", one.state),
                "" if one.lag is None else f"{one.lag:.1f} s",
                "" if not one.lag_bytes else f"{one.lag_bytes / 2**20:.1f} MiB",
                one.dead_letters or "",
            )
            for one in found
        ],
    )
    together: dict[Finding, list[str]] = {}
    for one in found:
        for finding in one.findings:
            together.setdefault(finding, []).append(one.rule)
    for finding, names in together.items():
        show_finding(", ".join(names), replace(finding, problem=setup.scrub(finding.problem)))


def notes_on_rules(found: Sequence[FoundRule]) -> list[str]:
    """Return what is worth knowing, and no error."""
    resting = [one.rule for one in found if one.state in ("stopped", "new")]
    notes = [f"nobody carries out the sync rules {', '.join(resting)}: let  fedorm sync run  do so"] if resting else []
    paused = [one.rule for one in found if one.state == "paused"]
    if paused:
        notes.append(f"the sync rules {', '.join(paused)} are paused: fedorm sync resume")
    return notes
