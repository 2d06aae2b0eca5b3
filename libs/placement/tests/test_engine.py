"""Nodes are filtered and scored as the one-page reference does, for any pods and nodes."""

import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from placement_world import World, make_node, make_pod, placed, random_node, random_pod, reference_scores

from daas.placement import scores
from daas.placement.log import NamespaceUpserted, NodeUpserted, PodUpserted
from daas.placement.model import Pod
from daas.placement.reasons import Reason, names, sentence

NAMESPACES = {"default": {"team": "one"}, "blue": {"team": "two"}}


@pytest.mark.parametrize("seed", range(120))
def test_every_pod_of_a_batch_goes_to_a_best_node_of_the_reference_seeing_those_before_it(seed: int) -> None:
    rng = random.Random(seed)
    node_names = [f"n{i}" for i in range(rng.randrange(1, 14))]
    nodes = [random_node(rng, name, 1) for name in node_names]
    world = World()
    world.tell(*(NamespaceUpserted(name=name, labels=labels) for name, labels in NAMESPACES.items()))
    world.nodes(*nodes)
    pods_on: dict[str, list[Pod]] = {}
    version = 10
    for _ in range(4):
        copies = rng.choice([1, 5])
        pods = []
        for _ in range(rng.randrange(1, 12)):
            template = random_pod(rng, f"p{version}", version, node_names, social=seed % 2 == 1)
            for _ in range(copies):
                version += 1
                meta = {"name": f"p{version}", "uid": f"u{version}", "resource_version": str(version)}
                pods.append(_renamed(template, **meta))
        applied = world.tell(*(PodUpserted(pod=pod) for pod in pods))
        by_uid = {pod.metadata.uid: pod for pod in pods}
        assert applied.decision is not None
        assert len(applied.decision.leaves) == len(pods)
        for leaf in applied.decision.leaves:
            pod = by_uid[leaf.pod_uid]
            totals = reference_scores(pod, nodes, pods_on, NAMESPACES)
            if not totals:
                assert (leaf.node, leaf.score) == (None, 0)
                assert leaf.reasons != 0
                continue
            assert leaf.node in totals, (leaf.name, leaf.node, totals)
            assert leaf.score == totals[leaf.node] == max(totals.values())
            pods_on.setdefault(leaf.node, []).append(pod)
        if rng.random() < 0.5:
            changed = rng.randrange(len(nodes))
            version += 1
            nodes[changed] = random_node(rng, node_names[changed], version)
            world.nodes(nodes[changed])


def _renamed(pod: Pod, **meta: str) -> Pod:
    return msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, **meta))


amounts = st.integers(min_value=0, max_value=2**48)


@given(st.lists(st.tuples(amounts, amounts, amounts, amounts), min_size=1, max_size=20))
def test_the_formulas_for_one_node_and_for_many_agree(rows: list[tuple[int, int, int, int]]) -> None:
    columns = np.array(list(zip(*rows, strict=True)), np.int64)
    used, capacity = columns[[0, 2]], columns[[1, 3]]
    assert scores.least_allocated_of(used, capacity).tolist() == [scores.least_allocated(*row) for row in rows]
    assert scores.balanced_allocation_of(used, capacity).tolist() == [scores.balanced_allocation(*row) for row in rows]


@given(st.lists(st.integers(0, 2**20), min_size=1, max_size=20), st.booleans())
def test_normalization_of_one_and_of_many_agree(raw: list[int], reverse: bool) -> None:
    column = scores.normalized_of(np.array(raw, np.int64), max(raw), reverse=reverse)
    assert column.tolist() == [scores.normalized(value, max(raw), reverse=reverse) for value in raw]


def test_equal_nodes_share_the_load_and_the_first_choice_rotates_with_the_log() -> None:
    firsts = set()
    for start in range(12):
        world = World()
        world.nodes(*(make_node(f"n{i}") for i in range(4)))
        world.now_ms += start
        result = world.pods(*(make_pod(f"p{i}", cpu="100m", memory="100Mi") for i in range(8)))
        assert sorted(map(str, result.values())) == sorted([f"n{i}" for i in range(4)] * 2)
        firsts.add(result["p0"])
    assert len(firsts) > 1


def test_reasons_name_every_filter_that_refused_a_node() -> None:
    world = World()
    world.nodes(
        make_node("cordoned", unschedulable=True),
        make_node("tainted", taints=[{"key": "k", "effect": "NoExecute"}]),
        make_node("elsewhere", labels={"zone": "b"}),
        make_node("small", labels={"zone": "a"}, allocatable={"cpu": "1", "memory": "1Mi", "pods": "0"}),
    )
    applied = world.tell(
        PodUpserted(pod=make_pod("p", cpu="2", memory="1Gi", nodeSelector={"zone": "a"}, requests={"x.io/y": "1"}))
    )
    assert applied.decision is not None
    leaf = applied.decision.leaves[0]
    assert Reason(leaf.reasons) == (
        Reason.NODE_UNSCHEDULABLE
        | Reason.UNTOLERATED_TAINT
        | Reason.NODE_AFFINITY_MISMATCH
        | Reason.INSUFFICIENT_CPU
        | Reason.INSUFFICIENT_MEMORY
        | Reason.INSUFFICIENT_EXTENDED_RESOURCE
        | Reason.TOO_MANY_PODS
    )
    assert sentence(leaf.reasons, 4).startswith("0/4 nodes are available: node unschedulable, untolerated taint, ")
    assert "insufficient-cpu" in names(leaf.reasons)


def test_without_nodes_the_reason_says_so() -> None:
    world = World()
    applied = world.tell(PodUpserted(pod=make_pod("p")))
    assert applied.decision is not None
    assert applied.decision.leaves[0].reasons == Reason.NO_NODES
    assert sentence(Reason.NO_NODES, 0) == "no nodes are known"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}}, "POD_AFFINITY"),
        (
            {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}},
            "POD_ANTI_AFFINITY",
        ),
        ({"topologySpreadConstraints": [{"whenUnsatisfiable": "DoNotSchedule"}]}, "TOPOLOGY_SPREAD"),
        ({"topologySpreadConstraints": [{"topologyKey": "zone", "whenUnsatisfiable": "Later"}]}, "TOPOLOGY_SPREAD"),
        ({"volumes": [{"awsElasticBlockStore": {}}]}, "DISK_VOLUME"),
        ({"resourceClaims": [{"name": "gpu"}]}, "RESOURCE_CLAIM"),
        ({"schedulingGroup": {"other": "g"}}, "POD_GROUP"),
        ({"workloadRef": {"name": "w"}}, "POD_GROUP"),
        ({"tolerations": [{"key": "k", "operator": "Gt", "value": "3"}]}, "TOLERATION_OPERATOR"),
        (
            {
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.uid", "operator": "In"}]}]
                        }
                    }
                }
            },
            "AFFINITY_OPERATOR",
        ),
    ],
)
def test_a_feature_that_is_not_decided_yet_keeps_the_pod_pending_with_its_reason(
    spec: dict[str, Any], reason: str
) -> None:
    world = World()
    world.nodes(make_node("n0"))
    applied = world.tell(PodUpserted(pod=make_pod("p", **spec)))
    assert applied.decision is not None
    leaf = applied.decision.leaves[0]
    assert leaf.node is None
    assert leaf.reasons == Reason[f"{reason}_UNSUPPORTED"]
    assert "does not decide yet" in sentence(leaf.reasons, 1)
    assert world.nodes(make_node("n1")).decision is None


def test_pods_are_decided_by_priority_and_then_first_come() -> None:
    world = World()
    world.nodes(make_node("n0", allocatable={"pods": "2"}))
    result = world.pods(make_pod("a"), make_pod("b"), make_pod("c", priority=5), make_pod("d", priority=-1))
    assert list(result.items()) == [("c", "n0"), ("a", "n0"), ("b", None), ("d", None)]


def test_new_resources_and_new_nodes_are_seen_by_classes_that_were_decided_before() -> None:
    world = World()
    world.nodes(make_node("n0"))
    assert world.pods(make_pod("a", requests={"example.com/gpu": "1"})) == {"a": None}
    assert world.nodes(make_node("n1", allocatable={"example.com/gpu": "1"})).decision is None
    assert placed(world.tell(after_ms=5_000)) == {"a": "n1"}
    many = [NodeUpserted(node=make_node(f"m{i}", allocatable={"example.com/gpu": "1"})) for i in range(40)]
    world.tell(*many)
    result = world.pods(*(make_pod(f"q{i}", requests={"example.com/gpu": "1"}) for i in range(41)))
    assert len({node for node in result.values() if node}) == 40
    assert list(result.values()).count(None) == 1
