"""Rebalance plans: what they gain, what they spare, and that nothing altered or overstated gets through."""

from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement_world import make_node, make_pod

from daas.placement.allocation import Cluster, Running
from daas.placement.balance import (
    Book,
    Budget,
    CertificateError,
    CertificateFormatError,
    ClusterError,
    Move,
    PastMove,
    RebalancePlan,
    RebalancePolicy,
    Refusal,
    Situation,
    StaleMoveError,
    check_step,
    plan,
    verify,
    verify_moves,
)
from daas.placement.balance import potential as measure
from daas.placement.model import Pod

EAGER = RebalancePolicy(max_moves=50, max_per_node=50, max_per_owner=50, start_ppm=0, min_gain_ppb=0)


def owned(name: str, owner: str = "", kind: str = "ReplicaSet", **kwargs: Any) -> Pod:
    metadata = {"ownerReferences": [{"kind": kind, "name": owner or f"set-{name}", "controller": True}]}
    metadata |= kwargs.pop("metadata", {})
    return make_pod(name, metadata=metadata, **{"cpu": "500m", "memory": "512Mi", **kwargs})


def lopsided(pods: int = 8, nodes: int = 4, policy: RebalancePolicy = EAGER, **kwargs: Any) -> Situation:
    """All pods on the first node."""
    cluster = Cluster.of(
        [make_node(f"n{n}") for n in range(nodes)], [Running(node="n0", pod=owned(f"p{p}")) for p in range(pods)]
    )
    return Situation(cluster=cluster, policy=policy, **kwargs)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    nodes = [
        make_node(
            f"n{n}",
            unschedulable=draw(st.booleans()) and n > 1,
            allocatable={
                "cpu": draw(st.sampled_from(["0", "1", "4", "16"])),
                "memory": draw(st.sampled_from(["1Gi", "8Gi", "33333333333"])),
                "pods": draw(st.sampled_from(["2", "110"])),
            },
        )
        for n in range(draw(st.integers(1, 5)))
    ]
    running = []
    for p in range(draw(st.integers(0, 14))):
        pod = owned(
            f"p{p}",
            owner=f"set-{draw(st.integers(0, 4))}",
            kind=draw(st.sampled_from(["ReplicaSet", "ReplicaSet", "DaemonSet"])),
            cpu=draw(st.sampled_from(["", "1m", "300m", "1"])),
            memory=draw(st.sampled_from(["", "1", "300Mi"])),
            metadata={"labels": {"app": draw(st.sampled_from("ab"))}},
        )
        running.append(Running(node=draw(st.sampled_from(nodes)).metadata.name, pod=pod))
    budgets = tuple(
        msgspec.convert(
            {
                "namespace": "default",
                "name": f"b{b}",
                "selector": {"matchLabels": {"app": "ab"[b]}},
                "disruptionsAllowed": draw(st.integers(0, 2)),
            },
            Budget,
        )
        for b in range(draw(st.integers(0, 2)))
    )
    policy = RebalancePolicy(
        max_moves=draw(st.integers(0, 6)),
        max_per_node=draw(st.integers(0, 4)),
        max_per_owner=draw(st.integers(0, 3)),
        start_ppm=draw(st.sampled_from([0, 100_000])),
        min_gain_ppb=draw(st.sampled_from([0, 1_000_000])),
    )
    return Situation(cluster=Cluster.of(nodes, running), policy=policy, budgets=budgets)


def potential_by_fractions(situation: Situation) -> int:
    book = Book(situation)
    return sum(
        w * load * load
        for row, at in zip(book.loads, book.weights, strict=True)
        for load, w in zip(row, at, strict=True)
    )


@settings(max_examples=80, deadline=None)
@given(situations())
def test_a_plan_verifies_and_its_gains_are_exactly_the_change_of_the_potential(situation: Situation) -> None:
    made = plan(situation)
    balance = verify(situation, made)
    assert balance.before == potential_by_fractions(situation)
    assert balance.floor <= balance.after <= balance.before
    moved = {move.uid: move.target for move in made.moves}
    after = Cluster.of(
        situation.cluster.nodes,
        [msgspec.structs.replace(r, node=moved.get(r.pod.metadata.uid, r.node)) for r in situation.cluster.running],
    )
    assert potential_by_fractions(msgspec.structs.replace(situation, cluster=after)) == made.after
    assert sum(move.gain for move in made.moves) == made.before - made.after
    for budget in situation.budgets:
        assert budget.selector is not None
        labels = budget.selector.match_labels
        hit = [r for r in situation.cluster.running if r.pod.metadata.uid in moved and r.pod.metadata.labels == labels]
        assert len(hit) <= budget.disruptions_allowed
    assert len(made.moves) <= situation.policy.max_moves
    assert RebalancePlan.from_bcs(made.to_bcs()) == made


@settings(max_examples=80, deadline=None)
@given(situations(), st.data())
def test_a_plan_with_any_number_or_name_changed_is_refused(situation: Situation, data: st.DataObject) -> None:
    made = plan(situation)
    field = data.draw(
        st.sampled_from(["before", "after", "floor", "gain", "target", "source", "uid", "drop", "repeat"])
    )
    delta = data.draw(st.sampled_from([-1, 1, 1 << 20]))
    if field in {"before", "after", "floor"}:
        altered = msgspec.structs.replace(made, **{field: getattr(made, field) + delta})
    elif not made.moves:
        return
    else:
        turn = data.draw(st.integers(0, len(made.moves) - 1))
        move, moves = made.moves[turn], list(made.moves)
        if field == "gain":
            moves[turn] = msgspec.structs.replace(move, gain=move.gain + delta)
        elif field == "drop":
            del moves[turn]
        elif field == "repeat":
            moves.insert(turn, move)
        else:
            moves[turn] = msgspec.structs.replace(move, **{field: getattr(move, field) + "x"})
        altered = msgspec.structs.replace(made, moves=tuple(moves))
    with pytest.raises(CertificateError):
        verify(situation, altered)


@given(
    st.lists(st.tuples(st.integers(0, 2**20), st.integers(1, 2**20)), min_size=1, max_size=6),
    st.lists(st.integers(0, 2**20), min_size=6, max_size=6),
)
def test_no_distribution_of_the_same_load_is_below_the_floor(nodes: list[tuple[int, int]], shares: list[int]) -> None:
    weights = [[measure.weight(capacity, 1)] for _, capacity in nodes]
    loads = [[load] for load, _ in nodes]
    floor = measure.floor(loads, weights)
    carried = sum(load for (load,), (w,) in zip(loads, weights, strict=True) if w)
    able = [n for n, (w,) in enumerate(weights) if w]
    if not able:
        assert floor == 0
        return
    total = sum(shares[: len(able)]) or 1
    other = [carried * share // total for share in shares[: len(able)]]
    other[0] += carried - sum(other)
    spread = [[0] for _ in nodes]
    for n, load in zip(able, other, strict=True):
        spread[n] = [load]
    assert measure.potential(spread, weights) >= floor
    best = Fraction(carried * carried) / sum(Fraction(1, w) for (w,) in weights if w)
    assert -1 < best - floor < 1


def test_a_lopsided_cluster_is_levelled() -> None:
    situation = lopsided()
    made = plan(situation)
    balance = verify(situation, made)
    assert len(made.moves) == 6
    assert balance.after == balance.floor
    assert balance.closed_ppm == 1_000_000


def test_a_balanced_cluster_is_left_alone() -> None:
    quiet = lopsided(nodes=1)
    assert plan(quiet).moves == ()
    calm = lopsided(policy=msgspec.structs.replace(EAGER, start_ppm=10_000_000))
    assert plan(calm).moves == ()
    eager = plan(lopsided())
    forced = msgspec.structs.replace(eager, situation=calm.digest())
    with pytest.raises(CertificateError, match="certificate-hysteresis"):
        verify(calm, forced)


def test_moves_that_gain_too_little_are_neither_planned_nor_accepted() -> None:
    loose, strict = lopsided(), lopsided(policy=msgspec.structs.replace(EAGER, min_gain_ppb=200_000_000))
    planned = plan(strict)
    assert 0 < len(planned.moves) < len(plan(loose).moves)
    with pytest.raises(CertificateError, match="gain-too-small"):
        verify(strict, msgspec.structs.replace(plan(loose), situation=strict.digest()))


def refusal_of(situation: Situation, uid: str = "uid-p0", target: str = "n1") -> Refusal | None:
    book = Book(situation)
    return book.source_refusal(uid) or book.target_refusal(uid, target)


def one_pod(pod: Pod, nodes: Any = None, others: Any = (), **kwargs: Any) -> Situation:
    cluster = Cluster.of(nodes or [make_node("n0"), make_node("n1")], [Running(node="n0", pod=pod), *others])
    return Situation(cluster=cluster, policy=EAGER, **kwargs)


ANTI = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}
        ]
    }
}


@pytest.mark.parametrize(
    ("situation", "refusal"),
    [
        (one_pod(owned("p0")), None),
        (one_pod(make_pod("p0")), Refusal.NO_OWNER),
        (one_pod(owned("p0", kind="DaemonSet")), Refusal.PINNED),
        (one_pod(owned("p0", kind="Node")), Refusal.PINNED),
        (one_pod(owned("p0", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})), Refusal.ENDING),
        (one_pod(owned("p0", affinity=ANTI)), Refusal.COUPLED),
        (one_pod(owned("p0"), others=[Running(node="n1", pod=make_pod("guard", affinity=ANTI))]), Refusal.NOT_ACCEPTED),
        (one_pod(owned("p0"), nodes=[make_node("n0"), make_node("n1", unschedulable=True)]), Refusal.NOT_ACCEPTED),
        (one_pod(owned("p0"), nodes=[make_node("n0"), make_node("n1", allocatable={"cpu": "400m"})]), Refusal.NO_ROOM),
        (one_pod(owned("p0"), nodes=[make_node("n0"), make_node("n1", allocatable={"pods": "0"})]), Refusal.NO_ROOM),
        (one_pod(owned("p0"), nodes=[make_node("n0")]), Refusal.UNKNOWN_NODE),
        (one_pod(owned("p0"), nodes=[make_node("n1")]), Refusal.UNKNOWN_NODE),
        (one_pod(owned("other")), Refusal.UNKNOWN_POD),
    ],
    ids=lambda value: str(value) if isinstance(value, Refusal | None) else "situation",
)
def test_a_move_is_refused_for_its_reason(situation: Situation, refusal: Refusal | None) -> None:
    assert refusal_of(situation) == refusal


def test_disruption_budgets_are_kept_and_a_pod_under_two_of_them_stays() -> None:
    budget = Budget(namespace="default", name="a")
    everything = msgspec.convert({"namespace": "default", "name": "a", "selector": {}, "disruptionsAllowed": 2}, Budget)
    assert budget.disruptions_allowed == 0
    assert len(plan(lopsided(budgets=(budget,))).moves) == 6  # no selector selects nothing
    assert len(plan(lopsided(budgets=(everything,))).moves) == 2
    second = msgspec.structs.replace(everything, name="b")
    assert refusal_of(lopsided(budgets=(everything, second))) is Refusal.SEVERAL_BUDGETS
    elsewhere = msgspec.structs.replace(everything, namespace="other", disruptions_allowed=0)
    assert len(plan(lopsided(budgets=(elsewhere,))).moves) == 6


def test_budgets_of_moves_nodes_and_owners_are_kept_and_checked() -> None:
    unbound = plan(lopsided())
    for change, reason in (
        ({"max_moves": 3}, "move-budget"),
        ({"max_per_node": 3}, "node-budget"),
    ):
        situation = lopsided(policy=msgspec.structs.replace(EAGER, **change))
        assert len(plan(situation).moves) == 3
        with pytest.raises(CertificateError, match=reason):
            verify(situation, msgspec.structs.replace(unbound, situation=situation.digest()))
    nodes = [make_node(f"n{n}") for n in range(4)]
    together = Cluster.of(nodes, [Running(node="n0", pod=owned(f"p{p}", owner="one")) for p in range(8)])
    policy = msgspec.structs.replace(EAGER, max_per_owner=2)
    assert len(plan(Situation(cluster=together, policy=policy)).moves) == 2


def test_pods_do_not_go_back_and_forth() -> None:
    past = (PastMove(owner="default/ReplicaSet/set-p0", source="n1", target="n2", at_ms=1_000),)
    policy = msgspec.structs.replace(EAGER, cooldown_ms=500)
    assert refusal_of(lopsided(policy=policy, past=past, now_ms=1_499)) is Refusal.RETURNING
    assert refusal_of(lopsided(policy=policy, past=past, now_ms=1_500)) is None
    arrived = (PastMove(owner="default/ReplicaSet/set-p0", source="n3", target="n0", at_ms=1_000),)
    assert refusal_of(lopsided(policy=policy, past=arrived, now_ms=1_499)) is Refusal.RESTLESS


def test_a_plan_followed_step_by_step_is_asked_again_before_each_eviction() -> None:
    situation = lopsided()
    made = plan(situation)
    first, second = made.moves[:2]
    assert check_step(situation, first) == first.gain

    def with_move(move: Move) -> Situation:
        running = []
        for r in situation.cluster.running:
            if r.pod.metadata.uid == move.uid:
                successor = msgspec.structs.replace(
                    r.pod, metadata=msgspec.structs.replace(r.pod.metadata, uid=f"{move.uid}-again")
                )
                running.append(Running(node=move.target, pod=successor))
            else:
                running.append(r)
        owner = Book(situation).pods[move.uid].owner
        past = (PastMove(owner=owner, source=move.source, target=move.target, at_ms=1),)
        return msgspec.structs.replace(
            situation, cluster=Cluster.of(situation.cluster.nodes, running), past=past, now_ms=2
        )

    later = with_move(first)
    assert check_step(later, second) == second.gain
    with pytest.raises(StaleMoveError, match="unknown-pod"):
        check_step(later, first)
    filled = Cluster.of(
        situation.cluster.nodes,
        [*situation.cluster.running, Running(node=first.target, pod=make_pod("hog", cpu="3900m"))],
    )
    with pytest.raises(StaleMoveError, match="target-has-no-room"):
        check_step(msgspec.structs.replace(situation, cluster=filled), first)
    with pytest.raises(StaleMoveError, match="not-at-source"):
        check_step(situation, msgspec.structs.replace(first, source="n3"))
    half = Cluster.of(
        situation.cluster.nodes,
        [*situation.cluster.running, Running(node=first.target, pod=make_pod("rest", cpu="3", memory="7Gi"))],
    )
    with pytest.raises(StaleMoveError, match="gain-too-small"):
        check_step(msgspec.structs.replace(situation, cluster=half), first)


def test_a_plan_speaks_of_one_situation_and_its_moves_cost_no_look_at_the_cluster() -> None:
    situation = lopsided()
    made = plan(situation)
    with pytest.raises(CertificateError, match="certificate-situation"):
        verify(lopsided(pods=7), made)
    assert verify_moves(Book(situation), made).moves == len(made.moves)
    with pytest.raises(CertificateFormatError):
        RebalancePlan.from_bcs(made.to_bcs()[:-1])
    with pytest.raises(CertificateFormatError):
        RebalancePlan.from_bcs(b"")


@pytest.mark.parametrize(
    "change", [{"max_moves": -1}, {"resources": ()}, {"resources": ("cpu", "cpu")}, {"cooldown_ms": 2**40}]
)
def test_policies_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ClusterError, match="policy-range"):
        plan(lopsided(policy=msgspec.structs.replace(EAGER, **change)))
    with pytest.raises(ClusterError, match="situation-order"):
        plan(lopsided(budgets=(Budget(namespace="b", name="b"), Budget(namespace="a", name="a"))))
