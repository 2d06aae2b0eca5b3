"""Follows the ledger checkpoint by checkpoint and turns its events into facts, each once and in the ledger's order.

The cursor is stored after the facts of a checkpoint are out. A full node's stream brings new checkpoints without being
asked; what it leaves out is read by number, so that a stream which is cut, lags or repeats loses and doubles nothing.
Every checkpoint must name the one before it, and anchors must count up by one: what a node leaves out or makes up is
noticed.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Final

from daas.common import logs
from daas.common.errors import DaasError, DecodeError, Refused, Unavailable
from daas.ledger import Checkpoint, Ledger, RpcError
from daas.relay.chainevents import ChainEvents, Origin
from daas.relay.facts import Facts
from daas.relay.metrics import RelayMetrics
from daas.relay.outbox import Cursor, Outbox

log = logs.get_logger(__name__)

#: How long nothing is announced before the node is asked anyway.
POLL_S: Final = 0.5
#: Announced checkpoints that are kept until it is their turn; what lies further ahead is read by number.
AHEAD_MAX: Final = 64
_BACKOFF_S: Final = (0.1, 5.0)


class Follower:
    """The relay's place on the ledger.

    Args:
        ledger: where checkpoints come from.
        outbox: keeps the cursor.
        events: what an event means.
        facts: publishes.
        first: where to begin without a cursor.
    """

    def __init__(
        self,
        ledger: Ledger,
        outbox: Outbox,
        events: ChainEvents,
        facts: Facts,
        metrics: RelayMetrics,
        *,
        first: int = 0,
    ) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._events = events
        self._facts = facts
        self._metrics = metrics
        self._wake = asyncio.Event()
        self._announced: dict[int, Checkpoint] = {}
        self._newest = -1
        self._next = first
        self._digest: str | None = None
        self._on_progress: list[Callable[[], None]] = []

    @property
    def next_checkpoint(self) -> int:
        """The first checkpoint that is not turned into facts yet."""
        return self._next

    def on_progress(self, call: Callable[[], None]) -> None:
        """Calls back after each checkpoint."""
        self._on_progress.append(call)

    async def start(self) -> int:
        """Takes up the cursor and catches up with the ledger as it is now; returns the next checkpoint.

        Raises:
            Unavailable: no node answers or has what it announces, or the bus does not take the facts.
        """
        cursor = self._outbox.cursor()
        if cursor is not None:
            self._next, self._digest = cursor.checkpoint + 1, cursor.digest
        await self._facts.read_back(self._outbox.positions())
        latest = await self._ledger.latest_checkpoint()
        while self._next <= latest:
            if not await self._advance():
                raise Unavailable(f"no node shows checkpoint {self._next} of {latest}", reason="ledger-lags")
        self._facts.forget()
        log.info("follows the ledger", checkpoint=self._next)
        return self._next

    async def run(self) -> None:
        """Follows for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._follow())

    async def _listen(self) -> None:
        """Takes what a node announces; a cut stream is simply opened again."""
        while True:
            try:
                async with contextlib.aclosing(self._ledger.subscribe_checkpoints()) as stream:
                    async for checkpoint in stream:
                        self._announce(checkpoint)
            except (RpcError, DecodeError) as error:
                self._metrics.node_trouble.labels(error.reason).inc()
                log.debug("announcements ended", reason=error.reason)
            await asyncio.sleep(_BACKOFF_S[0] * random.uniform(0.5, 1.5))  # noqa: S311 - jitter

    def _announce(self, checkpoint: Checkpoint) -> None:
        self._newest = max(self._newest, checkpoint.sequence)
        if self._next <= checkpoint.sequence < self._next + AHEAD_MAX:
            self._announced[checkpoint.sequence] = checkpoint
        self._wake.set()

    async def _follow(self) -> None:
        await self._patiently(self._catch_up)
        while True:
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            except TimeoutError:
                await self._patiently(self._catch_up)
                continue
            self._wake.clear()
            await self._patiently(self._catch_up_with_announced)

    async def _catch_up_with_announced(self) -> None:
        while self._next <= self._newest and await self._advance():
            pass

    async def _catch_up(self) -> None:
        while await self._advance():
            pass

    async def _patiently(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeats a step until it succeeds: nodes and the bus come back, and nothing is left out meanwhile."""
        delay_s, longest_s = _BACKOFF_S
        while True:
            try:
                await step()
            except DaasError as error:
                self._metrics.node_trouble.labels(error.reason).inc()
                log.warning("following waits", checkpoint=self._next, error=error)
            else:
                return
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            delay_s = min(2 * delay_s, longest_s)

    async def _advance(self) -> bool:
        """Turns the next checkpoint into facts; False where there is none yet."""
        checkpoint = self._announced.pop(self._next, None) or await self._ledger.checkpoint(self._next)
        if checkpoint is None:
            return False
        self._check(checkpoint)
        place = 0
        for transaction in checkpoint.transactions:
            for index, event in enumerate(transaction.events):
                origin = Origin(transaction.digest, index, checkpoint.sequence, place, checkpoint.timestamp_ms)
                await self._events.take(event, origin)
                place += 1
        self._outbox.advance(Cursor(checkpoint.sequence, checkpoint.digest), self._facts.positions)
        self._next, self._digest = checkpoint.sequence + 1, checkpoint.digest
        self._announced.pop(checkpoint.sequence, None)
        self._metrics.checkpoint.set(checkpoint.sequence)
        for call in self._on_progress:
            call()
        return True

    def _check(self, checkpoint: Checkpoint) -> None:
        if checkpoint.sequence != self._next:
            raise DecodeError(
                f"expected checkpoint {self._next}, the node shows {checkpoint.sequence}", reason="checkpoint"
            )
        if self._digest is not None and checkpoint.previous_digest != self._digest:
            raise Refused(
                f"checkpoint {checkpoint.sequence} follows {checkpoint.previous_digest}, "
                f"the one before it was {self._digest}: this is another ledger",
                reason="ledger-fork",
            )
