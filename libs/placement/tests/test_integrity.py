"""Placements are checked against the committed state, and one wrong leaf is shown wrong by openings of that state."""

import msgspec
import pytest
from placement_reference import anti_affinity_allows
from placement_simulator import Simulator
from placement_world import GENESIS, World, make_node, make_pod

from daas.common import merkle
from daas.placement import Leaf, PlacementBatch, Preemption
from daas.placement.errors import SnapshotError
from daas.placement.fold import node_record
from daas.placement.integrity import Finding, Refutation, open_node, open_pod, refute, verify_feasibility
from daas.placement.model import Pod
from daas.placement.state import ClusterState


def forged(world: World, leaves: list[Leaf]) -> PlacementBatch:
    """The header an enclave gone wrong would sign: other leaves, over the state as it is."""
    return msgspec.structs.replace(
        world.claims[-1].batch,
        decisions=merkle.root([leaf.to_bcs() for leaf in leaves]),
        count=len(leaves),
        state_root=world.scheduler._state.root(),
    )


def evidence(
    world: World,
    batch: PlacementBatch,
    leaves: list[Leaf],
    index: int,
    other: str | None,
    plans: tuple[Preemption, ...] = (),
) -> Refutation:
    state: ClusterState = world.scheduler._state
    leaf = leaves[index]
    return Refutation(
        batch=batch,
        leaves=tuple(leaves),
        preemptions=plans,
        index=index,
        pod=open_pod(state, leaf.pod_uid),
        chosen=open_node(state, leaf.node) if leaf.node else None,
        other=open_node(state, other) if other else None,
    )


def judged(world: World, batch: PlacementBatch, leaves: list[Leaf], index: int, other: str | None) -> Finding | None:
    found = refute(GENESIS.policy, evidence(world, batch, leaves, index, other))
    packed = msgspec.msgpack.encode(evidence(world, batch, leaves, index, other))
    assert len(packed) < 8_000
    return found


@pytest.fixture
def world() -> World:
    world = World()
    world.nodes(make_node("empty"), make_node("full", allocatable={"cpu": "1"}), make_node("odd", unschedulable=True))
    world.pods(make_pod("p", 5, cpu="1", memory="1Gi"))
    return world


def rebutted(state: ClusterState, uid: str, name: str) -> bool:
    """Whether a pod that keeps others away, or that was promised the room, answers the accusation."""
    if any(other != uid for other in state.nominated.get(name, ())):
        return True
    nodes = [record.node for record in state.nodes.values()]
    pods: dict[str, list[Pod]] = {}
    for record in state.pods.values():
        if record.node and record.uid != uid:
            pods.setdefault(record.node, []).append(msgspec.json.decode(record.encoded, type=Pod))
    namespaces = {key[2]: record.value.labels or {} for key, record in state.objects.items() if key[0] == "Namespace"}
    accused = msgspec.json.decode(state.pods[uid].encoded, type=Pod)
    return not anti_affinity_allows(accused, state.nodes[name].node, nodes, pods, namespaces)


@pytest.mark.parametrize("seed", range(4))
def test_the_placements_of_random_histories_are_feasible_and_nothing_refutes_them(seed: int) -> None:
    simulator = Simulator(300 + seed)
    checked = 0
    for _ in range(70):
        decision = simulator.step().decision
        if decision is None:
            continue
        state, scheduler = simulator.world.scheduler._state, simulator.world.scheduler
        plans = decision.preemptions
        assert verify_feasibility(GENESIS, scheduler.snapshot(), decision.batch, decision.leaves, plans) is None
        for index in range(min(len(decision.leaves), 4)):
            for name in list(state.nodes)[:4]:
                shown = evidence(simulator.world, decision.batch, list(decision.leaves), index, name, plans)
                finding = refute(GENESIS.policy, shown)
                assert finding is None or rebutted(state, decision.leaves[index].pod_uid, name)
                checked += 1
    assert checked > 50


def test_an_honest_leaf_stands(world: World) -> None:
    claim = world.claims[-1]
    for name in ("empty", "full", "odd"):
        assert judged(world, claim.batch, list(claim.leaves), 0, name) is None


def test_a_pod_left_out_though_a_node_fits_is_shown_by_that_node(world: World) -> None:
    state = world.scheduler._state
    state.park(state.pods["uid-p"], world.now_ms)
    leaves = [msgspec.structs.replace(world.claims[-1].leaves[0], node=None, score=0, reasons=16)]
    batch = forged(world, leaves)
    found = judged(world, batch, leaves, 0, "empty")
    assert found is not None
    assert found.rule == "left-out"
    assert judged(world, batch, leaves, 0, "odd") is None


def test_a_worse_node_is_shown_by_a_better_one(world: World) -> None:
    state = world.scheduler._state
    leaf = world.claims[-1].leaves[0]
    assert leaf.node == "empty"
    state.release(state.pods["uid-p"], world.now_ms)
    state.assume(state.pods["uid-p"], "full", 1, leaf.score)
    leaves = [msgspec.structs.replace(leaf, node="full", score=leaf.score - 30)]
    batch = forged(world, leaves)
    found = judged(world, batch, leaves, 0, "empty")
    assert found is not None
    assert found.rule == "better-node"


@pytest.mark.parametrize(("name", "rule"), [("full", "overcommitted"), ("odd", "not-allowed")])
def test_a_node_that_holds_too_much_or_may_not_be_used_is_shown_by_its_own_row(
    world: World, name: str, rule: str
) -> None:
    state = world.scheduler._state
    leaf = world.claims[-1].leaves[0]
    state.release(state.pods["uid-p"], world.now_ms)
    if name == "full":
        state.put_node(node_record(make_node(name, 9, allocatable={"cpu": "500m"}), 9))
    state.assume(state.pods["uid-p"], name, 1, 9)
    leaves = [msgspec.structs.replace(leaf, node=name)]
    found = judged(world, forged(world, leaves), leaves, 0, None)
    assert found is not None
    assert found.rule == rule


def test_evidence_of_another_state_or_policy_shows_nothing(world: World) -> None:
    state = world.scheduler._state
    state.park(state.pods["uid-p"], world.now_ms)
    leaves = [msgspec.structs.replace(world.claims[-1].leaves[0], node=None, score=0, reasons=16)]
    batch = forged(world, leaves)
    good = evidence(world, batch, leaves, 0, "empty")
    assert refute(GENESIS.policy, good) is not None
    assert good.other is not None
    other_batch = msgspec.structs.replace(batch, state_root=bytes(32))
    moved = msgspec.structs.replace(good.other, encoded=good.other.encoded + b" ")
    wrong_leaf = msgspec.structs.replace(good.pod, leaf=good.other.leaf)
    for change in (
        {"batch": other_batch},
        {"other": moved},
        {"pod": wrong_leaf},
        {"index": 5},
        {"leaves": ()},
        {"batch": msgspec.structs.replace(batch, policy=bytes(32))},
    ):
        assert refute(GENESIS.policy, msgspec.structs.replace(good, **change)) is None


def test_placements_that_break_a_filter_are_named(world: World) -> None:
    claim = world.claims[-1]
    assert verify_feasibility(GENESIS, world.scheduler.snapshot(), claim.batch, claim.leaves) is None
    found = verify_feasibility(GENESIS, world.scheduler.snapshot(), claim.batch, claim.leaves[:0])
    assert found is not None
    assert found.rule == "leaves"
    state = world.scheduler._state
    state.release(state.pods["uid-p"], world.now_ms)
    state.assume(state.pods["uid-p"], "odd", claim.batch.sequence, 9)
    with pytest.raises(SnapshotError):
        verify_feasibility(GENESIS, world.scheduler.snapshot(), claim.batch, claim.leaves)
