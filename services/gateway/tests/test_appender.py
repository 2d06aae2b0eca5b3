"""The log appender: order, batches, conflation, resyncs, and entries that are never lost or reordered."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from daas.common.errors import Unavailable
from daas.gateway.appender import PUBLISH_ROUNDS_MAX, AppenderLimits, AppenderMetrics, LogAppender


class Happened(msgspec.Struct, frozen=True, tag_field="type", tag="happened"):
    what: str


class Memory:
    """A log in memory that refuses as often as it is told to."""

    def __init__(self) -> None:
        self.entries: list[tuple[bytes, str, int]] = []
        self.attempts: list[tuple[bytes, str]] = []
        self.refusals = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def publish(self, body: bytes, message_id: str, time_ms: int) -> int:
        await self.gate.wait()
        self.attempts.append((body, message_id))
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("away", reason="test")
        self.entries.append((body, message_id, time_ms))
        return len(self.entries)

    def batches(self) -> list[list[str]]:
        return [[event["what"] for event in msgspec.json.decode(body)["events"]] for body, _, _ in self.entries]

    def whats(self) -> list[str]:
        return [what for batch in self.batches() for what in batch]


class Clock:
    def __init__(self) -> None:
        self.now_ms = 1_000

    def __call__(self) -> int:
        return self.now_ms


def make(memory: Memory, clock: Clock | None = None, *, ticks: bool = False, **limits: Any) -> LogAppender:
    return LogAppender(
        memory.publish,
        clock or Clock(),
        wants_tick=lambda: ticks,
        limits=AppenderLimits(**limits),
        metrics=AppenderMetrics(CollectorRegistry()),
    )


@asynccontextmanager
async def running(appender: LogAppender) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(appender.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(100):
        while not condition():  # noqa: ASYNC110 - conditions over many objects, not one event
            await asyncio.sleep(0.001)


async def test_events_offered_together_are_one_entry_in_the_order_of_the_offers() -> None:
    memory = Memory()
    appender = make(memory)
    for name in "cab":
        await appender.offer(("pod", name), Happened(name))
    async with running(appender):
        await until(lambda: not appender.waiting and memory.entries)
    assert memory.batches() == [["c", "a", "b"]]
    body = msgspec.json.decode(memory.entries[0][0])
    assert {key: body[key] for key in ("schema", "timestamp_ms", "source")} == {
        "schema": 1,
        "timestamp_ms": 1_000,
        "source": "gateway",
    }
    assert body["events"][0] == {"type": "happened", "what": "c"}


async def test_an_entry_is_full_at_its_limit_of_events() -> None:
    memory = Memory()
    appender = make(memory, events_max=4)
    for index in range(10):
        await appender.offer(("pod", str(index)), Happened(str(index)))
    async with running(appender):
        await until(lambda: len(memory.whats()) == 10)
    assert [len(batch) for batch in memory.batches()] == [4, 4, 2]
    assert memory.whats() == [str(index) for index in range(10)]


async def test_an_entry_is_full_at_its_limit_of_bytes_and_a_larger_event_goes_alone() -> None:
    memory = Memory()
    appender = make(memory, bytes_max=300)
    for index, size in enumerate([100, 100, 1000, 10, 10]):
        await appender.offer(("pod", str(index)), Happened(str(index) * size))
    async with running(appender):
        await until(lambda: len(memory.whats()) == 5)
    assert [len(batch) for batch in memory.batches()] == [2, 1, 2]


async def test_the_newest_of_what_waits_about_one_object_stands_at_the_oldest_place() -> None:
    memory = Memory()
    appender = make(memory)
    await appender.offer(("pod", "a"), Happened("a1"))
    await appender.offer(("pod", "b"), Happened("b1"))
    await appender.offer(("pod", "a"), Happened("a2"))
    async with running(appender):
        await until(lambda: memory.entries)
    assert memory.whats() == ["a2", "b1"]


async def test_a_resync_supersedes_what_waits_but_nothing_that_someone_awaits() -> None:
    memory = Memory()
    appender = make(memory)
    await appender.offer(("pod", "old"), Happened("old"))
    awaited = asyncio.create_task(appender.append(Happened("failed")))
    await until(lambda: appender.waiting == 2)
    appender.resync(Happened("started"), ((("pod", name), Happened(name)) for name in ("x", "y")), Happened("finished"))
    await appender.offer(("pod", "x"), Happened("x2"))
    await appender.offer(("pod", "z"), Happened("z"))
    async with running(appender):
        assert await awaited == 1
    assert memory.whats() == ["failed", "started", "x2", "y", "finished", "z"]


async def test_an_appended_event_is_awaited_until_it_stands_in_the_log() -> None:
    memory = Memory()
    memory.gate.clear()
    appender = make(memory)
    first = asyncio.create_task(appender.append(Happened("1")))
    second = asyncio.create_task(appender.append(Happened("1")))
    async with running(appender):
        await until(lambda: not appender.waiting)
        assert not first.done()
        memory.gate.set()
        assert await first == await second == 1
    assert memory.whats() == ["1", "1"]


async def test_an_entry_that_failed_goes_again_with_the_same_bytes_and_id_before_any_other() -> None:
    memory = Memory()
    memory.refusals = 2
    clock = Clock()
    appender = make(memory, clock)
    await appender.offer(("pod", "a"), Happened("a"))
    async with running(appender):
        await until(lambda: memory.attempts)
        clock.now_ms += 500
        await appender.offer(("pod", "b"), Happened("b"))
        await until(lambda: len(memory.entries) == 2)
    assert memory.attempts[0] == memory.attempts[1] == memory.attempts[2]
    assert memory.whats() == ["a", "b"]


async def test_a_log_that_stays_away_ends_the_appender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daas.gateway.appender.RETRY_MAX_S", 0.001)
    memory = Memory()
    memory.refusals = PUBLISH_ROUNDS_MAX + 1
    appender = make(memory)
    await appender.offer(("pod", "a"), Happened("a"))
    async with running(appender) as task:
        with pytest.raises(Unavailable):
            await task
    assert len({message_id for _, message_id in memory.attempts}) == 1


async def test_message_ids_differ_between_equal_entries_and_between_processes() -> None:
    memory = Memory()
    for appender in (make(memory), make(memory)):
        for _ in range(2):
            await appender.offer(("pod", "a"), Happened("same"))
            await appender.drain()
    assert len({body for body, _, _ in memory.entries}) == 1
    assert len({message_id for _, message_id, _ in memory.entries}) == 4


async def test_log_time_never_goes_back() -> None:
    memory = Memory()
    clock = Clock()
    appender = make(memory, clock)
    appender.not_before(5_000)
    for now_ms in (1_000, 6_000, 4_000):
        clock.now_ms = now_ms
        await appender.offer(("pod", "a"), Happened("a"))
        await appender.drain()
    assert [msgspec.json.decode(body)["timestamp_ms"] for body, _, _ in memory.entries] == [5_000, 6_000, 6_000]
    assert [time_ms for _, _, time_ms in memory.entries] == [5_000, 6_000, 6_000]


async def test_silence_is_ticked_only_while_someone_waits_for_time() -> None:
    memory = Memory()
    async with running(make(memory, ticks=True, tick_s=0.01)):
        await until(lambda: len(memory.entries) >= 2)
    assert set(map(len, memory.batches())) == {0}

    silent = Memory()
    asked = []
    appender = LogAppender(
        silent.publish,
        Clock(),
        wants_tick=lambda: bool(asked.append(1)),  # type: ignore[func-returns-value]  # counts the questions
        limits=AppenderLimits(tick_s=0.001),
        metrics=AppenderMetrics(CollectorRegistry()),
    )
    async with running(appender):
        await until(lambda: len(asked) >= 3)
    assert not silent.entries


async def test_a_full_line_makes_offers_wait_until_there_is_room() -> None:
    memory = Memory()
    memory.gate.clear()
    appender = make(memory, waiting_max=2, events_max=2)
    for name in "ab":
        await appender.offer(("pod", name), Happened(name))
    await appender.offer(("pod", "a"), Happened("a2"))
    third = asyncio.create_task(appender.offer(("pod", "c"), Happened("c")))
    await asyncio.sleep(0)
    assert not third.done()
    memory.gate.set()
    async with running(appender):
        await third
        await until(lambda: len(memory.whats()) == 3)
    assert memory.whats() == ["a2", "b", "c"]
