"""Groups of pods are placed whole, inside one batch, or not at all, and leave no trace where they don't fit."""

from typing import Any

import msgspec
import pytest
from placement_world import World, make_node, make_pod, placed

from daas.placement import Applied, Scheduler
from daas.placement.batch import decisions_root
from daas.placement.fairness import verify_fairness
from daas.placement.integrity import verify_feasibility
from daas.placement.log import (
    BudgetUpserted,
    PodDeleted,
    PodGroupDeleted,
    PodGroupUpserted,
    PodUpserted,
    PreemptionFailed,
)
from daas.placement.model import Pod
from daas.placement.reasons import Reason
from daas.placement.storage import PodDisruptionBudget
from daas.placement.table import PODS_COLUMN


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


def running(name: str, node: str, priority: int = 0, **more: Any) -> Pod:
    return make_pod(name, priority=priority, nodeName=node, phase="Running", **more)


def full(*pods: Pod, nodes: int = 2) -> World:
    """Nodes of two cores with these pods, and a group of three."""
    world = World()
    world.nodes(*(make_node(f"n{i}", allocatable={"cpu": "2"}) for i in range(nodes)))
    group = PodGroupUpserted(namespace="default", name="g", min_count=3)
    world.tell(group, *(PodUpserted(pod=pod) for pod in pods))
    return world


def plans_of(applied: Applied) -> dict[str, tuple[str, list[str]]]:
    assert applied.decision is not None
    names = {leaf.pod_uid: leaf.name for leaf in applied.decision.leaves}
    return {names[p.pod_uid]: (p.node, [v.name for v in p.victims]) for p in applied.decision.preemptions}


def check(world: World, applied: Applied) -> None:
    """The decision holds without a replay, and a scheduler restored after it is the same."""
    decision = applied.decision
    assert decision is not None
    snapshot = world.scheduler.snapshot()
    assert verify_feasibility(world.genesis, snapshot, decision.batch, decision.leaves, decision.preemptions) is None
    assert Scheduler.restore(world.genesis, snapshot).head == world.scheduler.head
    table = world.scheduler._engine.table
    for name, slot in table.slot_of.items():
        record = world.scheduler._state.nodes[name]
        assert table.free(PODS_COLUMN)[slot] == record.capacity["pods"] - record.pods


def gone(name: str) -> PodDeleted:
    return PodDeleted(uid=f"uid-{name}", namespace="default", name=name)


def budget(allowed: int) -> BudgetUpserted:
    document = {
        "metadata": {"name": "low", "namespace": "default"},
        "spec": {"selector": {}},
        "status": {"disruptionsAllowed": allowed},
    }
    return BudgetUpserted(budget=msgspec.convert(document, PodDisruptionBudget))


def test_a_group_makes_room_by_one_plan_and_is_placed_when_all_victims_are_gone() -> None:
    """Three of one core each: one finds room, two nodes have to give one core each."""
    world = full(running("a", "n0", cpu="1"), running("b", "n1", cpu="1"), running("c", "n1", 20, cpu="1"))
    applied = world.tell(*gang("g", 3, cpu="1", priority=10))
    plans = plans_of(applied)
    assert len(plans) == 3
    assert sorted(node for node, _ in plans.values()) == ["n0", "n0", "n1"]
    assert sorted(victim for _, victims in plans.values() for victim in victims) == ["a", "b"]
    assert reasons(applied) == {Reason.GANG_DOES_NOT_FIT | Reason.PREEMPTION_PLANNED}
    check(world, applied)
    low = PodUpserted(pod=make_pod("low", 50, cpu="1"))
    applied = world.tell(gone("a"), low, after_ms=20_000)
    assert set(placed(applied).values()) == {None}
    assert plans_of(applied) == {}
    assert set(placed(world.tell(gone("b"), after_ms=20_000)).values()) <= {None, "n0", "n1"}
    state = world.scheduler._state
    assert {state.pods[f"uid-g{i}"].node for i in range(3)} == {"n0", "n1"}
    assert not state.plans
    assert not state.victims


def test_nobody_is_evicted_for_a_part_of_a_group() -> None:
    """Two of three could be placed if all of low priority went."""
    world = full(running("a", "n0", cpu="1"), running("b", "n0", 20, cpu="1"), running("c", "n1", cpu="1"))
    world.tell(PodUpserted(pod=running("d", "n1", 20, cpu="1")))
    applied = world.tell(*gang("g", 3, cpu="1", priority=10))
    assert plans_of(applied) == {}
    assert reasons(applied) == {Reason.GANG_DOES_NOT_FIT}
    check(world, applied)


def test_budgets_are_kept_over_the_whole_plan_of_a_group_and_wake_it_when_they_grow() -> None:
    world = full(*(running(f"v{i}", f"n{i}", cpu="2") for i in range(3)), nodes=3)
    world.tell(budget(2))
    applied = world.tell(*gang("g", 3, cpu="2", priority=10))
    assert plans_of(applied) == {}
    applied = world.tell(budget(3), after_ms=60_000)
    assert sorted(victim for _, victims in plans_of(applied).values() for victim in victims) == ["v0", "v1", "v2"]
    check(world, applied)


def test_pods_of_a_group_never_evict_each_other() -> None:
    world = full(nodes=2)
    low = [PodUpserted(pod=running(f"old{i}", f"n{i}", cpu="2", schedulingGroup={"podGroupName": "g"})) for i in (0, 1)]
    world.tell(*low)
    assert plans_of(world.tell(*gang("g", 2, cpu="1", priority=10))) == {}


@pytest.mark.parametrize(
    "more",
    [{"priority": 0}, {"priority": 10, "preemptionPolicy": "Never"}, {"priority": 10, "namespace": "other"}],
    ids=["of equal priority", "whose policy says never", "of another tenant"],
)
def test_nobody_is_evicted_for_a_group(more: dict[str, Any]) -> None:
    world = full(*(running(f"v{i}", f"n{i}", cpu="2") for i in range(3)), nodes=3)
    world.tell(PodGroupUpserted(namespace="other", name="g", min_count=3))
    assert plans_of(world.tell(*gang("g", 3, cpu="1", **more))) == {}


def test_a_group_whose_pods_keep_apart_plans_for_as_many_nodes() -> None:
    labels = {"app": "g"}
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    world = full(*(running(f"v{i}", f"n{i}", cpu="2") for i in range(3)), nodes=3)
    applied = world.tell(*gang("g", 3, cpu="1", priority=10, affinity=apart, metadata={"labels": labels}))
    assert sorted(node for node, _ in plans_of(applied).values()) == ["n0", "n1", "n2"]
    check(world, applied)
    world = full(*(running(f"v{i}", f"n{i}", cpu="2") for i in range(2)), nodes=2)
    applied = world.tell(*gang("g", 3, cpu="1", priority=10, affinity=apart, metadata={"labels": labels}))
    assert plans_of(applied) == {}
    check(world, applied)


def test_one_eviction_that_can_not_be_made_ends_the_plan_of_the_whole_group() -> None:
    world = full(*(running(f"v{i}", f"n{i}", cpu="2") for i in range(3)), nodes=3)
    applied = world.tell(*gang("g", 3, cpu="2", priority=10))
    assert applied.decision is not None
    sequence = applied.decision.batch.sequence
    world.tell(PreemptionFailed(uid="uid-g1", sequence=sequence, reason="expired"))
    assert not world.scheduler._state.plans
    assert not world.scheduler._state.victims
    assert len(plans_of(world.tell(after_ms=20_000))) == 3


def test_a_plan_for_a_part_of_a_group_is_found_without_a_replay() -> None:
    world = full(*(running(f"v{i}", f"n{i}", cpu="2") for i in range(3)), nodes=3)
    decision = world.tell(*gang("g", 3, cpu="2", priority=10)).decision
    assert decision is not None
    state = world.scheduler._state
    state.drop_plan(state.pods["uid-g2"])
    kept = [plan for plan in decision.preemptions if plan.pod_uid != "uid-g2"]
    batch = msgspec.structs.replace(
        decision.batch,
        state_root=state.root(),
        decisions=decisions_root(decision.leaves, kept),
        count=len(decision.leaves) + len(kept),
    )
    world.scheduler._digest = batch.digest()
    finding = verify_feasibility(world.genesis, world.scheduler.snapshot(), batch, decision.leaves, kept)
    assert finding is not None
    assert (finding.rule, finding.message) == ("preemption", "the rest of its group has no plan")


def test_pods_beyond_the_minimum_of_a_group_make_room_one_by_one() -> None:
    world = full(running("v", "n1", cpu="2"), nodes=2)
    world.tell(PodGroupUpserted(namespace="default", name="g", min_count=2))
    applied = world.tell(*gang("g", 3, cpu="1", priority=10))
    assert sorted(filter(None, placed(applied).values())) == ["n0", "n0"]
    assert [victims for _, victims in plans_of(applied).values()] == [["v"]]
    check(world, applied)
