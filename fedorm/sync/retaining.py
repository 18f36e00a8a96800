"""The log that a server keeps for a rule alone, on its disk: looked at whoever carries the rule out, and limited."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from fedorm.exc import FeedLostError, StoreError
from fedorm.stores.feeds import ChangeFeed, Kept
from fedorm.sync.carrying import Carrying, log
from fedorm.sync.resolving import ResolvedRule
from fedorm.sync.strategies import CDC

if TYPE_CHECKING:
    from fedorm.sync.sync import Sync

MUCH = 10 * 2**30
"""How many bytes are told of where a rule sets no limit."""
_EVERY = 2.0
"""How often, in seconds, each process looks."""


async def guard_logs(sync: Sync) -> None:
    """Give up what is kept for rules beyond their limits, until cancelled: theirs who rest, fail, or wait, too.

    Every process that carries out any rules does so for all rules that it knows, as who should read a log may hang.
    """
    told: set[str] = set()
    while True:
        rules = [rule for rule in sync.rules.values() if isinstance(rule.strategy, CDC)]
        await asyncio.gather(*(_guarded(sync, rule, told) for rule in rules))
        await asyncio.sleep(_EVERY * random.uniform(0.5, 1.0))  # noqa: S311


async def _guarded(sync: Sync, rule: ResolvedRule, told: set[str]) -> None:
    try:
        await _look(sync, rule, told)
    except StoreError as error:
        log.debug("sync rule %r: what is kept for it cannot be looked at: %s", rule.name, error)
    except Exception as error:  # It must not end what carries out rules.
        log.warning("sync rule %r: what is kept for it cannot be looked at", rule.name, exc_info=error)


async def _look(sync: Sync, rule: ResolvedRule, told: set[str]) -> None:
    strategy, feed, accounts = rule.strategy, sync.feed(rule), sync.accounts(rule)
    assert isinstance(strategy, CDC)
    kept = await feed.kept()
    lost = [one for one in kept if one.lost]
    most = strategy.most_retained
    large = [one for one in kept if (one.bytes or 0) > (MUCH if most is None else most)]
    if not lost and (most is None or not large):
        _tell_much(rule, large, told)
        if large and rule.name in told:
            await accounts.warn(rule.name, _much(large))
        return
    noted = await accounts.lost(rule.name)
    if noted is None:  # Before it is done: who reads the log is to be told why.
        reasons = [f"the server has given up the {one.name} ({one.lost})" for one in lost]
        reasons += [f"the {one.name} kept {one.bytes:,} bytes of the log, more than most_retained" for one in large]
        noted = f"{'; '.join(reasons)}: {_advice(rule, strategy)}"
        await accounts.note_lost(rule.name, noted)
        log.error("sync rule %r: %s", rule.name, noted)
    if most is not None and large:
        await feed.give_up(most)
    again = await feed.kept()
    if again and all(_is_well(one, most) for one in again):
        await accounts.found(rule.name)  # It was begun anew meanwhile.


def _is_well(one: Kept, most: int | None) -> bool:
    return one.bytes is not None and not one.lost and (most is None or one.bytes <= most)


def _tell_much(rule: ResolvedRule, large: list[Kept], told: set[str]) -> None:
    if not large:
        told.discard(rule.name)
    elif rule.name not in told:
        told.add(rule.name)
        log.error("sync rule %r: %s", rule.name, _much(large))


def _much(large: list[Kept]) -> str:
    sizes = ", ".join(f"{one.bytes:,} bytes for the {one.name}" for one in large)
    return (
        f"the server keeps much of its log for it: {sizes}. See whether it is carried out, and its target is up; "
        f"CDC(most_retained=...) sets a limit"
    )


def _advice(rule: ResolvedRule, strategy: CDC) -> str:
    if strategy.resnapshot:
        return "a new snapshot is made as soon as the rule is carried out"
    return f"make a new snapshot, by  fedorm sync backfill {rule.name}"


async def unlimited_bytes(sync: Sync, rule: ResolvedRule) -> int | None:
    """Return how many bytes of its log a server keeps for a rule alone, without a limit; None if it does not."""
    if not isinstance(rule.strategy, CDC) or rule.strategy.most_retained is not None:
        return None
    sizes = [one.bytes for one in await sync.feed(rule).kept() if one.bytes is not None and not one.limited]
    return sum(sizes) if sizes else None


# -- who reads the log


async def begun(carrying: Carrying, feed: ChangeFeed) -> str:
    """Have a rule's log read from now on, and return the position."""
    position = await feed.create()
    await carrying.federation.sync.accounts(carrying.rule).found(carrying.rule.name)
    return position


async def why_lost(carrying: Carrying) -> FeedLostError | None:
    """Return what is known of why a rule's log was given up, which its reader is not told by the server."""
    noted = await carrying.federation.sync.accounts(carrying.rule).lost(carrying.rule.name)
    store = carrying.federation.stores[carrying.rule.source.service]
    return None if noted is None else FeedLostError(noted, service=store.service, address=store.address)
