"""A client of a real cluster of three: the member it uses is killed or hangs, and all work goes on."""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from daas.common.errors import Unavailable
from daas.devstack.etcd import EtcdServer
from daas.devstack.etcd_cluster import EtcdCluster
from daas.etcd import Compare, EtcdClient, Get, Put, WatchEvent

pytestmark = [pytest.mark.connected, pytest.mark.timeout(300)]

#: On a busy machine elections take their time, and are repeated.
TIMEOUT_MS = 40_000
PATIENCE_S = 60.0
LEASE_S = 60


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[EtcdCluster]:
    async with EtcdCluster(tmp_path / "etcd") as started:
        yield started


class Work:
    """Puts, transactions, a renewed lease and a watch, all of one client, for as long as it is entered."""

    def __init__(self, client: EtcdClient) -> None:
        self.client = client
        self.start_revision = 0
        self.lease = 0
        #: How often each kind of work has succeeded.
        self.done = {"put": 0, "once": 0, "txn": 0, "lease": 0}
        self.acknowledged: set[str] = set()
        self.watched: list[WatchEvent] = []

    async def puts(self) -> None:
        """Repeatable writes: none fails."""
        while True:
            await self.client.put(f"work/put/{self.done['put']:06}", b"", repeatable=True)
            self.done["put"] += 1

    async def writes(self) -> None:
        """Writes that may not be repeated: what was lost may or may not be there, and nothing is there twice."""
        number = 0
        while True:
            key = f"work/once/{number:06}"
            try:
                await self.client.put(key, b"")
            except Unavailable:
                pass
            else:
                self.acknowledged.add(key)
                self.done["once"] += 1
            number += 1

    async def transactions(self) -> None:
        """Writes if absent: the second try finds what the first has done."""
        while True:
            key = f"work/txn/{self.done['txn']:06}"
            result = await self.client.txn([Compare.absent(key)], [Put(key, b"")], [Get(key)], repeatable=True)
            assert result.succeeded or result.reads[0] is not None
            self.done["txn"] += 1

    async def renewals(self) -> None:
        while True:
            assert await self.client.keep_alive(self.lease) > 0
            self.done["lease"] += 1
            await asyncio.sleep(0.02)

    async def watch(self) -> None:
        async for event in self.client.watch("work/", start_revision=self.start_revision):
            self.watched.append(event)

    async def further(self, steps: int) -> None:
        """Waits until each kind of work has been done so many times more, and the watch has seen as much."""
        goals = {kind: count + steps for kind, count in self.done.items()}
        seen = len(self.watched) + steps
        await until(
            lambda: all(self.done[kind] >= goal for kind, goal in goals.items()) and len(self.watched) >= seen,
            lambda: f"{goals} and {seen} events; it is {self.done} and {len(self.watched)} events",
        )


async def until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:.0f} s: {what()}"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def working(endpoints: list[str]) -> AsyncIterator[Work]:
    """Work under way; whatever fails in it fails the test."""
    async with EtcdClient(endpoints, timeout_ms=TIMEOUT_MS) as client:
        work = Work(client)
        work.lease = await client.grant(LEASE_S)
        work.start_revision = await client.put("leased", b"", lease=work.lease)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(job)
                for job in (work.puts(), work.writes(), work.transactions(), work.renewals(), work.watch())
            ]
            yield work
            for task in tasks[:-1]:
                task.cancel()
            await asyncio.wait(tasks[:-1])
            await assert_all_was_done_once(work)
            tasks[-1].cancel()


async def assert_all_was_done_once(work: Work) -> None:
    """What the stores hold is what was acknowledged, each written once, and the watch has seen all of it once."""
    keys = {kv.key: kv async for kv in work.client.prefix("work/")}
    for number in range(work.done["put"]):
        assert f"work/put/{number:06}" in keys
    for number in range(work.done["txn"]):
        assert keys[f"work/txn/{number:06}"].version == 1
    assert work.acknowledged <= keys.keys()
    assert all(kv.version == 1 for key, kv in keys.items() if key.startswith("work/once/"))
    leased = await work.client.get("leased")
    assert leased is not None
    assert leased.lease == work.lease
    # A marker behind everything, then the whole history once more, to compare with.
    last = await work.client.put("work/last", b"", repeatable=True)
    history: list[WatchEvent] = []
    async with asyncio.timeout(PATIENCE_S):
        async for event in work.client.watch("work/", start_revision=work.start_revision):
            history.append(event)
            if event.kv.mod_revision >= last:
                break
    await until(
        lambda: bool(work.watched) and work.watched[-1].kv.mod_revision >= last,
        lambda: f"the watch has seen {len(work.watched)} of {len(history)} events",
    )
    assert [(e.change, e.kv) for e in work.watched] == [(e.change, e.kv) for e in history]


async def member_that(cluster: EtcdCluster, *, leads: bool) -> EtcdServer:
    """The member that leads, or one that follows."""
    async with asyncio.timeout(PATIENCE_S):
        while True:  # the lead may change while they are asked
            for member in cluster.members:
                async with EtcdClient([member.endpoint], timeout_ms=TIMEOUT_MS) as client:
                    status = await client.status()
                if (status.leader_id == status.member_id) == leads:
                    return member


@pytest.mark.parametrize("role", ["leader", "follower"])
async def test_the_member_in_use_is_killed_and_all_work_goes_on(cluster: EtcdCluster, role: str) -> None:
    victim = await member_that(cluster, leads=role == "leader")
    others = [member.endpoint for member in cluster.members if member is not victim]
    async with working([victim.endpoint, *others]) as work:
        await work.further(20)
        await victim.kill()
        await work.further(20)
        # It comes back, and another one goes: that one is needed for a majority.
        await victim.restart()
        second = next(member for member in cluster.members if member is not victim)
        await second.kill()
        await work.further(20)


async def test_a_member_that_hangs_holds_up_no_call_and_no_watch_for_long(cluster: EtcdCluster) -> None:
    victim = await member_that(cluster, leads=False)
    others = [member.endpoint for member in cluster.members if member is not victim]
    async with EtcdClient([victim.endpoint, *others], timeout_ms=TIMEOUT_MS // 4) as client:
        lease = await client.grant(LEASE_S)
        watch = client.watch("k", start_revision=1)
        await client.put("k", b"before")
        assert (await anext(watch)).kv.value == b"before"
        os.kill(victim.pid, signal.SIGSTOP)
        try:
            # Its connection stands, and nothing comes.
            await client.put("k", b"v", repeatable=True)
            assert await client.keep_alive(lease) > 0
            assert await client.get("k") is not None
            # Pings find out: etcd allows one every five seconds.
            async with asyncio.timeout(PATIENCE_S):
                assert (await anext(watch)).kv.value == b"v"
        finally:
            os.kill(victim.pid, signal.SIGCONT)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("seed", range(4))
async def test_members_are_killed_and_hang_at_random_for_minutes(cluster: EtcdCluster, seed: int) -> None:
    rng = random.Random(seed)
    endpoints = [member.endpoint for member in cluster.members]
    rng.shuffle(endpoints)
    kills = 0
    async with working(endpoints) as work:
        for _ in range(25):
            await work.further(rng.randrange(5, 60))
            victim = rng.choice(cluster.members)
            if rng.random() < 0.7:
                await victim.kill()
                kills += 1
                if rng.random() < 0.8:
                    await work.further(rng.randrange(1, 30))
                await victim.restart()
            else:
                os.kill(victim.pid, signal.SIGSTOP)
                try:
                    await work.further(rng.randrange(1, 10))
                finally:
                    os.kill(victim.pid, signal.SIGCONT)
        done = dict(work.done)
    print(f"seed {seed}: {kills} kills, {25 - kills} hangs, {done}, {len(work.watched)} events")  # noqa: T201 - a soak run reports
