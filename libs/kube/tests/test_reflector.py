"""The reflector against a real server: nothing is lost over restarts, cuts, expired versions and refused objects."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from daas.common.errors import DecodeError
from daas.kube import Backoff, Deleted, KubeClient, ListFinished, ListStarted, Reflector, Upserted

PODS = "/api/v1/pods"
CREATE = "/api/v1/namespaces/default/pods"


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    uid: str
    resource_version: str
    labels: dict[str, str] = {}


class Spec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""


class SmallPod(msgspec.Struct, frozen=True):
    metadata: Meta
    spec: Spec


class Copy:
    """What a reader of changes would hold: the pods that exist, by name."""

    def __init__(self, reflector: Reflector[SmallPod]) -> None:
        self.reflector = reflector
        self.pods: dict[str, SmallPod] = {}
        self.listed: set[str] = set()
        self.lists = 0
        self.deletes = 0
        self.paused = asyncio.Event()
        self.paused.set()

    async def follow(self) -> None:
        async with aclosing(self.reflector.changes()) as changes:
            async for change in changes:
                match change:
                    case ListStarted():
                        self.listed = set()
                    case Upserted(pod):
                        self.pods[pod.metadata.name] = pod
                        self.listed.add(pod.metadata.name)
                    case Deleted(pod):
                        self.deletes += 1
                        self.pods.pop(pod.metadata.name, None)
                    case ListFinished():
                        self.pods = {name: pod for name, pod in self.pods.items() if name in self.listed}
                        self.lists += 1
                await self.paused.wait()


def quick() -> Backoff:
    return Backoff(first_s=0.02, max_s=0.2, chance=random.Random(1))


@pytest.fixture
async def following() -> AsyncIterator[Any]:
    tasks = []
    clients = []

    async def start(kubeconfig: Path, **options: Any) -> Copy:
        client = await KubeClient.connect(kubeconfig)
        clients.append(client)
        copy = Copy(Reflector(client, PODS, SmallPod, backoff=quick(), **options))
        tasks.append(asyncio.create_task(copy.follow()))
        return copy

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for client in clients:
        await client.close()


@pytest.mark.connected
async def test_a_list_in_pages_then_a_watch_deliver_every_pod(
    apiserver: Any, kube: KubeClient, following: Any, until: Any, manifest: Any
) -> None:
    for index in range(7):
        await kube.request("POST", CREATE, body=manifest(f"p{index}"))
    copy = await following(apiserver.kubeconfig, page_limit=3)
    await until(lambda: copy.lists == 1, "no list")
    assert sorted(copy.pods) == [f"p{index}" for index in range(7)]
    assert copy.reflector.synced

    await kube.request("POST", CREATE, body=manifest("late"))
    await kube.request("DELETE", f"{CREATE}/p0", query={"gracePeriodSeconds": 0})
    await until(lambda: "late" in copy.pods and "p0" not in copy.pods, "changes did not arrive")
    assert copy.lists == 1
    assert int(copy.reflector.resource_version) > 0


@pytest.mark.connected
async def test_a_cut_watch_resumes_where_it_was(
    behind_door: Any, kube: KubeClient, following: Any, until: Any, manifest: Any
) -> None:
    copy = await following(behind_door.kubeconfig)
    await until(lambda: copy.reflector.synced and copy.reflector.counters.watches, "no watch")
    behind_door.door.open = False
    behind_door.door.cut()
    for index in range(5):
        await kube.request("POST", CREATE, body=manifest(f"unseen{index}"))
    await kube.request("DELETE", f"{CREATE}/unseen0", query={"gracePeriodSeconds": 0})
    await until(lambda: copy.reflector.problem is not None, "the cut was not noticed")
    assert copy.reflector.problem.reason == "kube-connection"
    behind_door.door.open = True
    await until(lambda: len(copy.pods) == 4 and copy.deletes == 1, "changes of the meantime did not arrive")
    assert copy.lists == 1
    await until(lambda: copy.reflector.problem is None, "the problem was not cleared")


@pytest.mark.connected
async def test_watches_that_the_server_ends_are_begun_again(
    apiserver: Any, kube: KubeClient, following: Any, until: Any, manifest: Any
) -> None:
    copy = await following(apiserver.kubeconfig, watch_timeout_s=1)
    await until(lambda: copy.reflector.counters.watches >= 3, "the watch was not begun again")
    await kube.request("POST", CREATE, body=manifest("later"))
    await until(lambda: "later" in copy.pods, "a later change did not arrive")
    assert copy.lists == 1


@pytest.mark.connected
async def test_a_killed_server_that_comes_back_is_followed_again(
    behind_door: Any, following: Any, until: Any, manifest: Any, kube: KubeClient
) -> None:
    await kube.request("POST", CREATE, body=manifest("before"))
    copy = await following(behind_door.kubeconfig)
    await until(lambda: copy.reflector.synced, "no list")
    await behind_door.server.kill()
    await until(lambda: copy.reflector.problem is not None, "the kill was not noticed")
    await behind_door.server.start()
    behind_door.door.target = ("127.0.0.1", int(behind_door.server.url.rsplit(":", 1)[1]))
    async with await KubeClient.connect(behind_door.server.kubeconfig) as again:
        await again.request("POST", CREATE, body=manifest("after"))
    await until(lambda: sorted(copy.pods) == ["after", "before"], "the restarted server is not followed")


@pytest.mark.connected
async def test_an_expired_version_leads_to_a_new_list_that_drops_what_is_gone(
    behind_door: Any, following: Any, until: Any, manifest: Any, kube: KubeClient
) -> None:
    for name in ("stays", "goes"):
        await kube.request("POST", CREATE, body=manifest(name))
    copy = await following(behind_door.kubeconfig)
    await until(lambda: copy.reflector.synced, "no list")
    behind_door.door.open = False
    behind_door.door.cut()
    await kube.request("DELETE", f"{CREATE}/goes", query={"gracePeriodSeconds": 0})
    await kube.request("POST", CREATE, body=manifest("comes"))
    await behind_door.server.kill()
    compact_everything(behind_door.server.state)
    await behind_door.server.start()
    behind_door.door.target = ("127.0.0.1", int(behind_door.server.url.rsplit(":", 1)[1]))
    behind_door.door.open = True
    await until(lambda: copy.lists == 2, "no second list")
    assert sorted(copy.pods) == ["comes", "stays"]
    assert copy.reflector.counters.gone == 1
    assert copy.deletes == 0


@pytest.mark.connected
async def test_a_reader_that_is_slow_slows_the_watch_and_loses_nothing(
    apiserver: Any, kube: KubeClient, following: Any, until: Any, manifest: Any
) -> None:
    copy = await following(apiserver.kubeconfig)
    await until(lambda: copy.reflector.synced, "no list")
    copy.paused.clear()
    for index in range(100):
        await kube.request("POST", CREATE, body=manifest(f"many{index}"))
    assert len(copy.pods) <= 1
    copy.paused.set()
    await until(lambda: len(copy.pods) == 100, "changes were lost")


@pytest.mark.connected
async def test_an_object_that_cannot_be_decoded_is_told_and_costs_no_other(
    apiserver: Any, kube: KubeClient, until: Any, manifest: Any
) -> None:
    class Picky(msgspec.Struct, frozen=True, rename="camel"):
        name: msgspec.Raw
        uid: str
        resource_version: str
        labels: dict[str, int] = {}

    class PickyPod(msgspec.Struct, frozen=True):
        metadata: Picky

    bad = manifest("bad")
    bad["metadata"]["labels"] = {"not": "number"}
    await kube.request("POST", CREATE, body=bad)
    await kube.request("POST", CREATE, body=manifest("good"))
    refusals: list[DecodeError] = []
    async with await KubeClient.connect(apiserver.kubeconfig) as client:
        reflector = Reflector(client, PODS, PickyPod, on_refused=refusals.append, backoff=quick())
        async with aclosing(reflector.changes()) as changes:
            seen = []
            async for change in changes:
                seen.append(change)
                if isinstance(change, ListFinished):
                    break
    assert [bytes(change.object.metadata.name) for change in seen if isinstance(change, Upserted)] == [b'"good"']
    assert [refusal.reason for refusal in refusals] == ["kube-object-malformed"]
    assert reflector.counters.refused == 1


def test_delays_grow_with_jitter_to_a_bound_and_respect_the_server() -> None:
    backoff = Backoff(first_s=1.0, max_s=8.0, chance=random.Random(7))
    delays = [backoff.next_s() for _ in range(6)]
    for delay, bound in zip(delays, [1, 2, 4, 8, 8, 8], strict=True):
        assert bound / 2 <= delay <= bound
    assert backoff.next_s(at_least_s=20.0) == 20.0
    backoff.reset()
    assert backoff.next_s() <= 1.0


def compact_everything(state: Any) -> None:
    """Makes every version before now too old, as an etcd compaction does."""
    (path,) = [found for found in state.rglob("*") if found.is_file() and found.read_bytes()[:15] == b"SQLite format 3"]
    with sqlite3.connect(path) as database:
        (version,) = database.execute("SELECT max(version) FROM log").fetchone()
        database.execute("INSERT OR REPLACE INTO meta VALUES ('compacted', ?)", (version,))
    database.close()
