"""``fed.sync.publish()`` and ``fed.sync.apply()``: the two halves of rules that go through a broker."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from fedorm.sync.errors import SyncRuleError
from fedorm.sync.resolving import ResolvedRule
from fedorm.sync.retaining import guard_logs
from fedorm.sync.running import RuleRunner

if TYPE_CHECKING:
    from fedorm.sync.brokers.consuming import MessageApplier
    from fedorm.sync.sync import Sync


class ThroughBroker:
    """The part of ``fed.sync`` for rules with ``CDC(through=...)``."""

    lease: float

    def __init__(self) -> None:
        self._appliers: set[MessageApplier] = set()

    @property
    @abstractmethod
    def rules(self) -> dict[str, ResolvedRule]:
        """Return the rules by name."""

    @abstractmethod
    def rule(self, name: str) -> ResolvedRule:
        """Return a rule by its name."""

    @abstractmethod
    async def _run(self, runners: Sequence[RuleRunner], grace: float) -> None: ...

    async def publish(self, broker: Any, rules: Iterable[str] | None = None, *, grace: float = 30.0) -> None:
        """Publish the changes of these rules, or all, that go through a broker, until cancelled or until ``stop()``.

        ``broker`` is a URL of NATS or Kafka, or FastStream's broker object. Any number of processes may do so, as with
        ``run()``: each rule is one's at a time. The target is asked for nothing but, before the first snapshot, whether
        it is empty. Raises ``ConfigurationError`` for what is no such broker and ``MissingDriverError`` without its
        package.
        """
        from fedorm.sync.brokers.channels import channels_of
        from fedorm.sync.brokers.publishing import PublishingRunner

        sync = cast("Sync", self)
        chosen = self.chosen(rules, through=True)
        await self._run(
            [PublishingRunner(sync, rule, channels_of(broker, rule, lease=self.lease)) for rule in chosen], grace
        )

    async def apply(
        self, broker: Any, rules: Iterable[str] | None = None, *, at_once: int = 8, grace: float = 30.0
    ) -> None:
        """Write what is published of these rules, or all, that go through a broker, until cancelled or ``stop()``.

        Any number of processes may do so: the partitions are shared out among them. ``at_once`` is how many messages
        this one writes at a time, each over a connection of its own. A message that could not be written, as the target
        was down, comes again until it is. Raises the errors of ``publish()``.
        """
        from fedorm.sync.brokers.channels import channels_of
        from fedorm.sync.brokers.consuming import MessageApplier

        sync, together = cast("Sync", self), asyncio.Semaphore(at_once)
        made = [
            MessageApplier(sync, rule, channels_of(broker, rule, lease=self.lease), together)
            for rule in self.chosen(rules, through=True)
        ]
        self._appliers.update(made)
        tasks = [asyncio.create_task(applier.run()) for applier in made]
        guarding = asyncio.create_task(guard_logs(sync))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            guarding.cancel()
            for applier in made:
                applier.stop()
            _, late = await asyncio.shield(asyncio.wait(tasks, timeout=grace))
            for task in late:
                task.cancel()
            await asyncio.gather(guarding, *tasks, return_exceptions=True)
            self._appliers.difference_update(made)

    def chosen(self, rules: Iterable[str] | None, *, through: bool) -> list[ResolvedRule]:
        """Return these rules, or all that go through a broker, or that do not. Raises ``SyncRuleError``."""
        if rules is not None:
            chosen = [self.rule(name) for name in rules]
        else:
            chosen = [rule for rule in self.rules.values() if (rule.through is not None) == through]
        for rule in chosen:
            if (rule.through is not None) != through:
                problem = (
                    "does not go through a broker: give it  strategy=CDC(through=...)"
                    if through
                    else "goes through a broker: it is carried out by  publish()  and  apply()"
                )
                raise SyncRuleError(f"sync rule {rule.name!r} {problem}")
        if not chosen:
            example = "SyncRule(..., strategy=CDC(through=...))" if through else "SyncRule(...)"
            raise SyncRuleError(f"there is no sync rule to carry out: declare  __sync__ = [{example}]  on a model")
        return chosen
