"""Room that was promised to a pod, and room that a running container keeps while it is resized."""

from typing import Any

import msgspec
import pytest
from placement_world import World, make_node, make_pod

from daas.placement import Scheduler
from daas.placement.log import PodDeleted, PodUpserted
from daas.placement.model import Pod
from daas.placement.reasons import Reason
from daas.placement.resources import pod_requests

HOSTNAME = "kubernetes.io/hostname"


def promised(name: str, node: str, **kwargs: Any) -> Pod:
    pod = make_pod(name, schedulerName="default-scheduler", **kwargs)
    return Pod(metadata=pod.metadata, spec=pod.spec, status=type(pod.status)(phase="Pending", nominated_node_name=node))


def test_room_promised_to_a_pod_of_no_less_priority_is_kept_and_the_others_see_why() -> None:
    world = World()
    world.nodes(make_node("n0", allocatable={"cpu": "2"}))
    world.pods(promised("vip", "n0", cpu="2", priority=10))
    applied = world.tell(
        PodUpserted(pod=make_pod("low", 5, cpu="1")), PodUpserted(pod=make_pod("high", 6, cpu="1", priority=11))
    )
    assert applied.decision is not None
    by_name = {leaf.name: leaf for leaf in applied.decision.leaves}
    assert by_name["high"].node == "n0"
    assert by_name["low"].node is None
    assert by_name["low"].reasons & Reason.RESERVED_FOR_NOMINATED


def test_a_promise_ends_with_the_pod_and_survives_a_snapshot() -> None:
    world = World()
    world.nodes(make_node("n0", allocatable={"cpu": "2"}))
    world.pods(promised("vip", "n0", cpu="2", priority=10))
    world.scheduler = Scheduler.restore(world.genesis, world.scheduler.snapshot())
    assert world.pods(make_pod("low", 5, cpu="1")) == {"low": None}
    world.tell(PodDeleted(uid="uid-vip", namespace="default", name="vip"))
    applied = world.tell(after_ms=20_000)
    assert applied.decision is not None
    assert applied.decision.leaves[0].node == "n0"


@pytest.mark.parametrize("restored", [False, True])
def test_who_a_promised_pod_keeps_away_stays_away_before_it_is_there(restored: bool) -> None:
    world = World()
    world.nodes(make_node("n0"))
    world.pods(make_pod("there", metadata={"labels": {"tier": "gold"}}))
    apart = {"labelSelector": {"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, "topologyKey": HOSTNAME}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}
    vip = make_pod("vip", 5, priority=10, affinity=affinity)
    vip = Pod(metadata=vip.metadata, spec=vip.spec, status=type(vip.status)(phase="Pending", nominated_node_name="n0"))
    assert world.pods(vip) == {"vip": None}
    if restored:
        world.scheduler = Scheduler.restore(world.genesis, world.scheduler.snapshot())
    low = PodUpserted(pod=make_pod("low", 6, metadata={"labels": {"tier": "silver"}}))
    applied = world.tell(low, PodUpserted(pod=make_pod("free", 7)))
    assert applied.decision is not None
    by_name = {leaf.name: leaf for leaf in applied.decision.leaves}
    assert by_name["low"].node is None
    assert by_name["low"].reasons & Reason.RESERVED_FOR_NOMINATED
    assert by_name["free"].node == "n0"


def test_a_pod_goes_to_the_node_it_was_promised_if_that_will_do() -> None:
    world = World()
    world.nodes(*(make_node(f"n{i}") for i in range(4)))
    world.pods(make_pod("busy", nodeSelector={"kubernetes.io/hostname": "n2"}, cpu="1"))
    pod = make_pod("p", 9, cpu="1")
    pod = Pod(metadata=pod.metadata, spec=pod.spec, status=type(pod.status)(phase="Pending", nominated_node_name="n2"))
    assert world.pods(pod) == {"p": "n2"}


@pytest.mark.parametrize(
    ("spec", "status", "conditions", "counted"),
    [
        ("500m", {"allocatedResources": {"cpu": "1"}}, [], 1000),
        ("2", {"allocatedResources": {"cpu": "1"}}, [], 2000),
        ("500m", {"resources": {"requests": {"cpu": "1500m"}}, "allocatedResources": {"cpu": "1"}}, [], 1500),
        ("4", {"allocatedResources": {"cpu": "1"}}, [{"type": "PodResizePending", "reason": "Infeasible"}], 1000),
    ],
)
def test_a_container_that_is_resized_counts_by_what_it_asks_for_or_has(
    spec: str, status: dict[str, Any], conditions: list[Any], counted: int
) -> None:

    document = msgspec.to_builtins(make_pod("p", cpu=spec))
    document["status"] = {"containerStatuses": [{"name": "main", **status}], "conditions": conditions}
    assert pod_requests(msgspec.convert(document, Pod))["cpu"] == counted
