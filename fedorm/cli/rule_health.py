"""Sync rules as ``fedorm doctor`` finds them: what stands against each, whether it lags, or has failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import typer

from fedorm.cli.failing import one_line
from fedorm.cli.setup import Setup
from fedorm.cli.tables import show_table
from fedorm.config import FederationSettings
from fedorm.exc import ConfigurationError, FedormError
from fedorm.federation import Federation
from fedorm.recovery import opened
from fedorm.stores.base import store_for
from fedorm.sync.checking import check_server
from fedorm.sync.resolving import ResolvedRule
from fedorm.sync.retaining import unlimited_bytes
from fedorm.sync.rule import declared_rules
from fedorm.sync.status import RuleStatus
from fedorm.sync.strategies import Batch, RealTime

LATE = 60.0
"""By how many seconds a rule may be behind, or a pass be late, before that is told."""
_RECENT = 300.0
"""For how long a lag that was measured says something of now: one of events is measured when there are some."""
_AT_REST = {"stopped", "new", "paused"}


@dataclass(frozen=True, slots=True)
class FoundRule:
    """A rule's state as the doctor found it; ``lag`` in seconds."""

    rule: str
    source: str | None = None
    target: str | None = None
    strategy: str | None = None
    state: str = "invalid"
    lag: float | None = None
    dead_letters: int = 0
    error: str | None = None
    advice: str | None = None
    unlimited: int | None = None
    """How many bytes of its log the server keeps for the rule alone, if nothing limits that."""


async def examine_rules(settings: FederationSettings) -> list[FoundRule]:
    """Look at the rules between the services that can be looked at."""
    if not declared_rules():
        return []
    services = {name: one for name, one in settings.services.items() if _has_store(name, settings)}
    try:
        federation = Federation(settings.model_copy(update={"services": services}))
        rules = federation.sync.rules
    except ConfigurationError as error:
        return [FoundRule("(all)", error=one_line(error), advice="correct it where the models are declared")]
    if not rules:
        return []
    async with opened(federation.stores) as down:
        found = await federation.sync.status()
        looks = [_look(federation, rules[one.name], one, down) for one in found]
        return list(await asyncio.gather(*looks))


def _has_store(name: str, settings: FederationSettings) -> bool:
    try:
        store_for(name, settings.services[name])
    except ConfigurationError:  # Told of where the services are.
        return False
    return True


async def _look(federation: Federation, rule: ResolvedRule, one: RuleStatus, down: dict[str, FedormError]) -> FoundRule:
    found = FoundRule(one.name, one.source, one.target, one.strategy, one.state, one.lag_seconds, one.dead_letters)
    away = sorted(rule.services & down.keys())
    if away:
        return replace(found, state="unknown", error=f"service {', '.join(away)} is down", advice="see there")
    try:
        problems = await check_server(federation.sync, rule)
        found = replace(found, unlimited=await unlimited_bytes(federation.sync, rule))
    except FedormError as error:
        problems = [one_line(error)]
    told = [problem.removeprefix(f"sync rule {rule.name!r}: ") for problem in problems]
    wrong, advice = _against(rule, one, told)
    return replace(found, error=wrong, advice=advice)


def _against(rule: ResolvedRule, one: RuleStatus, problems: Sequence[str]) -> tuple[str | None, str | None]:
    """Return what is wrong with a rule, the worst of it, and what to do."""
    if problems:
        return "; ".join(problems), "change that at the server: until then the federation does not open"
    if one.state in ("failed", "unknown"):
        lost = f"end its cause; what its log has lost is made up for by  fedorm sync backfill {rule.name}"
        return one.last_error or "it has failed", lost
    if one.dead_letters:
        return f"{one.dead_letters} row(s) could not be synced", f"see  fedorm sync dead-letters list {rule.name}"
    late = _late(rule, one)
    if late is not None:
        return late, "see whether its services are slow, and what its process logs"
    return None, None


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
    """Write the rules for people."""
    if not found:
        return
    typer.echo()
    show_table(
        ["rule", "from", "to", "strategy", "state", "lag", "dead letters"],
        [
            (
                *(one.rule, one.source or "", one.target or "", one.strategy or "", one.state),
                "" if one.lag is None else f"{one.lag:.1f} s",
                one.dead_letters or "",
            )
            for one in found
        ],
    )
    for one in found:
        if one.error is not None:
            typer.echo(f"\n{one.rule}: {setup.scrub(one.error)}\n  what to do: {one.advice}")


def notes_on_rules(found: Sequence[FoundRule]) -> list[str]:
    """Return what is worth knowing, and no error."""
    resting = [one.rule for one in found if one.state in ("stopped", "new")]
    notes = [f"nobody carries out the sync rules {', '.join(resting)}: let  fedorm sync run  do so"] if resting else []
    paused = [one.rule for one in found if one.state == "paused"]
    if paused:
        notes.append(f"the sync rules {', '.join(paused)} are paused: fedorm sync resume")
    kept = [f"{one.rule} ({one.unlimited:,} bytes now)" for one in found if one.unlimited is not None]
    if kept:
        notes.append(
            f"PostgreSQL keeps its log for the sync rules {', '.join(kept)} until it is read, so that the disk fills "
            f"while nobody carries them out: set a limit by  CDC(most_retained=...)  or  max_slot_wal_keep_size"
        )
    return notes
