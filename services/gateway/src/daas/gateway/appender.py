"""The log appender: events into entries of the ordered cluster log, in micro-batches, one entry at a time.

An entry is what was offered within a few milliseconds, at most 512 events and 3 MiB. Events about one object that
wait together are conflated in place (the newest wins at the oldest's position, so an object never leaves a resync's
bracket); what waits is therefore bounded by the number of objects, and `offer` waits when even that is too much.
An entry that could not be published is published again as the same bytes under the same message id before any other.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram

from daas.common.errors import Unavailable
from daas.common.tracing import span

#: Identity of what an event is about: kind and uid.
Key = tuple[str, str]
#: `publish(body, message_id, timestamp_ms)`: the sequence of the entry in the log.
Publish = Callable[[bytes, str, int], Awaitable[int]]

#: Contract of the log: no entry has more events.
EVENTS_MAX: Final = 512
#: The contract allows 4 MiB; the margin is for the envelope and for one event that is larger than expected.
ENTRY_BYTES_MAX: Final = 3 * 1024 * 1024
#: Distinct objects with an unpublished change before `offer` waits; a cluster of 5,000 nodes and 150,000 pods.
WAITING_MAX: Final = 200_000
#: The bus has retried on its own before it says Unavailable; after so many rounds a restart is the better answer.
PUBLISH_ROUNDS_MAX: Final = 20
RETRY_MAX_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class AppenderLimits:
    """Shape of the micro-batches.

    Attributes:
        window_s: how long an entry waits for company, in seconds.
        events_max: most events of an entry.
        bytes_max: most bytes of an entry, JSON.
        waiting_max: most events waiting.
        tick_s: after this silence an empty entry is due, where `wants_tick` says so.
    """

    window_s: float = 0.005
    events_max: int = EVENTS_MAX
    bytes_max: int = ENTRY_BYTES_MAX
    waiting_max: int = WAITING_MAX
    tick_s: float = 1.0


@dataclass(slots=True)
class _Waiting:
    event: msgspec.Struct
    published: "asyncio.Future[int] | None" = None


@dataclass(slots=True)
class AppenderMetrics:
    """What the appender counts."""

    registry: CollectorRegistry
    entries: Counter = field(init=False)
    events: Counter = field(init=False)
    ticks: Counter = field(init=False)
    retries: Counter = field(init=False)
    batch: Histogram = field(init=False)

    def __post_init__(self) -> None:
        registry = self.registry
        self.entries = Counter("daas_gateway_log_entries", "Log entries published", registry=registry)
        self.events = Counter("daas_gateway_log_events", "Events in published log entries", registry=registry)
        self.ticks = Counter("daas_gateway_log_ticks", "Log entries without events", registry=registry)
        self.retries = Counter("daas_gateway_log_retries", "Log entries published again", registry=registry)
        self.batch = Histogram(
            "daas_gateway_log_entry_events",
            "Events per log entry",
            buckets=(0, 1, 2, 5, 10, 20, 50, 100, 200, 512),
            registry=registry,
        )


class LogAppender:
    """The only writer of this process to the log.

    Args:
        publish: puts one entry into the log; raises Unavailable when it can't.
        clock_ms: Unix time in milliseconds; entries never go back behind it.
        wants_tick: whether log time must go on although nothing happens.
        limits: see `AppenderLimits`.
        source: the `source` of the entries.
        not_before_ms: timestamp of the newest entry of an earlier process.
    """

    def __init__(
        self,
        publish: Publish,
        clock_ms: Callable[[], int],
        *,
        wants_tick: Callable[[], bool],
        limits: AppenderLimits,
        metrics: AppenderMetrics,
        source: str = "gateway",
        not_before_ms: int = 0,
    ) -> None:
        self._publish = publish
        self._clock_ms = clock_ms
        self._wants_tick = wants_tick
        self._limits = limits
        self._metrics = metrics
        self._source = source
        self._last_ms = not_before_ms
        self._process = secrets.token_hex(8)
        self._entries = 0
        self._unique = 0
        self._waiting: dict[Key, _Waiting] = {}
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._encoder = msgspec.json.Encoder(order="deterministic")
        self.last_sequence = 0

    @property
    def waiting(self) -> int:
        """Events not yet published."""
        return len(self._waiting)

    def not_before(self, timestamp_ms: int) -> None:
        """No entry from here on is older than this: log time never runs backwards over a restart."""
        self._last_ms = max(self._last_ms, timestamp_ms)

    async def offer(self, key: Key, event: msgspec.Struct) -> None:
        """Puts an event in line, in place of an older one about the same object; waits where the line is full."""
        while len(self._waiting) >= self._limits.waiting_max and key not in self._waiting:
            self._room.clear()
            await self._room.wait()
        self._place(key, event)

    async def append(self, event: msgspec.Struct) -> int:
        """Puts an event in line that nothing may replace; the log sequence of its entry once it is published."""
        published: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._unique += 1
        self._waiting["unique", str(self._unique)] = _Waiting(event, published)
        self._wake.set()
        return await published

    def resync(
        self, started: msgspec.Struct, full: Iterable[tuple[Key, msgspec.Struct]], finished: msgspec.Struct
    ) -> None:
        """Puts a full list in line between its markers; what it supersedes leaves the line."""
        kept = {key: item for key, item in self._waiting.items() if item.published is not None}
        self._waiting = kept
        self._unique += 1
        self._place(("resync-started", str(self._unique)), started)
        for key, event in full:
            self._place(key, event)
        self._place(("resync-finished", str(self._unique)), finished)

    async def run(self) -> None:
        """Publishes for ever.

        Raises:
            Unavailable: the log could not be reached for too long.
        """
        while True:
            if not self._waiting:
                self._wake.clear()
                try:
                    # Not wait_for: on 3.11 it swallows a cancellation that comes together with the wake-up.
                    async with asyncio.timeout(self._limits.tick_s):
                        await self._wake.wait()
                except TimeoutError:
                    if self._wants_tick():
                        await self._send_whole((), b"")
                    continue
            if len(self._waiting) < self._limits.events_max:
                await asyncio.sleep(self._limits.window_s)
            await self._send_whole(*self._take())

    async def drain(self) -> None:
        """Publishes what is in line and returns; for a graceful stop, when `run` has ended."""
        while self._waiting:
            await self._send(*self._take())

    def _place(self, key: Key, event: msgspec.Struct) -> None:
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = _Waiting(event)
            self._wake.set()
        else:
            waiting.event = event

    def _take(self) -> tuple[Sequence[_Waiting], bytes]:
        taken: list[_Waiting] = []
        encoded: list[bytes] = []
        size = 0
        for waiting in self._waiting.values():
            event = self._encoder.encode(waiting.event)
            if encoded and size + len(event) + 1 > self._limits.bytes_max:
                break
            taken.append(waiting)
            encoded.append(event)
            size += len(event) + 1
            if len(encoded) == self._limits.events_max:
                break
        for key in [key for key, _ in zip(self._waiting, taken, strict=False)]:
            del self._waiting[key]
        if len(self._waiting) < self._limits.waiting_max:
            self._room.set()
        return taken, b",".join(encoded)

    async def _send_whole(self, taken: Sequence[_Waiting], events: bytes) -> None:
        """Sends an entry to the end even if `run` is cancelled meanwhile: what was taken must not be lost."""
        sending = asyncio.ensure_future(self._send(taken, events))
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            await sending
            raise

    async def _send(self, taken: Sequence[_Waiting], events: bytes) -> None:
        self._last_ms = max(self._last_ms, self._clock_ms())
        self._entries += 1
        body = b'{"schema":1,"timestamp_ms":%d,"source":%s,"events":[%s]}' % (
            self._last_ms,
            self._encoder.encode(self._source),
            events,
        )
        digest = blake2b(body, digest_size=16).hexdigest()
        message_id = f"log/{self._process}/{self._entries}/{digest}"
        with span("append", events=len(taken), bytes=len(body)):
            self.last_sequence = sequence = await self._insist(body, message_id, self._last_ms)
        self._metrics.entries.inc()
        self._metrics.events.inc(len(taken))
        self._metrics.batch.observe(len(taken))
        if not taken:
            self._metrics.ticks.inc()
        for waiting in taken:
            if waiting.published is not None and not waiting.published.done():
                waiting.published.set_result(sequence)

    async def _insist(self, body: bytes, message_id: str, timestamp_ms: int) -> int:
        delay_s = 0.1
        for _ in range(PUBLISH_ROUNDS_MAX - 1):
            try:
                return await self._publish(body, message_id, timestamp_ms)
            except Unavailable:
                self._metrics.retries.inc()
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, RETRY_MAX_S)
        return await self._publish(body, message_id, timestamp_ms)
