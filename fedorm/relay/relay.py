"""The relay: workers that hand the events of all outboxes on, until they are told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from fedorm.relay.handing import hand_on
from fedorm.relay.lines import Line, backoff, in_words
from fedorm.relay.sources import Batch, Claim, ClaimLostError, Settlement, Source
from fedorm.relay.waking import Bell

if TYPE_CHECKING:
    from fedorm.federation import Federation

logger = logging.getLogger("fedorm.outbox")
_UNTIL_THERE = 1.0
"""After how many seconds to see again whether a service without an outbox has one."""
_LONGEST_PAUSE = 10.0
"""For how many seconds at most a source that cannot be read is left alone."""


class Relay:
    """Hands events on from ``sources`` to ``lines``: ``workers`` at a time from each source, ``batch`` at once."""

    def __init__(
        self, federation: Federation, sources: Sequence[Source], lines: Sequence[Line], *, workers: int, batch: int
    ) -> None:
        self._federation = federation
        self._sources = sources
        self._lines = lines
        self._workers = workers
        self._batch = batch
        self._bells = {source.service: Bell() for source in sources}
        self._stopping = False

    def stop(self) -> None:
        """Let every worker end after the batch that it has in hand."""
        self._stopping = True
        for bell in self._bells.values():
            bell.ring()

    def bell(self, service: str) -> Callable[[], None]:
        """Return what says, in any thread, that events of a service were committed."""
        bell = self._bells.get(service)
        return bell.ring_threadsafe if bell is not None else lambda: None

    async def run(self, grace: float) -> None:
        """Work until ``stop()``, or until cancelled: then the batches in hand are ended, for ``grace`` seconds."""
        try:
            async with asyncio.TaskGroup() as opening:
                for line in self._lines:
                    opening.create_task(line.open(self._federation))
            await self._work(grace)
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        finally:
            for bell in self._bells.values():
                bell.close()
            await asyncio.gather(*(line.close() for line in self._lines), return_exceptions=True)

    async def _work(self, grace: float) -> None:
        workers = [
            asyncio.create_task(self._serve(source), name=f"fedorm-relay-{source.service}-{number}")
            for source in self._sources
            for number in range(self._workers)
        ]
        listeners = [asyncio.create_task(self._listen(source)) for source in self._sources if source.listens]
        try:
            done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        except BaseException:
            self.stop()
            with suppress(asyncio.CancelledError):  # Who cancels a second time does not want to wait.
                await asyncio.wait(workers, timeout=grace)
            raise
        finally:
            for task in (*workers, *listeners):
                task.cancel()
            await asyncio.gather(*workers, *listeners, return_exceptions=True)

    # -- one source

    async def _listen(self, source: Source) -> None:
        """Keep listening, over a new connection when one is lost."""
        losses = 0
        while not self._stopping:
            started = time.monotonic()
            try:
                await source.listen(self._bells[source.service])
            except Exception as error:
                logger.warning("service %r does not tell of new events: %s", source.service, in_words(error))
            losses = 1 if time.monotonic() - started > _LONGEST_PAUSE else losses + 1
            await asyncio.sleep(backoff(losses, _LONGEST_PAUSE))

    async def _serve(self, source: Source) -> None:
        """Take batch after batch from a source; wait where there is none, and longer where it cannot be read."""
        bell, troubles, is_ready = self._bells[source.service], 0, False
        claim = source.claim(f"{socket.gethostname()[:30]}:{os.getpid()}:{secrets.token_hex(8)}")
        try:
            while not self._stopping:
                try:
                    if not is_ready:
                        if not await source.exists():
                            await bell.wait(_UNTIL_THERE)
                            bell.hush()
                            continue
                        await source.prepare()
                        is_ready = True
                    worked = await self._next_batch(source, claim, bell)
                    troubles = 0
                except Exception as error:
                    troubles += 1
                    logger.warning("outbox of service %r: %s", source.service, in_words(error))
                    await bell.wait(backoff(troubles, _LONGEST_PAUSE))
                    bell.hush()
                    continue
                if not worked:
                    await bell.wait(self._patience(source))
        finally:
            await claim.close()

    def _patience(self, source: Source) -> float:
        """Return for how long a worker without work waits for the bell."""
        now = time.time()
        if all(line.is_resting(now) for line in self._lines):
            return max(0.001, min(line.resume_at for line in self._lines) - now)
        return source.poll

    async def _next_batch(self, source: Source, claim: Claim, bell: Bell) -> bool:
        """Hand on what there is; say whether there was any."""
        bell.hush()
        now = time.time()
        ready = [line.name for line in self._lines if not line.is_resting(now)]
        if not ready:
            return False
        batch = await claim.take(ready, self._batch)
        if batch is None:
            return False
        try:
            done = await self._hand_on(source, claim, batch)
        except BaseException:
            await claim.give_up()
            raise
        await claim.settle(done)
        for moment in {failure.next_at for failure in done.failures if failure.next_at is not None}:
            bell.ring_at(moment)
        return True

    async def _hand_on(self, source: Source, claim: Claim, batch: Batch) -> Settlement:
        if source.lease is None:
            return await hand_on(batch, self._lines, self._federation)
        handing = asyncio.create_task(hand_on(batch, self._lines, self._federation))
        try:
            while True:
                done, _ = await asyncio.wait({handing}, timeout=source.lease / 3)
                if done:
                    return handing.result()
                await claim.renew()
        except ClaimLostError:
            logger.warning("outbox of service %r: this relay was too slow, and another has taken over", source.service)
            raise
        finally:
            if not handing.done():
                handing.cancel()
                await asyncio.gather(handing, return_exceptions=True)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
