"""Watches: every change once and in order, over restarts and compactions."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from daas.devstack.etcd import EtcdServer
from daas.etcd import Change, Compacted, EtcdClient, Put, Snapshot, WatchEvent

pytestmark = pytest.mark.connected


@pytest_asyncio.fixture
async def watched_server(tmp_path: Path) -> AsyncIterator[EtcdServer]:
    async with EtcdServer(tmp_path / "etcd") as started:
        yield started


@pytest_asyncio.fixture
async def etcd(watched_server: EtcdServer) -> AsyncIterator[EtcdClient]:
    async with EtcdClient([watched_server.endpoint], timeout_ms=10_000) as client:
        yield client


async def take(events: AsyncIterator[WatchEvent], count: int) -> list[tuple[Change, str, bytes]]:
    seen = []
    async with asyncio.timeout(100):
        for _ in range(count):
            event = await anext(events)
            seen.append((event.change, event.kv.key, event.kv.value))
    return seen


async def test_changes_come_in_order_from_the_revision_asked_for(etcd: EtcdClient) -> None:
    revision = await etcd.put("a/1", b"x")
    await etcd.txn([], [Put("a/2", b"y"), Put("b/1", b"elsewhere")])
    await etcd.delete("a/1")
    events = etcd.watch("a/", start_revision=revision)
    assert await take(events, 3) == [
        (Change.PUT, "a/1", b"x"),
        (Change.PUT, "a/2", b"y"),
        (Change.DELETE, "a/1", b""),
    ]


async def test_a_watch_outlives_kills_of_the_server_and_misses_and_repeats_nothing(
    watched_server: EtcdServer, etcd: EtcdClient
) -> None:
    events = etcd.watch("a/", start_revision=1)
    await etcd.put("a/0", b"")
    assert await take(events, 1) == [(Change.PUT, "a/0", b"")]
    for round_number in range(1, 4):
        await watched_server.kill()
        await watched_server.restart()
        async with EtcdClient([watched_server.endpoint], timeout_ms=10_000) as other:
            await other.put(f"a/{round_number}", b"")
            await other.put(f"a/{round_number}b", b"")
        assert [key for _, key, _ in await take(events, 2)] == [f"a/{round_number}", f"a/{round_number}b"]


async def test_a_watch_at_a_compacted_revision_says_where_history_begins(etcd: EtcdClient) -> None:
    await etcd.put("a/1", b"1")
    newest = await etcd.put("a/1", b"2")
    await etcd.compact(newest)
    with pytest.raises(Compacted) as caught:
        await anext(etcd.watch("a/", start_revision=1))
    assert caught.value.compact_revision == newest


async def test_following_a_prefix_starts_over_from_a_snapshot_after_a_compaction(
    watched_server: EtcdServer, etcd: EtcdClient
) -> None:
    await etcd.put("a/1", b"1")
    followed = etcd.follow("a/")
    first = await anext(followed)
    assert isinstance(first, Snapshot)
    assert [kv.key for kv in first.items] == ["a/1"]
    await etcd.put("a/2", b"2")
    change = await anext(followed)
    assert isinstance(change, WatchEvent)
    assert change.kv.key == "a/2"
    await watched_server.kill()
    await watched_server.restart()
    async with EtcdClient([watched_server.endpoint], timeout_ms=10_000) as other:
        await other.delete("a/1")
        await other.compact(await other.put("a/3", b"3"))
    again = await anext(followed)
    if isinstance(again, Snapshot):
        assert [kv.key for kv in again.items] == ["a/2", "a/3"]
    else:
        # The watch was back before the compaction: then it has seen the deletion itself.
        assert (again.change, again.kv.key) == (Change.DELETE, "a/1")
