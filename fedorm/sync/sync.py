"""``fed.sync``: the rules of a federation, carried out, looked at and looked after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.exc import DBAPIError

from fedorm.exc import StoreError
from fedorm.relay.outbox import Outbox, WithOutbox
from fedorm.stores.base import Store, batches
from fedorm.stores.feeds import ChangeFeed
from fedorm.stores.findings import Finding
from fedorm.stores.rows import Key
from fedorm.sync.accounts import LEASE, Accounts, Progress
from fedorm.sync.backfilling import Filled, fill, rewind
from fedorm.sync.brokers.running import ThroughBroker
from fedorm.sync.carrying import Carrying
from fedorm.sync.checking import check_server, resolved_rules
from fedorm.sync.dead_letters import DeadLetter, DeadLetters
from fedorm.sync.errors import SyncRuleError, UnknownRuleError
from fedorm.sync.events import EventTarget
from fedorm.sync.excluding import taken, wished
from fedorm.sync.feeding import feed_of, untold
from fedorm.sync.generating import advance
from fedorm.sync.homes import fences_of, home_of, partition_positions, positions_of
from fedorm.sync.keys import key_of_json
from fedorm.sync.positions import Positions
from fedorm.sync.resolving import ResolvedRule
from fedorm.sync.retaining import guard_logs
from fedorm.sync.rule import SyncRule, hear_for
from fedorm.sync.running import RuleRunner, leased
from fedorm.sync.status import RuleStatus, Statuses, lag_now, named, status_of
from fedorm.sync.strategies import EventDriven
from fedorm.sync.verifying import Verified, verify

if TYPE_CHECKING:
    from fedorm.federation import Federation


class Sync(ThroughBroker):
    """The sync rules between services of a federation.

    They are those of models and functions that were imported by the time they are first asked for, and those that are
    added. A rule for a service that the federation does not have is left out.
    """

    def __init__(self, federation: Federation, *, lease: float = LEASE) -> None:
        super().__init__()
        self._federation = federation
        self._added: list[SyncRule] = []
        self._rules: dict[str, ResolvedRule] | None = None
        self._accounts: dict[str, Accounts] = {}
        self._runners: dict[str, RuleRunner] = {}
        self._known: dict[str, RuleStatus] = {}
        self.lease = lease
        """For how many seconds a rule stays its owner's after that was last heard of."""

    # -- rules

    def add(self, rule: SyncRule) -> None:
        """Add a rule for models or tables; it says its ``source``. Raises ``SyncRuleError``."""
        if rule.source is None:
            raise SyncRuleError(f"{rule}: say whose changes it is for:  SyncRule(source=..., to=...)")
        hear_for(rule)
        self._added.append(rule)
        before, self._rules = self._rules, None
        try:
            rules = self.rules
        except SyncRuleError:
            self._added.remove(rule)
            self._rules = before
            raise
        if "outbox" in vars(self._federation):
            known = {target.name for target in self._federation.outbox.targets}
            for target in event_targets(self, rules.values()):
                if target.name not in known:
                    self._federation.outbox.add(target, attempts=None)

    @property
    def rules(self) -> dict[str, ResolvedRule]:
        """The rules by name. Raises ``SyncRuleError`` for one that cannot be."""
        if self._rules is None:
            self._rules = resolved_rules(self._federation, self._added)
        return self._rules

    def rule(self, name: str) -> ResolvedRule:
        """Return a rule by its name. Raises ``UnknownRuleError``."""
        rule = self.rules.get(name)
        if rule is None:
            raise UnknownRuleError(name, sorted(self.rules))
        return rule

    async def check(self) -> None:
        """Ask the servers whether the rules can work there. Raises ``SyncRuleError`` that names all that is missing."""
        checks = (check_server(self, rule) for rule in self.rules.values())
        # To the end of all of them: none is to be at work still when the federation closes for what one has raised.
        found = await asyncio.gather(*checks, return_exceptions=True)
        problems: list[str] = []
        for one in found:
            if isinstance(one, BaseException):
                raise one
            problems += one
        if problems:
            raise SyncRuleError("; ".join(problems))

    # -- what a rule needs

    def store(self, service: str) -> Store:
        """Return a service's store."""
        return self._federation.stores[service]

    def accounts(self, rule: ResolvedRule) -> Accounts:
        """Return the accounts of the service that keeps a rule's."""
        store = home_of(rule, self._federation.stores)
        if store.service not in self._accounts:
            self._accounts[store.service] = Accounts(store, lease=self.lease)
        return self._accounts[store.service]

    def carrying(self, rule: ResolvedRule, *, epoch: int, progress: Progress | None = None) -> Carrying:
        """Return what carrying a rule out takes, for an owner of that epoch."""
        stores, mapping = self._federation.stores, rule.mapping
        target = stores[rule.target.service].row_access(mapping.target)
        target.as_replica = rule.declared.as_replica
        several = any(one is not rule and one.target.place is rule.target.place for one in self.rules.values())
        return Carrying(
            self._federation,
            rule,
            stores[rule.source.service].row_access(mapping.source),
            target,
            positions_of(rule, stores),
            self.letters(rule),
            epoch,
            progress or Progress(),
            shared=several and not rule.declared.owns,
            is_one_of_several=several,
        )

    def letters(self, rule: ResolvedRule) -> DeadLetters:
        """Return the dead letters of a rule."""
        return DeadLetters(rule.name, home_of(rule, self._federation.stores))

    def partition_positions(self, rule: ResolvedRule, partition: int) -> Positions:
        """Return how far a partition of a rule that goes through a broker was written."""
        return partition_positions(rule, partition, self._federation.stores)

    def fences(self, rule: ResolvedRule, tokens: Mapping[int, int]) -> list[tuple[Positions, int]]:
        """Return what keeps relays from writing to a rule's target too late, by the tokens of their partitions."""
        fences = fences_of(rule, tokens, self._federation.stores)
        return [(positions, tokens[partition]) for partition, positions in fences.items()]

    def feed(self, rule: ResolvedRule) -> ChangeFeed:
        """Return what reads the log for a rule."""
        return feed_of(self._federation, rule)

    async def untold(self, rule: ResolvedRule) -> list[Finding]:
        """Return why the log does not tell all that a rule has to know of related rows."""
        return await untold(self._federation, rule)

    # -- carrying them out

    async def run(self, rules: Iterable[str] | None = None, *, grace: float = 30.0) -> None:
        """Carry out these rules, or all, until cancelled or until ``stop()``.

        The batches in hand are ended then, within ``grace`` seconds. Any number of processes may do so at once: each
        rule is one's at a time, and another's within ``lease`` seconds after that has died. What services, rows or the
        rules' own code do wrong is retried, or put aside, and ends nothing. Event-driven rules go through the relay of
        the outbox, which is run here, too; those that go through a broker are left to ``publish()`` and ``apply()``.
        """
        await self._run([RuleRunner(self, rule) for rule in self.chosen(rules, through=False)], grace)

    async def _run(self, runners: Sequence[RuleRunner], grace: float) -> None:
        self._runners.update({runner.rule.name: runner for runner in runners})
        tasks = [asyncio.create_task(runner.run()) for runner in runners]
        followed = [runner.rule for runner in runners if isinstance(runner.rule.strategy, EventDriven)]
        sources = sorted({rule.source.service for rule in followed})
        if sources:
            tasks.append(asyncio.create_task(self._federation.outbox.run(sources)))
        guarding = asyncio.create_task(guard_logs(self))
        try:
            await self._until_stopped(runners[0], tasks)
        finally:
            guarding.cancel()
            self.stop()
            if sources:
                self._federation.outbox.stop()
            _, late = await asyncio.shield(asyncio.wait(tasks, timeout=grace))
            for task in late:
                task.cancel()
            await asyncio.gather(guarding, *tasks, return_exceptions=True)
            for runner in runners:
                self._known[runner.rule.name] = self._here(runner.rule, ended=True)
                self._runners.pop(runner.rule.name, None)

    @staticmethod
    async def _until_stopped(runner: RuleRunner, tasks: Iterable[asyncio.Task[Any]]) -> None:
        told = asyncio.create_task(runner.ending.wait())  # As all of them are.
        pending: set[asyncio.Task[Any]] = {told, *tasks}
        try:
            while told in pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            told.cancel()

    def stop(self) -> None:
        """End every ``run()``, ``publish()`` and ``apply()`` of this federation after the batches in hand."""
        for runner in self._runners.values():
            runner.stop()
        for applier in self._appliers:
            applier.stop()

    @asynccontextmanager
    async def running(self, rules: Iterable[str] | None = None) -> AsyncIterator[None]:
        """Carry rules out as long as the block runs."""
        task = asyncio.create_task(self.run(rules))
        try:
            yield
        finally:
            self.stop()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @asynccontextmanager
    async def exclusively(self, name: str, *, wait: float = 60.0) -> AsyncIterator[Carrying]:
        """Own a rule, whoever carries it out: that one lets go of it first, and goes on after the block."""
        rule = self.rule(name)
        accounts = self.accounts(rule)
        async with wished(accounts, name, wait):
            epoch = await taken(accounts, name, name, wait)
            carrying = self.carrying(rule, epoch=epoch, progress=Progress(state="running"))
            async with leased(accounts, carrying, even_paused=True):
                yield carrying

    # -- looking after them

    async def backfill(self, name: str, *, progress: Callable[[Filled], None] | None = None) -> Filled:
        """Go through the whole source of a rule and bring the target to what it should be; return what was done.

        ``progress`` is called after each page. Interrupted, it goes on from the last page when it is called again, or
        when the rule is carried out next. Of a rule that goes through a broker it only returns that all rows will be
        published again.
        """
        async with self.exclusively(name) as carrying:
            if carrying.rule.through is not None:
                return await rewind(self, carrying)
            return await fill(self, carrying, progress)

    async def verify(self, name: str, *, repair: bool = False, sample: int = 100, page: int = 2_000) -> Verified:
        """Compare source and target by ranges of keys, and return which rows differ.

        While changes are under way a row may differ for a moment: those that do are looked at again before they count.
        With ``repair`` they are mended; the rule is paused meanwhile.
        """
        if repair:
            async with self.exclusively(name) as carrying:
                return await verify(carrying, repair=True, sample=sample, page=page)
        return await verify(self.carrying(self.rule(name), epoch=0), repair=False, sample=sample, page=page)

    async def advance_keys(self, name: str) -> int | None:
        """Let the target's database give out no key that its rows have, or that the source's has given out before.

        For a target that is to be written to by others from now on: what a rule writes has keys already, which a
        sequence of PostgreSQL's does not notice. Return the last key that is taken; None where none are given out.
        """
        rule = self.rule(name)
        return await advance(rule, self.store(rule.source.service), self.store(rule.target.service))

    async def pause(self, name: str) -> None:
        """Let a rule rest, in whichever process, until ``resume()``."""
        await self.accounts(self.rule(name)).pause(name, True)

    async def resume(self, name: str) -> None:
        """Let a paused rule go on."""
        await self.accounts(self.rule(name)).pause(name, False)

    async def reset(self, name: str) -> None:
        """Forget how far a rule has come, and remove what its strategy has made at the source, a slot for example."""
        rule = self.rule(name)
        async with self.exclusively(name) as carrying:
            if rule.strategy.name == "cdc":
                await self.feed(rule).drop()
                await self.accounts(rule).found(name)
            await carrying.positions.forget()

    async def dead_letters(self, name: str) -> list[DeadLetter]:
        """Return the rows that a rule could not sync."""
        return await self.letters(self.rule(name)).all()

    async def retry_dead_letters(self, name: str, ids: Collection[str] | None = None) -> int:
        """Read these rows anew, or all, and sync them as they are now; return how many have gone through."""
        rule = self.rule(name)
        async with self.exclusively(name) as carrying:
            letters = carrying.letters
            chosen = await letters.all(ids)
            before = await letters.count()
            keys: list[Key] = [key_of_json(letter.key, rule.mapping.source) for letter in chosen]
            for part in batches(keys, 1_000):
                await carrying.write_apart(await carrying.work_of_keys(part), await carrying.positions.peek())
            return before - await letters.count()

    async def drop_dead_letters(self, name: str, ids: Collection[str] | None = None) -> int:
        """Give up rows that could not be synced, these or all, and return how many."""
        return await self.letters(self.rule(name)).drop(ids)

    # -- how they do

    def status(self) -> Statuses:
        """Return how each rule does as far as this process knows; ``await fed.sync.status()`` asks the services.

        A list either way, in the order of the rules' names.
        """
        return Statuses([self._here(rule) for _, rule in sorted(self.rules.items())], self._ask)

    def known(self) -> list[RuleStatus]:
        """Return how those rules do that this process carries out, or has asked about."""
        return [one for one in self.status() if one.name in self._known or one.name in self._runners]

    def _here(self, rule: ResolvedRule, *, ended: bool = False) -> RuleStatus:
        known = self._known.get(rule.name) or named(rule, "new")
        runner = self._runners.get(rule.name)
        if runner is None:
            return known
        progress = runner.progress
        # What the account has by now is no longer counted as this process's own.
        since = progress.totals if progress.totals is not None and progress.totals.synced >= known.synced else known
        return replace(
            known,
            state=progress.state if runner.owns or (ended and progress.totals) else known.state,
            synced=since.synced + progress.synced,
            deleted=since.deleted + progress.deleted,
            errors=since.errors + progress.errors,
            dead_letters=since.dead_letters,
            last_sync_at=progress.last_sync_at or known.last_sync_at,
            last_error=progress.last_error or known.last_error,
            lag_seconds=lag_now(progress.state, progress.last_sync_at, progress.lag_seconds),
            lag_rows=progress.lag_rows,
            position=progress.position or known.position,
        )

    async def _ask(self) -> list[RuleStatus]:
        rules = [rule for _, rule in sorted(self.rules.items())]
        found = await asyncio.gather(*map(self.ask, rules))
        self._known.update({one.name: one for one in found})
        return list(found)

    async def ask(self, rule: ResolvedRule) -> RuleStatus:
        """Return how one rule does, as its services say."""
        try:
            account = await self.accounts(rule).get(rule.name)
            letters = await self.letters(rule).count()
            position = await positions_of(rule, self._federation.stores).peek()
        except StoreError as error:
            return replace(named(rule, "unknown"), last_error=str(error))
        except DBAPIError as error:  # The user may not look.
            return replace(named(rule, "unknown"), last_error=str(error.orig))
        if account is None:
            return replace(named(rule, "new"), dead_letters=letters)
        return status_of(rule, account, letters, None if position is None else position.as_json())


def event_targets(sync: Sync, rules: Iterable[ResolvedRule]) -> list[Any]:
    """Return the targets of the outbox's relay for event-driven rules."""
    return [EventTarget(sync, rule) for rule in rules if isinstance(rule.strategy, EventDriven)]


class WithSync(WithOutbox):
    """The part of a ``Federation`` that keeps data in sync."""

    @cached_property
    def sync(self) -> Sync:
        """The sync rules: carrying them out, how they do, and looking after them."""
        federation = cast("Federation", self)
        rules = Sync(federation)
        federation.meter.rules = rules.known
        return rules

    @cached_property
    def outbox(self) -> Outbox:
        """The outboxes of the services: what their events are handed on to, the relay, and its figures."""
        outbox = Outbox(cast("Federation", self))
        for target in event_targets(self.sync, self.sync.rules.values()):
            outbox.add(target, attempts=None)
        return outbox
