"""The watches against a real API server: what reaches the log, and in which form."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from daas.gateway.appender import AppenderLimits, AppenderMetrics, LogAppender
from daas.gateway.cache import ClusterCache
from daas.gateway.watcher import ClusterWatcher, WatchMetrics
from daas.kube import Backoff, KubeClient
from daas.placement.log import decode_entry, decode_event


class Watched:
    """A running watcher and the log it writes, in memory."""

    def __init__(self, client: KubeClient) -> None:
        self.entries: list[bytes] = []
        self.registry = CollectorRegistry()
        self.cache = ClusterCache("k3s-daas")
        self.appender = LogAppender(
            self._publish,
            lambda: 1_000,
            wants_tick=lambda: False,
            limits=AppenderLimits(window_s=0.001),
            metrics=AppenderMetrics(self.registry),
        )
        self.watcher = ClusterWatcher(
            client,
            self.cache,
            self.appender,
            lambda: 1_000,
            metrics=WatchMetrics(self.registry),
            backoff=lambda: Backoff(first_s=0.02, max_s=0.2),
        )
        runs = (self.watcher.follow_nodes(), self.watcher.follow_pods(), self.appender.run())
        self._tasks = [asyncio.create_task(run) for run in runs]

    async def _publish(self, body: bytes, message_id: str, time_ms: int) -> int:
        self.entries.append(body)
        return len(self.entries)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def raw_events(self) -> list[dict[str, Any]]:
        return [event for body in self.entries for event in msgspec.json.decode(body)["events"]]

    def said(self) -> list[str]:
        """The events as short words: `pod a@n1`, `node n1`, `-pod a`, `<`, `>`."""
        words = []
        for body in self.entries:
            for raw in decode_entry(body).events:
                match msgspec.to_builtins(decode_event(raw)):
                    case {"type": "node_upserted", "node": found}:
                        words.append(f"node {found['metadata']['name']}")
                    case {"type": "pod_upserted", "pod": found}:
                        words.append(f"pod {found['metadata']['name']}@{found['spec'].get('nodeName', '')}")
                    case {"type": "node_deleted", "name": name}:
                        words.append(f"-node {name}")
                    case {"type": "pod_deleted", "name": name}:
                        words.append(f"-pod {name}")
                    case {"type": "resync_started"}:
                        words.append("<")
                    case {"type": "resync_finished"}:
                        words.append(">")
        return words

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
async def watch(apiserver: Any) -> AsyncIterator[Any]:
    running: list[tuple[Watched, KubeClient]] = []

    async def start() -> Watched:
        client = await KubeClient.connect(apiserver.kubeconfig)
        running.append((Watched(client), client))
        return running[-1][0]

    yield start
    for watched, client in running:
        await watched.stop()
        await client.close()


@pytest.mark.connected
async def test_the_start_is_one_full_list_between_its_markers(cluster: Any, watch: Any, until: Any) -> None:
    await cluster.node("n1")
    await cluster.node("n2")
    await cluster.pod("ours")
    await cluster.pod("theirs", scheduler="default-scheduler")
    await cluster.pod("theirs-bound", scheduler="default-scheduler", nodeName="n1")
    watched = await watch()
    await until(lambda: ">" in watched.said(), "no resync")
    assert watched.said() == ["<", "node n1", "node n2", "pod ours@", "pod theirs-bound@n1", ">"]
    started, finished = watched.raw_events()[0], watched.raw_events()[-1]
    assert started["id"] == finished["id"]
    await watched.watcher.check()


@pytest.mark.connected
async def test_changes_follow_and_only_trimmed_fields_are_logged(cluster: Any, watch: Any, until: Any) -> None:
    await cluster.node("n1")
    watched = await watch()
    await until(lambda: ">" in watched.said(), "no resync")
    before = len(watched.said())
    await cluster.pod("ours")
    await cluster.pod("theirs", scheduler="default-scheduler")
    await cluster.bind("theirs", "n1")
    await until(lambda: "pod theirs@n1" in watched.said(), "no bound pod")
    await cluster.delete_pod("ours")
    await until(lambda: "-pod ours" in watched.said(), "no deletion")
    await cluster.delete_node("n1")
    await until(lambda: "-node n1" in watched.said(), "no node deletion")
    words = [word for word in watched.said()[before:] if word != "node n1"]
    assert words == ["pod ours@", "pod theirs@n1", "-pod ours", "-node n1"]
    (ours,) = [
        event["pod"] for event in watched.raw_events() if event.get("pod", {}).get("metadata", {}).get("name") == "ours"
    ]
    assert set(ours["metadata"]) <= {
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "labels",
        "creationTimestamp",
        "deletionTimestamp",
    }
    assert "managedFields" not in msgspec.json.encode(ours).decode()


@pytest.mark.connected
async def test_changes_that_placement_does_not_read_are_not_logged(cluster: Any, watch: Any, until: Any) -> None:
    await cluster.node("n1")
    await cluster.pod("ours")
    watched = await watch()
    await until(lambda: ">" in watched.said(), "no resync")
    before = watched.said()
    for index in range(5):
        await cluster.patch_node("n1", {"metadata": {"annotations": {"beat": str(index)}}})
    await until(
        lambda: watched.count("daas_gateway_watch_unchanged_total", kind="node") == 5, "the changes were not seen"
    )
    assert watched.said() == before
    assert watched.cache.nodes["n1"].metadata.resource_version == watched.watcher.nodes.resource_version


@pytest.mark.connected
async def test_a_pod_that_ends_is_logged_once_and_left_out_of_the_next_full_list(
    cluster: Any, watch: Any, until: Any
) -> None:
    await cluster.node("n1")
    await cluster.pod("job", nodeName="n1")
    watched = await watch()
    await until(lambda: ">" in watched.said(), "no resync")
    await cluster.set_phase("job", "Succeeded")
    await until(lambda: watched.said().count("pod job@n1") == 2, "the end was not logged")
    again = await watch()
    await until(lambda: ">" in again.said(), "no resync")
    assert again.said() == ["<", "node n1", ">"]


@pytest.mark.connected
async def test_a_pod_created_again_under_its_name_is_another_pod(cluster: Any, watch: Any, until: Any) -> None:
    first = await cluster.pod("twin")
    watched = await watch()
    await until(lambda: ">" in watched.said(), "no resync")
    await cluster.delete_pod("twin")
    second = await cluster.pod("twin")
    await until(lambda: list(watched.cache.pods) == [second], "the second pod was not seen")
    await until(lambda: not watched.appender.waiting and watched.said()[-1] == "pod twin@", "not logged")
    uids = [event.get("uid") or event["pod"]["metadata"]["uid"] for event in watched.raw_events() if "id" not in event]
    assert uids == [first, first, second]


@pytest.mark.connected
async def test_an_api_server_that_is_away_makes_the_watcher_not_ready(
    apiserver: Any, cluster: Any, watch: Any, until: Any
) -> None:
    watched = await watch()
    await until(lambda: watched.watcher.complete, "no resync")
    await apiserver.kill()
    await until(lambda: watched.watcher.pods.problem is not None, "not noticed")
    with pytest.raises(Exception, match="kube-connection"):
        await watched.watcher.check()
