"""A pod that fits nowhere makes room among its own tenant's pods of less priority: a plan that is part of the batch."""

import random
from typing import Any

import msgspec
import pytest
from placement_evictions import best_plans
from placement_storage import make_claim, make_class, make_volume, told
from placement_world import GENESIS, World, make_node, make_pod, placed, reference_feasible

from daas.placement import Applied, Preemption, Scheduler, verify
from daas.placement.batch import Leaf, decisions_root
from daas.placement.integrity import verify_feasibility
from daas.placement.log import BudgetDeleted, BudgetUpserted, Event, PodDeleted, PodUpserted, PreemptionFailed
from daas.placement.model import Pod
from daas.placement.reasons import Reason
from daas.placement.records import PodState
from daas.placement.storage import PodDisruptionBudget
from daas.placement.table import PODS_COLUMN


def running(name: str, node: str, priority: int = 0, *, start: str = "", **more: Any) -> Pod:
    pod = make_pod(name, priority=priority, nodeName=node, phase="Running", **more)
    return msgspec.structs.replace(pod, status=msgspec.structs.replace(pod.status, start_time=start or None))


def budget(name: str, allowed: int, labels: dict[str, str], **status: Any) -> BudgetUpserted:
    document = {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": labels}},
        "status": {"disruptionsAllowed": allowed, **status},
    }
    return BudgetUpserted(budget=msgspec.convert(document, PodDisruptionBudget))


def full(*pods: Pod, nodes: int = 2) -> World:
    world = World()
    world.nodes(*(make_node(f"n{i}", allocatable={"cpu": "2"}) for i in range(nodes)))
    world.tell(*(PodUpserted(pod=pod) for pod in pods))
    return world


def plans_of(applied: Applied) -> dict[str, tuple[str, list[str]]]:
    assert applied.decision is not None
    uids = {leaf.pod_uid: leaf.name for leaf in applied.decision.leaves}
    return {uids[p.pod_uid]: (p.node, [v.name for v in p.victims]) for p in applied.decision.preemptions}


def ask(world: World, *pods: Pod) -> Applied:
    return world.tell(*(PodUpserted(pod=pod) for pod in pods))


def test_a_pod_that_fits_nowhere_names_who_has_to_go_and_is_placed_when_they_are_gone() -> None:
    world = full(running("a", "n0", cpu="2"), running("b", "n1", 5, cpu="2"))
    applied = ask(world, make_pod("p", cpu="1", priority=10))
    assert plans_of(applied) == {"p": ("n0", ["a"])}
    assert applied.decision is not None
    leaf = applied.decision.leaves[0]
    assert leaf.node is None
    assert Reason.PREEMPTION_PLANNED in Reason(leaf.reasons)
    assert applied.decision.batch.count == 2
    world.tell(PodDeleted(uid="uid-a", namespace="default", name="a"))
    assert placed(world.tell(after_ms=2_000)) == {"p": "n0"}
    assert not world.scheduler._state.plans
    assert not world.scheduler._state.victims


@pytest.mark.parametrize(
    ("victim", "preemptor"),
    [
        ({"priority": 10}, {"priority": 10}),
        ({"priority": 0}, {"priority": 10, "preemptionPolicy": "Never"}),
        ({"priority": 0, "namespace": "other"}, {"priority": 10}),
    ],
    ids=["equal priority", "a policy that says never", "another tenant"],
)
def test_nobody_is_evicted_for(victim: dict[str, Any], preemptor: dict[str, Any]) -> None:
    world = full(running("a", "n0", cpu="2", **victim), nodes=1)
    assert plans_of(ask(world, make_pod("p", cpu="1", **preemptor))) == {}


def test_the_least_important_victims_are_chosen_in_kube_schedulers_order() -> None:
    """Lowest highest priority, then lowest sum, then fewest, then the latest start."""
    early, late = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
    cases: list[tuple[list[Pod], str]] = [
        ([running("a", "n0", 5, cpu="2"), running("b", "n1", 4, cpu="1"), running("c", "n1", 4, cpu="1")], "n1"),
        ([running("a", "n0", 5, cpu="1"), running("b", "n0", 3, cpu="1"), running("c", "n1", 5, cpu="2")], "n1"),
        ([running("a", "n0", 5, cpu="2", start=early), running("b", "n1", 5, cpu="2", start=late)], "n1"),
        ([running("a", "n0", 5, cpu="2", start=late), running("b", "n1", 5, cpu="2", start=early)], "n0"),
    ]
    for pods, node in cases:
        plans = plans_of(ask(full(*pods), make_pod("p", cpu="2", priority=10)))
        assert plans["p"][0] == node, pods


def test_who_can_stay_stays_the_most_important_first() -> None:
    world = full(*(running(f"v{i}", "n0", i, cpu="500m") for i in range(4)), nodes=1)
    assert plans_of(ask(world, make_pod("p", cpu="1", priority=10))) == {"p": ("n0", ["v1", "v0"])}


def test_a_budget_is_never_overdrawn_not_by_one_plan_and_not_by_several() -> None:
    web: dict[str, Any] = {"metadata": {"labels": {"app": "web"}}}
    pods = [running(f"v{i}", f"n{i}", cpu="2", **web) for i in range(3)]
    world = full(*pods, nodes=3)
    world.tell(budget("web", 1, {"app": "web"}))
    applied = ask(world, *(make_pod(f"p{i}", cpu="2", priority=10) for i in range(3)))
    assert len(plans_of(applied)) == 1
    world.tell(budget("web", 2, {"app": "web"}))
    later = ask(world, make_pod("q", cpu="2", priority=10))
    assert len(plans_of(later)) == 1
    world.tell(budget("web", 0, {"app": "web"}, disruptedPods={"v0": "t", "v1": "t", "v2": "t"}))
    assert len(plans_of(ask(world, make_pod("r", cpu="2", priority=10)))) == 1


@pytest.mark.parametrize(
    "change",
    [
        budget("web", 1, {"app": "web"}),
        budget("web", 0, {"app": "other"}),
        budget("web", 0, {"app": "web"}, disruptedPods={"v": "t"}),
        BudgetDeleted(namespace="default", name="web"),
        PodUpserted(pod=running("v", "n0", cpu="2", metadata={"labels": {"app": "else"}, "resourceVersion": "9"})),
    ],
    ids=["grows", "selects others", "has counted the pod", "is deleted", "selects the victim no more"],
)
def test_a_pod_that_only_a_budget_kept_from_a_plan_is_woken_when_the_budget(change: Event) -> None:
    world = full(running("v", "n0", cpu="2", metadata={"labels": {"app": "web"}}), nodes=1)
    world.tell(budget("web", 0, {"app": "web"}))
    assert plans_of(ask(world, make_pod("p", cpu="1", priority=10))) == {}
    assert world.tell(after_ms=60_000).decision is None
    assert plans_of(world.tell(change)) == {"p": ("n0", ["v"])}


def test_pods_for_which_nobody_is_ever_evicted_are_not_woken_by_a_budget() -> None:
    world = full(running("v", "n0", cpu="2", metadata={"labels": {"app": "web"}}), nodes=1)
    world.tell(budget("web", 0, {"app": "web"}))
    ask(world, make_pod("p", cpu="1", priority=10, preemptionPolicy="Never"), make_pod("q", cpu="1"))
    assert world.tell(budget("web", 1, {"app": "web"}), after_ms=60_000).decision is None


def test_a_pod_is_woken_when_what_is_left_on_a_node_can_be_evicted() -> None:
    """No node fits it then either: only a plan helps, and nothing kept it from one but the pod that left."""
    world = full(running("high", "n0", 20, cpu="1"), running("low", "n0", cpu="1"), nodes=1)
    assert plans_of(ask(world, make_pod("p", cpu="2", priority=10))) == {}
    gone = PodDeleted(uid="uid-high", namespace="default", name="high")
    assert plans_of(world.tell(gone, after_ms=60_000)) == {"p": ("n0", ["low"])}


def test_a_plan_that_is_given_up_leaves_its_budget_to_a_pod_that_waits_for_it() -> None:
    web: dict[str, Any] = {"metadata": {"labels": {"app": "web"}}}
    world = full(running("a", "n0", cpu="2", **web), running("b", "n1", cpu="2", **web), nodes=2)
    world.tell(budget("web", 1, {"app": "web"}))
    pods = [make_pod(f"p{i}", cpu="2", priority=10) for i in range(2)]
    first = plans_of(ask(world, *pods))
    assert len(first) == 1
    planned = next(iter(first))
    waiting = "p1" if planned == "p0" else "p0"
    gone = PodDeleted(uid=f"uid-{planned}", namespace="default", name=planned)
    assert list(plans_of(world.tell(gone, after_ms=20_000))) == [waiting]


def test_a_pod_that_two_budgets_select_can_not_be_evicted() -> None:
    world = full(running("v", "n0", cpu="2", metadata={"labels": {"a": "1", "b": "1"}}), nodes=1)
    world.tell(budget("one", 9, {"a": "1"}), budget("two", 9, {"b": "1"}))
    assert plans_of(ask(world, make_pod("p", cpu="1", priority=10))) == {}


def test_room_made_for_a_pod_is_kept_against_lower_priority_and_against_other_tenants() -> None:
    world = full(running("v", "n0", cpu="2"), nodes=1)
    ask(world, make_pod("p", cpu="2", priority=10))
    world.tell(PodDeleted(uid="uid-v", namespace="default", name="v"))
    other = make_pod("other", cpu="1", priority=100, namespace="other")
    assert placed(ask(world, make_pod("low", cpu="1", priority=5), other)) == {"other": None, "low": None}
    assert placed(world.tell(after_ms=2_000))["p"] == "n0"


def test_a_higher_priority_of_the_same_tenant_takes_the_place_over() -> None:
    world = full(running("v", "n0", cpu="2"), nodes=1)
    assert plans_of(ask(world, make_pod("p", cpu="2", priority=10))) == {"p": ("n0", ["v"])}
    assert plans_of(ask(world, make_pod("q", cpu="2", priority=20))) == {"q": ("n0", [])}
    state = world.scheduler._state
    assert state.pods["uid-p"].plan is None
    assert state.pods["uid-p"].state is PodState.BACKOFF


@pytest.mark.parametrize("how", ["failed", "lapsed"])
def test_a_plan_that_comes_to_nothing_is_made_again(how: str) -> None:
    world = full(running("v", "n0", cpu="2"), nodes=1)
    applied = ask(world, make_pod("p", cpu="2", priority=10))
    assert applied.decision is not None
    sequence = applied.decision.batch.sequence
    if how == "failed":
        world.tell(PreemptionFailed(uid="uid-p", sequence=sequence, reason="budget"))
    else:
        world.tell(after_ms=GENESIS.policy.expires_ms + GENESIS.policy.grace_ms + 1)
    assert world.scheduler._state.pods["uid-p"].plan is None
    assert plans_of(world.tell(after_ms=10_001)) == {"p": ("n0", ["v"])}


def test_host_ports_anti_affinity_and_spread_are_looked_at_when_room_is_made() -> None:
    labels = {"app": "web"}
    apart = {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}
            ]
        }
    }
    port = [{"containerPort": 80, "hostPort": 80}]
    for victim, pod in (
        (running("v", "n0", ports=port), make_pod("p", priority=10, ports=port)),
        (running("v", "n0", metadata={"labels": labels}), make_pod("p", priority=10, affinity=apart)),
        (running("v", "n0", affinity=apart), make_pod("p", priority=10, metadata={"labels": labels})),
    ):
        world = full(victim, running("bystander", "n0", cpu="1"), nodes=1)
        assert plans_of(ask(world, pod)) == {"p": ("n0", ["v"])}


def test_the_holder_of_a_read_write_once_pod_claim_makes_room_for_more_priority() -> None:
    world = full(nodes=2)
    mount = [{"name": "c", "persistentVolumeClaim": {"claimName": "c"}}]
    claim = make_claim("c", volumeName="v", bound=True, modes=["ReadWriteOncePod"])
    world.tell(*map(told, (make_class("local"), make_volume("v", claim="c", bound=True), claim)))
    world.tell(PodUpserted(pod=running("holder", "n1", volumes=mount)), PodUpserted(pod=running("else", "n0")))
    assert plans_of(ask(world, make_pod("p", priority=10, volumes=mount))) == {"p": ("n1", ["holder"])}


def test_ports_and_affinity_of_promised_pods_are_respected() -> None:
    port = [{"containerPort": 80, "hostPort": 80}]
    world = full(running("v", "n0", ports=port), nodes=1)
    assert plans_of(ask(world, make_pod("p", priority=10, ports=port))) == {"p": ("n0", ["v"])}
    world.tell(PodDeleted(uid="uid-v", namespace="default", name="v"))
    assert placed(ask(world, make_pod("q", ports=port))) == {"q": None}
    assert placed(ask(world, make_pod("r"))) == {"r": "n0"}


def test_a_plan_can_not_be_left_out_or_changed_unseen() -> None:
    world = full(running("a", "n0", cpu="2"), running("b", "n1", cpu="2"))
    applied = ask(world, make_pod("p", cpu="1", priority=10))
    decision = applied.decision
    assert decision is not None
    assert decisions_root(decision.leaves) != decision.batch.decisions
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({}, Preemption)
    first = Leaf.from_bcs(decision.leaves[0].to_bcs())
    assert first.pod_uid != ""
    entries = list(enumerate(world.entries, 1))
    assert verify(GENESIS, None, entries, world.claims).equal
    forged = msgspec.structs.replace(world.claims[-1], preemptions=())
    verdict = verify(GENESIS, None, entries, [*world.claims[:-1], forged])
    assert verdict.difference is not None
    assert verdict.difference.field == "preemptions"


def test_a_wrong_plan_is_found_without_a_replay() -> None:
    world = full(running("a", "n0", cpu="2"), running("b", "n1", 20, cpu="2"))
    decision = ask(world, make_pod("p", cpu="1", priority=10)).decision
    assert decision is not None
    snapshot = world.scheduler.snapshot()
    check = (GENESIS, snapshot, decision.batch, decision.leaves)
    assert verify_feasibility(*check, decision.preemptions) is None
    absent = verify_feasibility(*check)
    assert absent is not None
    assert absent.rule == "leaves"
    state = world.scheduler._state
    plan = state.pods["uid-p"].plan
    assert plan is not None
    state.set_plan(state.pods["uid-p"], plan._replace(victims=("uid-b",), node="n1"))
    other = msgspec.structs.replace(
        decision.preemptions[0],
        node="n1",
        victims=(msgspec.structs.replace(decision.preemptions[0].victims[0], uid="uid-b", name="b"),),
    )
    batch = msgspec.structs.replace(
        decision.batch, state_root=state.root(), decisions=decisions_root(decision.leaves, [other])
    )
    world.scheduler._digest = batch.digest()
    finding = verify_feasibility(GENESIS, world.scheduler.snapshot(), batch, decision.leaves, [other])
    assert finding is not None
    assert (finding.rule, finding.message) == ("preemption", "b has no less priority")


def test_a_budget_that_shrank_after_an_earlier_plan_says_nothing_against_another() -> None:
    world = full(running("a", "n0", cpu="2", metadata={"labels": {"app": "web"}}), running("b", "n1", cpu="2"), nodes=2)
    world.tell(budget("b0", 1, {"app": "web"}))
    only: dict[str, Any] = {"nodeSelector": {"kubernetes.io/hostname": "n0"}}
    assert plans_of(ask(world, make_pod("p", cpu="1", priority=10, **only))) == {"p": ("n0", ["a"])}
    world.tell(budget("b0", 0, {"app": "web"}))
    decision = ask(world, make_pod("q", cpu="1", priority=10, nodeSelector={"kubernetes.io/hostname": "n1"})).decision
    assert decision is not None
    assert [(plan.node, [v.name for v in plan.victims]) for plan in decision.preemptions] == [("n1", ["b"])]
    snapshot = world.scheduler.snapshot()
    assert verify_feasibility(GENESIS, snapshot, decision.batch, decision.leaves, decision.preemptions) is None


def test_what_pods_take_where_it_is_not_offered_is_no_room_once_they_are_gone() -> None:
    """Whichever node was known first: a scheduler that was restored reads them in another order."""
    gpu: dict[str, Any] = {"requests": {"example.com/gpu": "1"}}
    world = World()
    world.nodes(make_node("a"))
    world.tell(PodUpserted(pod=running("v", "a", **gpu)))
    world.nodes(make_node("b", allocatable={"example.com/gpu": "1"}))
    world.tell(PodUpserted(pod=running("w", "b", 10, **gpu)))
    assert plans_of(ask(world, make_pod("p", priority=10, **gpu))) == {}


def test_a_plan_whose_victims_are_gone_is_dropped_by_a_restored_scheduler_too() -> None:
    world = full(running("a", "n0", cpu="2"), nodes=1)
    assert plans_of(ask(world, make_pod("p", cpu="2", priority=10))) == {"p": ("n0", ["a"])}
    world.tell(PodDeleted(uid="uid-a", namespace="default", name="a"), PodUpserted(pod=running("x", "n0", 10, cpu="2")))
    elder, heir = world.scheduler, Scheduler.restore(GENESIS, world.scheduler.snapshot())
    assert elder._state.priorities == heir._state.priorities == {"default": {10: 1}}
    entries, now_ms = list(world.entries), world.now_ms
    for scheduler in (elder, heir):
        world.scheduler, world.entries, world.now_ms = scheduler, list(entries), now_ms
        assert placed(ask(world, make_pod("p", 2, cpu="1", priority=10))) == {"p": None}
        assert not scheduler._state.plans
    assert elder.head == heir.head


@pytest.mark.parametrize("seed", range(60))
def test_every_plan_is_a_best_one_of_the_reference(seed: int) -> None:
    rng = random.Random(seed)
    nodes = [make_node(f"n{i}", allocatable={"cpu": "2", "pods": rng.choice(["3", "8"])}) for i in range(5)]
    labels = [{"app": "web"}, {"app": "db", "tier": "gold"}, {"tier": "gold"}, {}]
    on: dict[str, list[Pod]] = {}
    pods = []
    port = [{"containerPort": 80, "hostPort": 80}]
    for index in range(rng.randrange(6, 16)):
        node = f"n{rng.randrange(5)}"
        pod = running(
            f"v{index}",
            node,
            rng.choice([0, 0, 1, 5, 20]),
            start=rng.choice(["", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]),
            cpu=rng.choice(["200m", "500m", "1", "1500m"]),
            namespace=rng.choice(["default", "default", "default", "other"]),
            metadata={"labels": rng.choice(labels)},
            ports=port if rng.random() < 0.3 else [],
        )
        pods.append(pod)
        on.setdefault(node, []).append(pod)
    budgets: list[dict[str, Any]] = [
        {"labels": chosen, "allowed": rng.randrange(3)} for chosen in ({"app": "web"}, {"tier": "gold"})
    ]
    world = World()
    world.nodes(*nodes)
    world.tell(*(PodUpserted(pod=pod) for pod in pods))
    world.tell(*(budget(f"b{i}", b["allowed"], b["labels"]) for i, b in enumerate(budgets)))
    pod = make_pod("p", cpu=rng.choice(["1", "1500m", "2"]), priority=10, ports=port if rng.random() < 0.4 else [])

    def fits(name: str, there: list[Pod]) -> bool:
        beside = {**on, name: there}
        return name in [node.metadata.name for node in reference_feasible(pod, nodes, beside)]

    applied = ask(world, pod)
    if reference_feasible(pod, nodes, on):
        assert plans_of(applied) == {}
        return
    found = [(plan.node, plan.victims) for plan in best_plans(pod, on, budgets, fits)]
    plans = plans_of(applied)
    assert plans.get("p") in found if found else plans == {}
    assert Scheduler.restore(GENESIS, world.scheduler.snapshot()).head == world.scheduler.head
    table = world.scheduler._engine.table
    for name, slot in table.slot_of.items():
        record = world.scheduler._state.nodes[name]
        assert table.free(PODS_COLUMN)[slot] == record.capacity["pods"] - record.pods
