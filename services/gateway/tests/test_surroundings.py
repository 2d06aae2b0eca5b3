"""Namespaces, services and controllers reach the log: all of them in a full list, each again only when it changes."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from daas.common.errors import DecodeError
from daas.gateway.appender import AppenderLimits, AppenderMetrics, LogAppender
from daas.gateway.cache import ClusterCache
from daas.gateway.surroundings import Seen, event_of
from daas.gateway.watcher import ClusterWatcher, WatchMetrics
from daas.kube import Backoff
from daas.placement.log import decode_entry, decode_event


class Logged:
    """A whole watcher, and the events of the log it writes."""

    def __init__(self, client: Any) -> None:
        self.events: list[dict[str, Any]] = []
        registry = CollectorRegistry()
        appender = LogAppender(
            self._publish,
            lambda: 1_000,
            wants_tick=lambda: False,
            limits=AppenderLimits(window_s=0.001),
            metrics=AppenderMetrics(registry),
        )
        self.watcher = ClusterWatcher(
            client,
            ClusterCache("k3s-daas"),
            appender,
            lambda: 1_000,
            metrics=WatchMetrics(registry),
            backoff=lambda: Backoff(first_s=0.02, max_s=0.2),
            surroundings=True,
        )
        watcher = self.watcher
        runs = (watcher.follow_nodes(), watcher.follow_pods(), watcher.follow_surroundings(), appender.run())
        self.tasks = [asyncio.create_task(run) for run in runs]

    async def _publish(self, body: bytes, message_id: str, time_ms: int) -> int:
        found = [msgspec.to_builtins(decode_event(raw)) for raw in decode_entry(body).events]
        self.events += found
        return len(self.events)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]


@pytest.fixture
async def logged(cluster: Any) -> AsyncIterator[Logged]:
    one = Logged(cluster.client)
    yield one
    for task in one.tasks:
        task.cancel()
    await asyncio.gather(*one.tasks, return_exceptions=True)


@pytest.mark.connected
async def test_they_are_listed_and_followed_and_what_is_not_served_holds_up_nothing(
    cluster: Any, logged: Logged, until: Any
) -> None:
    await until(lambda: logged.of("resync_finished"), "no resync: what the server lacks holds it up")
    await logged.watcher.check()
    inside = [event["type"] for event in logged.events]
    assert inside[0] == "resync_started"
    assert {one["name"] for one in logged.of("namespace_upserted")} >= {"default", "kube-system"}

    ask = cluster.client.request
    await ask("POST", "/api/v1/namespaces", body={"metadata": {"name": "red", "labels": {"team": "one"}}})
    service = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}
    await ask("POST", "/api/v1/namespaces/red/services", body=service)
    headless = {"metadata": {"name": "none"}, "spec": {"ports": [{"port": 80}]}}
    await ask("POST", "/api/v1/namespaces/red/services", body=headless)
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    controller = {
        "metadata": {"name": "web"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    }
    await ask("POST", "/apis/apps/v1/namespaces/red/replicasets", body=controller)
    await until(lambda: logged.of("controller_upserted") and logged.of("service_upserted"), "not told")
    assert logged.of("service_upserted") == [
        {"type": "service_upserted", "namespace": "red", "name": "web", "selector": {"app": "web"}}
    ]
    (told,) = logged.of("controller_upserted")
    assert (told["kind"], told["namespace"]) == ("ReplicaSet", "red")
    assert told["selector"]["matchLabels"] == {"app": "web"}

    # What placement does not read changes nothing; what it reads is told again; what goes is told once.
    merge = "application/merge-patch+json"
    note = {"metadata": {"annotations": {"n": "1"}}}
    await ask("PATCH", "/api/v1/namespaces/red", content_type=merge, body=note)
    await ask("PATCH", "/api/v1/namespaces/red", content_type=merge, body={"metadata": {"labels": {"team": "two"}}})
    scale = {"spec": {"replicas": 0}}
    await ask("PATCH", "/apis/apps/v1/namespaces/red/replicasets/web", content_type=merge, body=scale)
    await ask("DELETE", "/api/v1/namespaces/red/services/web")
    await until(lambda: logged.of("service_deleted") and logged.of("controller_deleted"), "not told of the end")
    await until(lambda: len([e for e in logged.of("namespace_upserted") if e["name"] == "red"]) >= 2, "labels")
    labels = [event["labels"]["team"] for event in logged.of("namespace_upserted") if event["name"] == "red"]
    assert labels == ["one", "two"]


def test_a_selector_that_is_none_is_refused_with_its_place() -> None:
    body = {"metadata": {"name": "w", "namespace": "red"}, "spec": {"selector": {"app": 1}}}
    seen = msgspec.json.decode(json.dumps(body), type=Seen)
    with pytest.raises(DecodeError, match="Service red/w"):
        event_of("Service", seen)


GROUPS = "/apis/scheduling.x-k8s.io/v1alpha1/namespaces/default/podgroups"
KUBERNETES_GROUPS = "/apis/scheduling.k8s.io/v1beta1/namespaces/default/podgroups"
MERGE = "application/merge-patch+json"


@pytest.mark.connected
async def test_groups_of_both_kinds_are_told_with_their_size_and_again_when_it_changes_or_they_go(
    cluster: Any, logged: Logged, until: Any
) -> None:
    await until(lambda: logged.of("resync_finished"), "no resync")
    ask = cluster.client.request

    def sizes(name: str) -> list[int]:
        return [event["min_count"] for event in logged.of("pod_group_upserted") if event["name"] == name]

    await ask("POST", GROUPS, body={"metadata": {"name": "plugins"}, "spec": {"minMember": 3}})
    gang = {"schedulingPolicy": {"gang": {"minCount": 4}}}
    await ask("POST", KUBERNETES_GROUPS, body={"metadata": {"name": "own"}, "spec": gang})
    await until(lambda: sizes("plugins") == [3] and set(sizes("own")) == {4}, "the sizes are told")
    await ask("PATCH", f"{GROUPS}/plugins", content_type=MERGE, body={"spec": {"minMember": 2}})
    fewer = {"spec": {"schedulingPolicy": {"gang": {"minCount": 1}}}}
    await ask("PATCH", f"{KUBERNETES_GROUPS}/own", content_type=MERGE, body=fewer)
    await until(lambda: sizes("plugins") == [3, 2] and sizes("own")[-1] == 1, "the new sizes are told")
    await ask("DELETE", f"{GROUPS}/plugins")
    await ask("DELETE", f"{KUBERNETES_GROUPS}/own")

    def gone() -> set[str]:
        return {event["name"] for event in logged.of("pod_group_deleted")}

    await until(lambda: gone() == {"plugins", "own"}, "their ends are told")


@pytest.mark.connected
async def test_a_group_that_one_api_still_has_is_not_told_to_be_gone_when_another_drops_its_namesake(
    cluster: Any, logged: Logged, until: Any
) -> None:
    await until(lambda: logged.of("resync_finished"), "no resync")
    ask = cluster.client.request
    await ask("POST", GROUPS, body={"metadata": {"name": "same"}, "spec": {"minMember": 3}})
    await until(lambda: len(logged.of("pod_group_upserted")) == 1, "the first is told")
    gang = {"schedulingPolicy": {"gang": {"minCount": 4}}}
    await ask("POST", KUBERNETES_GROUPS, body={"metadata": {"name": "same"}, "spec": gang})
    await until(lambda: len(logged.of("pod_group_upserted")) == 3, "both versions of the second are told")
    await ask("DELETE", f"{KUBERNETES_GROUPS}/same")
    await until(lambda: logged.of("pod_group_upserted")[-1]["min_count"] == 3, "the first counts again")
    assert not logged.of("pod_group_deleted")
