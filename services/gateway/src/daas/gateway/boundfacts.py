"""The facts of what was bound: many pods in one message, each pod of a decision exactly once.

Pods of one decision that are bound within a few milliseconds share a message. Whoever tells says which such fact is
the newest it knows, and is refused where there is a newer one: another gateway, or this one before it was killed, told
something meanwhile, which is read first and not told again. So it needs no window of time in which messages are
compared, and two gateways that both believe to lead may tell at once.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final, Protocol

from daas.common import merkle
from daas.common.bus import StoredMessage
from daas.common.errors import Conflict, InvalidInput, Refused, Unavailable
from daas.common.facts import fact_of
from daas.common.messages import BoundPod, Message, PlacementAnchored, PlacementBound
from daas.common.subjects import PLACEMENT_BOUND, Stream, Subject

#: How long a bound pod waits for company; at 2,000 pods a second forty come along.
WINDOW_S: Final = 0.02
#: Rounds against others that tell at the same time, and the pause between two.
ROUNDS_MAX: Final = 20
PAUSE_S: Final = 0.05


class FactBus(Protocol):
    """What is needed of `daas.common.bus.Bus` to tell facts, and to see which are told."""

    cluster: str

    async def publish(
        self, subject: Subject, body: Message | bytes, *, message_id: str, after: int | None = None
    ) -> int:
        """Stores a fact."""
        ...

    async def fetch(self, stream: Stream, sequence: int) -> StoredMessage:
        """The message at a stream sequence."""
        ...

    async def last(self, subject: Subject) -> StoredMessage | None:
        """The newest message on a subject."""
        ...

    async def stream_bounds(self, stream: Stream) -> tuple[int, int]:
        """The first and the last sequence kept."""
        ...

    def read(
        self, stream: Stream, *, start: int = 1, subjects: Sequence[Subject] | None = None
    ) -> AsyncGenerator[StoredMessage, None]:
        """Messages in order, for ever."""
        ...


class Telling:
    """What is to be told about one decision; made by `BoundFacts.telling`.

    Args:
        anchored: the decision's anchor.
        since: stream sequence of that fact: what was bound is told behind it.
        decided_ms: when the decision was published.
        simulated: whether a stand-in had a part in it.
        publish: stores facts about some pods.
        stored: told the index of each pod whose fact is stored.
    """

    def __init__(
        self,
        anchored: PlacementAnchored,
        since: int,
        *,
        decided_ms: int,
        simulated: bool,
        publish: "Callable[[Telling, Sequence[BoundPod]], Awaitable[None]]",
        stored: Callable[[int], None],
    ) -> None:
        self.anchored = anchored
        self.since = since
        self.decided_ms = decided_ms
        self.simulated = simulated
        self.told: set[int] = set()
        #: Whether somebody else may have told of one of the pods, and whether that has been looked up.
        self.unsure = False
        self.looked = False
        self._publish = publish
        self._stored = stored
        self._waiting: list[BoundPod] = []
        self._timer: asyncio.TimerHandle | None = None
        self._sending: list[asyncio.Task[None]] = []

    def add(self, pod: BoundPod, *, now: bool) -> None:
        """Takes a pod that stands on its node; `now` says that this very process has just bound it."""
        self.unsure = self.unsure or not now
        self._waiting.append(pod)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WINDOW_S, self._send)

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            pods, self._waiting = self._waiting, []
            task = asyncio.create_task(self._tell(pods))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # `finish` raises it
            self._sending.append(task)

    async def _tell(self, pods: Sequence[BoundPod]) -> None:
        await self._publish(self, pods)
        for pod in pods:
            self._stored(pod.index)

    async def finish(self) -> None:
        """Waits until everything taken is stored.

        Raises:
            DaasError: the first of what could not be stored; it may or may not be stored later.
        """
        self._send()
        for outcome in await asyncio.gather(*self._sending, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    def close(self) -> None:
        """Gives up what is not stored: its message comes again."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._sending:
            task.cancel()


class BoundFacts:
    """Stores the facts, one message at a time.

    Args:
        bus: the bus, once it is connected.
    """

    def __init__(self, bus: Callable[[], FactBus]) -> None:
        self._bus = bus
        self._lock = asyncio.Lock()
        self._live: set[Telling] = set()
        #: Stream sequence of the newest such fact that we know; None before the first look.
        self._newest: int | None = None

    async def telling(
        self,
        anchored: PlacementAnchored,
        since: int,
        *,
        decided_ms: int,
        simulated: bool,
        stored: Callable[[int], None],
    ) -> Telling:
        """Begins to tell about a decision, before anything of it is bound; `end` it.

        Raises:
            Unavailable: the bus is away.
        """
        made = Telling(anchored, since, decided_ms=decided_ms, simulated=simulated, publish=self._store, stored=stored)
        if self._newest is None:  # afterwards nobody's binding waits for somebody else's fact
            async with self._lock:
                if self._newest is None:
                    newest = await self._bus().last(PLACEMENT_BOUND)
                    self._newest = newest.sequence if newest is not None else 0
        self._live.add(made)
        return made

    def end(self, telling: Telling) -> None:
        """Nothing more is told about this decision."""
        self._live.discard(telling)
        telling.close()

    async def _store(self, telling: Telling, pods: Sequence[BoundPod]) -> None:
        async with self._lock:
            if telling.unsure and not telling.looked:
                await self._read(telling.since + 1, self._newest or 0)
                telling.looked = True
            for _ in range(ROUNDS_MAX):
                left = tuple(pod for pod in pods if pod.index not in telling.told)
                if not left:
                    return
                try:
                    await self._publish(telling, left)
                except Conflict:
                    await self._catch_up()
                else:
                    telling.told.update(pod.index for pod in left)
                    return
        raise Unavailable(f"others told {ROUNDS_MAX} times what was bound, before we could", reason="contention")

    async def _publish(self, telling: Telling, pods: tuple[BoundPod, ...]) -> None:
        anchored = telling.anchored
        fact = PlacementBound(
            sequence=anchored.sequence,
            payload_digest=anchored.payload_digest,
            tx_digest=anchored.tx_digest,
            decided_ms=telling.decided_ms,
            anchored_ms=anchored.timestamp_ms,
            simulated=telling.simulated,
            pods=pods,
        )
        which = merkle.digest(b"".join(pod.index.to_bytes(4, "little") for pod in pods))[:8].hex()
        message_id = f"bound/{anchored.payload_digest}/{pods[0].index}/{which}"
        self._newest = await self._bus().publish(PLACEMENT_BOUND, fact, message_id=message_id, after=self._newest)

    async def _catch_up(self) -> None:
        """Reads what others told; what is newest may come from a server that does not have it yet: then once more."""
        newest = await self._bus().last(PLACEMENT_BOUND)
        found = newest.sequence if newest is not None else 0
        known = self._newest or 0
        if found > known:
            await self._read(known + 1, found)
        else:
            await asyncio.sleep(PAUSE_S)
        self._newest = found

    async def _read(self, start: int, end: int) -> None:
        """Notes what is told from one stream sequence to another."""
        bus = self._bus()
        first, _ = await bus.stream_bounds(Stream.PLACEMENT)
        if (start := max(start, first)) > end:
            return
        async with aclosing(bus.read(Stream.PLACEMENT, start=start, subjects=[PLACEMENT_BOUND])) as messages:
            async for message in messages:
                self._note(message)
                if message.sequence >= end:
                    return

    def _note(self, message: StoredMessage) -> None:
        try:
            fact = fact_of(message, PLACEMENT_BOUND, PlacementBound)
        except (InvalidInput, Refused):
            return  # whoever consumes it buries it
        for telling in self._live:
            if telling.anchored.payload_digest == fact.payload_digest:
                telling.told.update(pod.index for pod in fact.pods)
