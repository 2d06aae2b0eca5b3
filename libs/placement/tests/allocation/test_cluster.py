"""The committed cluster, and what the verifiers are allowed to load."""

import ast
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from placement_world import GENESIS, World, make_node, make_pod

from daas.placement import allocation
from daas.placement.allocation import Cluster, ClusterError, Running, cluster_of, cluster_of_snapshot
from daas.placement.errors import SnapshotError


def test_the_digest_does_not_depend_on_the_order_of_the_parts() -> None:
    nodes = [make_node("b"), make_node("a")]
    pods = [make_pod("z"), make_pod("y")]
    running = [Running(node="a", pod=make_pod("r")), Running(node="b", pod=make_pod("q"))]
    assert Cluster.of(nodes, running, pods).digest() == Cluster.of(nodes[::-1], running[::-1], pods[::-1]).digest()
    assert Cluster.of(nodes, running, pods).digest() != Cluster.of(nodes, running, pods[1:]).digest()


def test_names_that_stand_twice_and_parts_out_of_order_are_refused() -> None:
    with pytest.raises(ClusterError, match="cluster-duplicate"):
        Cluster.of([make_node("a"), make_node("a")])
    with pytest.raises(ClusterError, match="cluster-duplicate"):
        Cluster.of([make_node("a")], [Running(node="a", pod=make_pod("p"))], [make_pod("p")])
    with pytest.raises(ClusterError, match="cluster-order"):
        Cluster(nodes=(make_node("b"), make_node("a"))).check()


def test_a_restored_scheduler_gives_the_same_cluster() -> None:
    world = World()
    world.nodes(make_node("n0", allocatable={"cpu": "2"}), make_node("n1", allocatable={"cpu": "1"}))
    world.pods(*(make_pod(f"p{p}", cpu="900m") for p in range(5)))
    state = world.scheduler._state
    cluster = cluster_of(state.nodes.values(), state.pods.values())
    assert len(cluster.running) == 3
    assert len(cluster.pending) == 2
    snapshot = world.scheduler.snapshot()
    again = cluster_of_snapshot(GENESIS, snapshot, world.claims[-1].batch)
    assert again == cluster
    stale = msgspec.structs.replace(world.claims[-1].batch, state_root=bytes(32))
    with pytest.raises(SnapshotError, match="snapshot-not-anchored"):
        cluster_of_snapshot(GENESIS, snapshot, stale)
    assert again.digest() == cluster.digest()
    assert msgspec.json.decode(msgspec.json.encode(cluster), type=Cluster) == cluster


#: What a verifier may load of this library: the API objects, their quantities, the meaning of taints and selectors.
#: Modules that look for plans; whoever checks one loads none of them.
PLANNING = {"descent", "filling", "planner", "program", "search", "view"}
MODEL = {
    "batch",
    "errors",
    "filters",
    "log",
    "model",
    "policy",
    "quantity",
    "reasons",
    "resources",
    "selectors",
    "storage",
}


@pytest.mark.parametrize("part", ["allocation", "balance"])
def test_a_verifier_loads_no_solver_and_nothing_of_the_engine_but_the_model(part: str) -> None:
    script = f"import sys, daas.placement.{part}; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    names = loaded.split()
    assert not [name for name in names if name.split(".")[0] in {"highspy", "ortools", "scipy"}]
    own = {name.removeprefix("daas.placement.").split(".")[0] for name in names if name.startswith("daas.placement.")}
    assert own <= MODEL | {"allocation", "balance"}
    for planning in sorted(PLANNING):
        assert f"daas.placement.allocation.{planning}" not in names
    assert "daas.placement.balance.planner" not in names


VERIFIERS = sorted(
    module
    for part in ("allocation", "balance")
    for module in (Path(allocation.__file__).parent.parent / part).glob("*.py")
    if module.stem not in PLANNING
)


@pytest.mark.parametrize("module", VERIFIERS, ids=lambda module: f"{module.parent.name}.{module.stem}")
def test_a_verifier_computes_in_integers_only(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        assert not isinstance(node, ast.Div), module
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), module
        assert not (isinstance(node, ast.Attribute) and node.attr.startswith("float")), module
        assert not (isinstance(node, ast.Name) and node.id == "float"), module
