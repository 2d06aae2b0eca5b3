"""The live view: what is taken where, reservations, and who belongs into the log. Pure: no server."""

from typing import Any

import msgspec
import pytest

from daas.gateway.cache import ClusterCache
from daas.placement.model import Node, Pod


def node(name: str, *, cpu: str = "2", pods: str = "10", version: int = 1, **rest: Any) -> Node:
    return msgspec.convert(
        {
            "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version), **rest.pop("meta", {})},
            "spec": rest,
            "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": pods}},
        },
        Node,
    )


def pod(name: str, *, cpu: str = "1", on: str = "", phase: str = "Pending", **rest: Any) -> Pod:
    return msgspec.convert(
        {
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": name,
                "resourceVersion": "1",
                **rest.pop("meta", {}),
            },
            "spec": {
                "schedulerName": rest.pop("scheduler", "k3s-daas"),
                "nodeName": on,
                "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}],
                **rest,
            },
            "status": {"phase": phase},
        },
        Pod,
    )


@pytest.fixture
def cache() -> ClusterCache:
    made = ClusterCache("k3s-daas")
    made.put_node(node("n1"))
    return made


def reason(cache: ClusterCache, asked: Pod, name: str = "n1") -> str | None:
    refusal = cache.reserve(asked, name)
    return refusal.reason if refusal is not None else None


def test_pods_of_any_scheduler_take_room_until_they_end_or_go(cache: ClusterCache) -> None:
    cache.put_pod(pod("other", cpu="1500m", on="n1", scheduler="default-scheduler"), 0)
    assert cache.taken("n1") == {"cpu": 1500, "pods": 1}
    assert reason(cache, pod("mine")) == "capacity"
    cache.put_pod(pod("other", cpu="1500m", on="n1", scheduler="default-scheduler", phase="Succeeded"), 0)
    assert cache.taken("n1") == {}
    assert reason(cache, pod("mine")) is None

    cache.put_pod(pod("third", cpu="1", on="n1"), 0)
    assert reason(cache, pod("fourth")) == "capacity"
    assert cache.drop_pod("third")
    assert not cache.drop_pod("third")
    assert reason(cache, pod("fourth")) is None


def test_a_pod_that_is_being_deleted_takes_room_to_the_end(cache: ClusterCache) -> None:
    cache.put_pod(pod("leaving", cpu="2", on="n1", meta={"deletionTimestamp": "2026-01-01T00:00:00Z"}), 0)
    assert reason(cache, pod("mine")) == "capacity"


def test_binds_in_flight_cannot_overbook_a_node_together(cache: ClusterCache) -> None:
    for name in ("a", "b", "c"):
        cache.put_pod(pod(name), 0)
    assert [reason(cache, pod(name)) for name in ("a", "b", "c")] == [None, None, "capacity"]
    cache.release("a")
    assert reason(cache, pod("c")) is None
    assert cache.reservations == 2


def test_a_reservation_ends_when_the_watch_shows_the_pod_bound(cache: ClusterCache) -> None:
    cache.put_pod(pod("a"), 0)
    assert reason(cache, pod("a")) is None
    cache.put_pod(pod("a"), 0)
    assert cache.reserved("a") == "n1"
    cache.put_pod(pod("a", on="n1"), 0)
    assert cache.reserved("a") is None
    assert cache.taken("n1") == {"cpu": 1000, "pods": 1}
    cache.release("a")
    assert cache.taken("n1") == {"cpu": 1000, "pods": 1}


def test_a_reservation_for_one_node_is_given_up_when_the_pod_appears_on_another(cache: ClusterCache) -> None:
    cache.put_node(node("n2"))
    cache.put_pod(pod("a"), 0)
    assert reason(cache, pod("a")) is None
    cache.put_pod(pod("a", on="n2"), 0)
    assert cache.taken("n1") == {}
    assert cache.taken("n2") == {"cpu": 1000, "pods": 1}


def test_a_reservation_ends_with_its_pod(cache: ClusterCache) -> None:
    cache.put_pod(pod("a"), 0)
    assert reason(cache, pod("a")) is None
    cache.drop_pod("a")
    assert cache.taken("n1") == {}
    assert cache.reservations == 0


def test_the_same_reservation_twice_is_one_and_another_node_is_a_conflict(cache: ClusterCache) -> None:
    cache.put_node(node("n2"))
    assert [reason(cache, pod("a")), reason(cache, pod("a")), reason(cache, pod("a"), "n2")] == [None, None, "conflict"]
    assert cache.taken("n1") == {"cpu": 1000, "pods": 1}


@pytest.mark.parametrize(
    ("the_node", "asked", "expected"),
    [
        (node("n1", cpu="1"), pod("a", cpu="1"), None),
        (node("n1", cpu="1"), pod("a", cpu="1001m"), "capacity"),
        (node("n1", pods="0"), pod("a", cpu="0"), "capacity"),
        (node("n1", cpu="broken"), pod("a"), "capacity"),
        (node("n1"), pod("a", cpu="broken"), "capacity"),
        (node("n1", unschedulable=True), pod("a"), "node-unschedulable"),
        (
            node("n1", unschedulable=True),
            pod("a", tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]),
            None,
        ),
        (node("n1", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}]), pod("a"), "node-unschedulable"),
        (node("n1", taints=[{"key": "k", "value": "v", "effect": "NoExecute"}]), pod("a"), "node-unschedulable"),
        (node("n1", taints=[{"key": "k", "value": "v", "effect": "PreferNoSchedule"}]), pod("a"), None),
        (
            node("n1", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}]),
            pod("a", tolerations=[{"key": "k", "value": "v"}]),
            None,
        ),
        (node("n1", meta={"deletionTimestamp": "2026-01-01T00:00:00Z"}), pod("a"), "node-unschedulable"),
        (node("n1"), pod("a", nodeSelector={"zone": "b"}), "node-unschedulable"),
        (node("n1", meta={"labels": {"zone": "b"}}), pod("a", nodeSelector={"zone": "b"}), None),
    ],
)
def test_a_pod_goes_only_where_there_is_room_and_welcome(the_node: Node, asked: Pod, expected: str | None) -> None:
    cache = ClusterCache("k3s-daas")
    cache.put_node(the_node)
    assert reason(cache, asked) == expected


def test_required_affinity_is_checked_again() -> None:
    cache = ClusterCache("k3s-daas")
    cache.put_node(node("n1", meta={"labels": {"disk": "hdd"}}))
    term = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    asked = pod("a", affinity={"nodeAffinity": required})
    assert reason(cache, asked) == "node-unschedulable"
    cache.put_node(node("n1", meta={"labels": {"disk": "ssd"}}))
    assert reason(cache, asked) is None


def test_a_node_that_is_gone_takes_no_pod_and_another_of_its_name_is_not_dropped(cache: ClusterCache) -> None:
    assert not cache.drop_node("n1", "uid-of-an-older-n1")
    assert cache.drop_node("n1", "uid-n1")
    assert reason(cache, pod("a")) == "node-gone"


def test_pending_are_ours_that_wait(cache: ClusterCache) -> None:
    for waiting in (
        pod("ours"),
        pod("bound", on="n1"),
        pod("other", scheduler="default-scheduler"),
        pod("ended", phase="Failed"),
        pod("leaving", meta={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
    ):
        cache.put_pod(waiting, 0)
    assert cache.pending == 1
    cache.put_pod(pod("ours", on="n1"), 0)
    assert cache.pending == 0


def test_the_log_knows_ours_and_whatever_takes_room(cache: ClusterCache) -> None:
    for known in (
        pod("ours"),
        pod("other", scheduler="default-scheduler"),
        pod("other-bound", on="n1", scheduler="default-scheduler"),
        pod("ended", on="n1", phase="Succeeded"),
    ):
        cache.put_pod(known, 0)
    assert sorted(found.metadata.name for found in cache.logged_pods()) == ["other-bound", "ours"]


def test_a_full_list_drops_what_it_does_not_name(cache: ClusterCache) -> None:
    cache.put_node(node("n2"))
    for known in (pod("a", on="n1"), pod("b", on="n2")):
        cache.put_pod(known, 0)
    assert [gone.metadata.name for gone in cache.retain_nodes({"uid-n1"})] == ["n2"]
    assert [gone.metadata.name for gone in cache.retain_pods({"a"})] == ["b"]
    assert cache.taken("n2") == {}
    assert list(cache.pods) == ["a"]


@pytest.mark.parametrize(
    ("seen_ms", "expected"),
    [(1_767_225_600_250, 1_767_225_600_250), (1_767_225_609_000, 1_767_225_600_999), (0, 1_767_225_600_000)],
)
def test_creation_is_told_as_exactly_as_it_can_be(cache: ClusterCache, seen_ms: int, expected: int) -> None:
    made = pod("a", meta={"creationTimestamp": "2026-01-01T00:00:00Z"})
    cache.put_pod(made, seen_ms)
    assert cache.created_ms(made) == expected
    assert cache.created_ms(pod("b", meta={"creationTimestamp": "not a time"})) == 0
