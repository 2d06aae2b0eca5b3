"""Groups of pods are placed whole, inside one batch, or not at all, and leave no trace where they don't fit."""

from typing import Any

from placement_world import World, make_node, make_pod, placed

from daas.placement import Applied, Scheduler
from daas.placement.fairness import verify_fairness
from daas.placement.integrity import verify_feasibility
from daas.placement.log import PodGroupDeleted, PodGroupUpserted, PodUpserted
from daas.placement.reasons import Reason


def gang(name: str, count: int, start: int = 0, **kwargs: Any) -> list[PodUpserted]:
    return [
        PodUpserted(pod=make_pod(f"{name}{i}", 10 + i, schedulingGroup={"podGroupName": name}, **kwargs))
        for i in range(start, start + count)
    ]


def reasons(applied: Applied) -> set[int]:
    assert applied.decision is not None
    return {leaf.reasons for leaf in applied.decision.leaves if leaf.node is None}


def test_a_group_that_fits_is_placed_in_one_batch() -> None:
    world = World()
    world.nodes(make_node("n0"), make_node("n1"))
    applied = world.tell(PodGroupUpserted(namespace="default", name="g", min_count=4), *gang("g", 4, cpu="2"))
    assert len([node for node in placed(applied).values() if node]) == 4


def test_a_group_that_does_not_fit_takes_nothing_and_others_are_placed_as_if_it_were_not_there() -> None:
    world = World()
    world.nodes(make_node("n0", allocatable={"cpu": "4"}))
    group = PodGroupUpserted(namespace="default", name="g", min_count=3)
    applied = world.tell(group, *gang("g", 3, cpu="2"), PodUpserted(pod=make_pod("alone", 50, cpu="3")))
    assert placed(applied) == {"g0": None, "g1": None, "g2": None, "alone": "n0"}
    assert reasons(applied) == {Reason.GANG_DOES_NOT_FIT}
    assert applied.decision is not None
    assert applied.fairness is not None
    assert verify_fairness(applied.fairness, applied.decision.leaves).holds
    snapshot = world.scheduler.snapshot()
    assert verify_feasibility(world.genesis, snapshot, applied.decision.batch, applied.decision.leaves) is None
    world.nodes(make_node("n1", allocatable={"cpu": "8"}))
    later = placed(world.tell(after_ms=20_000))
    assert set(later.values()) == {"n1"}
    assert len(later) == 3


def test_nothing_leans_on_a_group_that_is_taken_back() -> None:
    world = World()
    world.nodes(make_node("n0", allocatable={"cpu": "4"}))
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "g"}}}
    affinity = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    applied = world.tell(
        PodGroupUpserted(namespace="default", name="g", min_count=3),
        *gang("g", 3, cpu="2", metadata={"labels": {"app": "g"}}),
        PodUpserted(pod=make_pod("friend", 50, affinity=affinity)),
    )
    assert set(placed(applied).values()) == {None}
    assert Reason.POD_AFFINITY_MISMATCH in reasons(applied)


def test_pods_wait_for_the_rest_of_their_group_and_for_the_group_itself() -> None:
    world = World()
    world.nodes(make_node("n0", allocatable={"cpu": "40"}))
    applied = world.tell(*gang("g", 2))
    assert reasons(applied) == {Reason.GANG_INCOMPLETE}
    applied = world.tell(PodGroupUpserted(namespace="default", name="g", min_count=3), *gang("g", 1, start=2))
    assert set(placed(applied).values()) == {"n0"}
    assert len(placed(applied)) == 3
    applied = world.tell(*gang("g", 1, start=3))
    assert placed(applied) == {"g3": "n0"}
    world.tell(PodGroupDeleted(namespace="default", name="g"))
    assert reasons(world.tell(*gang("g", 1, start=4))) == {Reason.GANG_INCOMPLETE}


def test_a_group_named_by_the_label_survives_a_snapshot() -> None:
    world = World()
    world.nodes(make_node("n0", allocatable={"cpu": "40"}))
    labels = {"scheduling.x-k8s.io/pod-group": "g"}
    pods = [PodUpserted(pod=make_pod(f"p{i}", i + 1, metadata={"labels": labels})) for i in range(2)]
    world.tell(PodGroupUpserted(namespace="default", name="g", min_count=2), pods[0])
    world.scheduler = Scheduler.restore(world.genesis, world.scheduler.snapshot())
    assert placed(world.tell(pods[1])) == {"p0": "n0", "p1": "n0"}
