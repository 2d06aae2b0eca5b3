"""Certificates of optimality: what they prove, and that nothing altered or overstated gets through."""

import itertools
import random
import subprocess
import sys
import zlib
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement_world import make_node, make_pod

from daas.placement.allocation import (
    AllocationModel,
    Certificate,
    CertificateError,
    CertificateFormatError,
    Cluster,
    ClusterError,
    Effort,
    Objective,
    Running,
    build_model,
    certify,
    placements,
    plan,
    plan_model,
    plan_without_solver,
    price_bound,
    solverless_prices,
    verify,
    verify_against,
)
from daas.placement.model import Pod


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Up to four nodes and six pods of a few kinds, some with selectors, taints, odd sizes or coupling."""
    nodes = []
    for n in range(draw(st.integers(1, 4))):
        taints = draw(
            st.sampled_from([[], [{"key": "a", "effect": "NoSchedule"}], [{"key": "b", "effect": "PreferNoSchedule"}]])
        )
        allocatable = {
            "cpu": f"{draw(st.integers(0, 2000))}m",
            "memory": draw(st.sampled_from(["0", "1Gi", "1000000007", "3Gi"])),
            "pods": str(draw(st.integers(0, 4))),
        }
        nodes.append(
            make_node(f"n{n}", labels={"zone": draw(st.sampled_from("xy"))}, taints=taints, allocatable=allocatable)
        )
    running = []
    for p in range(draw(st.integers(0, 2))):
        pod = make_pod(f"r{p}", cpu=f"{draw(st.integers(0, 900))}m")
        running.append(Running(node=draw(st.sampled_from(nodes)).metadata.name, pod=pod))
    kinds = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "cpu": st.sampled_from(["", "1m", "250m", "333m", "1"]),
                    "memory": st.sampled_from(["", "1", "1Mi", "300000001", "1Gi"]),
                    "priority": st.sampled_from([None, 0, 5]),
                    "nodeSelector": st.sampled_from([None, {"zone": "x"}]),
                    "tolerations": st.sampled_from([None, [{"key": "a", "operator": "Exists"}]]),
                    "hostPort": st.booleans(),
                }
            ),
            min_size=1,
            max_size=3,
        )
    )
    pending = []
    for p in range(draw(st.integers(0, 6))):
        kind: dict[str, Any] = dict(draw(st.sampled_from(kinds)))
        port = kind.pop("hostPort")
        pod = make_pod(f"p{p}", **kind)
        if port and draw(st.booleans()):
            document = msgspec.to_builtins(pod)
            document["spec"]["containers"][0]["ports"] = [{"hostPort": 80}]
            pod = msgspec.convert(document, Pod)
        pending.append(pod)
    return Cluster.of(nodes, running, pending)


def draw_prices(model: AllocationModel, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rng = random.Random(seed)
    most = rng.choice([0, 1, 1 << 10, 1 << 22, 1 << 31])
    return tuple(rng.randint(0, most) for _ in model.pods), tuple(rng.randint(0, most) for _ in range(model.free.size))


def best_value(model: AllocationModel) -> int:
    """The best value by looking at everything, coupled classes included as the bound has them."""

    def look(k: int, free: tuple[tuple[int, ...], ...]) -> int:
        if k == len(model.pods):
            return 0
        best = 0
        ranges = [range(int(limit) + 1) for limit in model.limits[k]]
        for counts in itertools.product(*ranges):
            if sum(counts) > model.counts[k]:
                continue
            left = tuple(
                tuple(f - c * int(r) for f, r in zip(row, model.requests[k], strict=True))
                for c, row in zip(counts, free, strict=True)
            )
            if all(f >= 0 for row in left for f in row):
                worth = sum(c * int(v) for c, v in zip(counts, model.values[k], strict=True))
                best = max(best, worth + look(k + 1, left))
        return best

    return look(0, tuple(tuple(int(f) for f in row) for row in model.free))


@settings(max_examples=60, deadline=None)
@given(clusters(), st.integers(0, 2**32))
def test_any_prices_that_are_not_negative_bound_every_allocation(cluster: Cluster, seed: int) -> None:
    model = build_model(cluster, Objective())
    assert price_bound(model, *draw_prices(model, seed)) >= best_value(model)


@settings(max_examples=40, deadline=None)
@given(clusters(), st.integers(0, 3))
def test_a_plan_verifies_and_its_gap_covers_what_is_missing_to_the_best(cluster: Cluster, rounds: int) -> None:
    outcome = plan(cluster, effort=Effort(rounds=rounds))
    verdict = verify(cluster, Objective(), outcome.certificate)
    model = build_model(cluster, Objective())
    best = best_value(model)
    assert verdict.value <= best <= verdict.bound
    if verdict.optimal:
        assert verdict.value == best
    assert ("optimal" in verdict.sentence()) == (verdict.gap == 0)
    where = dict(placements(model, outcome.certificate))
    assert len(where) == verdict.placed


@settings(max_examples=60, deadline=None)
@given(clusters(), st.integers(0, 2**32), st.data())
def test_a_malicious_solver_can_loosen_the_bound_but_not_fake_it(
    cluster: Cluster, seed: int, data: st.DataObject
) -> None:
    model = build_model(cluster, Objective())
    honest = plan_model(model, Effort(rounds=1)).certificate
    pod_prices, node_prices = draw_prices(model, seed)
    bound = price_bound(model, pod_prices, node_prices)
    swapped = msgspec.structs.replace(honest, pod_prices=pod_prices, node_prices=node_prices, bound=bound)
    assert verify_against(model, swapped).bound >= best_value(model)
    lower = data.draw(st.integers(0, bound - 1)) if bound else None
    if lower is not None:
        with pytest.raises(CertificateError, match="certificate-bound"):
            verify_against(model, msgspec.structs.replace(swapped, bound=lower))


def small_cluster() -> Cluster:
    nodes = [
        make_node(f"n{n}", allocatable={"cpu": "2", "memory": "4Gi"}, labels={"zone": "ab"[n % 2]}) for n in range(4)
    ]
    pods = [make_pod(f"big{p}", cpu="900m", memory="1Gi") for p in range(6)]
    pods += [make_pod(f"small{p}", cpu="300m", memory="700Mi", nodeSelector={"zone": "a"}) for p in range(8)]
    return Cluster.of(nodes, [], pods)


@pytest.fixture(name="planned", scope="module")
def _planned() -> tuple[AllocationModel, Certificate]:
    model = build_model(small_cluster(), Objective())
    return model, plan_model(model, Effort()).certificate


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_a_certificate_with_any_one_number_changed_is_refused_or_still_true(
    planned: tuple[AllocationModel, Certificate], data: st.DataObject
) -> None:
    model, certificate = planned
    field = data.draw(st.sampled_from(["value", "bound", "places", "pod_prices", "node_prices"]))
    delta = data.draw(st.sampled_from([-1000, -1, 1, 1000]))
    if field in {"value", "bound"}:
        altered = msgspec.structs.replace(certificate, **{field: getattr(certificate, field) + delta})
        with pytest.raises(CertificateError):
            verify_against(model, altered)
        return
    numbers: list[Any] = [list(p) if isinstance(p, tuple) else p for p in getattr(certificate, field)]
    index = data.draw(st.integers(0, len(numbers) - 1))
    if field == "places":
        numbers[index][data.draw(st.integers(0, 2))] += delta
        altered = msgspec.structs.replace(certificate, places=tuple(tuple(p) for p in numbers))
        with pytest.raises((CertificateError, CertificateFormatError)):
            verify_against(model, altered)
        return
    numbers[index] += delta
    altered = msgspec.structs.replace(certificate, **{field: tuple(numbers)})
    try:
        verdict = verify_against(model, altered)
    except (CertificateError, CertificateFormatError):
        return
    assert verdict.bound == certificate.bound  # the change was too small to move the bound: nothing is overstated


def test_equal_slots_are_filled_with_a_gap_of_zero_and_only_then_called_optimal() -> None:
    nodes = [make_node(f"n{n}", allocatable={"pods": str(1 + n % 3)}, labels={"zone": "abc"[n % 3]}) for n in range(12)]
    pods = [make_pod(f"a{p}", nodeSelector={"zone": "a"}) for p in range(9)] + [make_pod(f"b{p}") for p in range(20)]
    cluster = Cluster.of(nodes, [], pods)
    verdict = verify(cluster, Objective(), plan(cluster).certificate)
    assert verdict.gap == verdict.gap_ppm == 0
    assert verdict.sentence().endswith("optimal")


def test_a_gap_of_one_is_not_called_optimal() -> None:
    model = build_model(small_cluster(), Objective())
    certificate = certify(model, np.zeros_like(model.limits), *solverless_prices(model))
    verdict = verify_against(model, certificate)
    assert verdict.gap > 0
    assert "optimal" not in verdict.sentence()


def test_pods_whose_constraints_reach_beyond_one_node_are_bounded_but_never_placed() -> None:
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}}
    cluster = Cluster.of(
        [make_node("n0")], [], [make_pod("alone", cpu="1", affinity=affinity), make_pod("free", cpu="1")]
    )
    model = build_model(cluster, Objective())
    certificate = plan_model(model, Effort()).certificate
    verdict = verify_against(model, certificate)
    assert (verdict.placed, verdict.pending, verdict.coupled) == (1, 2, 1)
    assert not verdict.optimal
    coupled = next(k for k, why in enumerate(model.coupled) if why is not None)
    forged = msgspec.structs.replace(certificate, places=((coupled, 0, 1),))
    with pytest.raises(CertificateError, match="certificate-coupled"):
        verify_against(model, forged)


def test_a_node_that_running_pods_keep_for_themselves_is_no_place() -> None:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "noisy"}}}
    guard = make_pod("guard", affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}})
    pods = [make_pod("noisy", metadata={"labels": {"app": "noisy"}}), make_pod("calm")]
    cluster = Cluster.of([make_node("n0"), make_node("n1")], [Running(node="n0", pod=guard)], pods)
    model = build_model(cluster, Objective())
    limits = {model.pods[k][0]: model.limits[k].tolist() for k in range(len(model.pods))}
    assert limits == {"uid-noisy": [0, 1], "uid-calm": [1, 1]}


def test_cordons_taints_selectors_and_room_decide_which_places_exist() -> None:
    nodes = [
        make_node("cordoned", unschedulable=True),
        make_node("tainted", taints=[{"key": "k", "effect": "NoExecute"}]),
        make_node("elsewhere", labels={"zone": "b"}),
        make_node("full", labels={"zone": "a"}, allocatable={"cpu": "1"}),
        make_node("open", labels={"zone": "a"}),
    ]
    running = [Running(node="full", pod=make_pod("hog", cpu="800m"))]
    cluster = Cluster.of(nodes, running, [make_pod("p", cpu="500m", nodeSelector={"zone": "a"})])
    model = build_model(cluster, Objective())
    assert dict(zip(model.nodes, model.limits[0].tolist(), strict=True)) == {
        "cordoned": 0,
        "tainted": 0,
        "elsewhere": 0,
        "full": 0,
        "open": 1,
    }


def test_higher_priority_is_worth_more() -> None:
    pods = [make_pod("low", cpu="3"), make_pod("high", cpu="3", priority=1000)]
    cluster = Cluster.of([make_node("n0")], [], pods)
    model = build_model(cluster, Objective())
    certificate = plan_model(model, Effort()).certificate
    assert placements(model, certificate) == (("uid-high", "n0"),)


def test_a_certificate_survives_its_encodings_and_speaks_of_one_cluster_only() -> None:
    cluster = small_cluster()
    certificate = plan(cluster).certificate
    assert Certificate.from_bcs(certificate.to_bcs()) == certificate
    assert Certificate.unpack(certificate.pack()) == certificate
    other = Cluster.of(cluster.nodes[1:], cluster.running, cluster.pending)
    with pytest.raises(CertificateError, match="certificate-cluster"):
        verify(other, Objective(), certificate)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_are_refused_or_say_something_else(
    planned: tuple[AllocationModel, Certificate], data: st.DataObject
) -> None:
    model, certificate = planned
    encoded = bytearray(certificate.to_bcs())
    kind = data.draw(st.sampled_from(["flip", "cut", "append", "noise"]))
    if kind == "flip":
        encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del encoded[data.draw(st.integers(0, len(encoded) - 1)) :]
    elif kind == "append":
        encoded += data.draw(st.binary(min_size=1, max_size=9))
    else:
        encoded = bytearray(data.draw(st.binary(max_size=200)))
    try:
        altered = Certificate.from_bcs(bytes(encoded))
        verdict = verify_against(model, altered)
    except (CertificateError, CertificateFormatError, ClusterError):
        return
    assert verdict.bound >= certificate.value
    with pytest.raises(CertificateFormatError):
        Certificate.unpack(bytes(encoded))


def test_a_deflated_bomb_is_not_unfolded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daas.placement.allocation.certificate.MAX_BYTES", 1000)
    with pytest.raises(CertificateFormatError, match="certificate-size"):
        Certificate.unpack(zlib.compress(bytes(5000)))


@pytest.mark.parametrize("price", [-1, 2**60 + 1, 2**63, 2**80])
def test_prices_outside_the_range_of_exact_sums_are_refused(
    planned: tuple[AllocationModel, Certificate], price: int
) -> None:
    model, certificate = planned
    for field in ("pod_prices", "node_prices"):
        numbers = (price, *getattr(certificate, field)[1:])
        with pytest.raises(CertificateFormatError, match="certificate-range"):
            verify_against(model, msgspec.structs.replace(certificate, **{field: numbers}))


def test_the_largest_prices_are_summed_exactly(planned: tuple[AllocationModel, Certificate]) -> None:
    model, _ = planned
    largest = 2**60
    assert price_bound(model, (largest,) * len(model.pods), (0,) * model.free.size) == (
        int(model.counts.sum()) * largest // 2**20 // model.value_step * model.value_step
    )


def test_an_integer_search_is_never_worse_than_its_start() -> None:
    cluster = small_cluster()
    outcome = plan(cluster, effort=Effort(integer_ms=400))
    found = dict(outcome.found)
    assert outcome.certificate.value == max(found.values())
    assert found["integer"] >= max(found["greedy"], found["dive"])
    verify(cluster, Objective(), outcome.certificate)


def test_nothing_pending_and_no_nodes_are_problems_too() -> None:
    for cluster in (Cluster.of([]), Cluster.of([make_node("n0")]), Cluster.of([], [], [make_pod("p")])):
        verdict = verify(cluster, Objective(), plan(cluster).certificate)
        assert (verdict.value, verdict.gap, verdict.optimal) == (0, 0, True)


@pytest.mark.parametrize(
    ("effort", "objective"),
    [(Effort(rounds=65), Objective()), (Effort(), Objective(per_pod=-1)), (Effort(integer_ms=-1), Objective())],
)
def test_efforts_and_objectives_out_of_range_are_refused(effort: Effort, objective: Objective) -> None:
    with pytest.raises(ClusterError, match="range"):
        plan(small_cluster(), objective, effort)


def test_another_objective_than_the_expected_one_proves_nothing() -> None:
    cluster = small_cluster()
    worthless = Objective(per_pod=0, per_priority_rank=0, taint_toleration=0, node_affinity=0, least_allocated=0)
    model = build_model(cluster, worthless)
    empty = certify(model, np.zeros_like(model.limits), *solverless_prices(model))
    assert verify(cluster, worthless, empty).optimal
    with pytest.raises(CertificateError, match="certificate-objective"):
        verify(cluster, Objective(), empty)


@settings(deadline=None, max_examples=60)
@given(clusters())
def test_prices_without_a_solver_prove_a_true_bound(cluster: Cluster) -> None:
    model = build_model(cluster, Objective())
    certificate = plan_without_solver(model).certificate
    verdict = verify_against(model, certificate)
    assert verdict.bound >= plan_model(model, Effort()).certificate.value
    assert verdict.bound <= certify(model, np.zeros_like(model.limits), *solverless_prices(model)).bound


def test_descending_comes_near_the_solvers_bound_and_loads_none() -> None:
    nodes = [make_node(f"n{n}", allocatable={"cpu": "4", "memory": "8Gi", "pods": "20"}) for n in range(20)]
    pending = [make_pod(f"p{p}", cpu=f"{(p % 7 + 1) * 250}m", memory=f"{p % 5 + 1}Gi") for p in range(120)]
    model = build_model(Cluster.of(nodes, (), pending), Objective())
    best = plan_model(model, Effort()).certificate.bound
    found = verify_against(model, plan_without_solver(model).certificate).bound
    assert best <= found <= best * 102 // 100
    code = (
        "import sys; import daas.placement.allocation.descent, daas.placement.allocation.planner; "
        "assert 'highspy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
