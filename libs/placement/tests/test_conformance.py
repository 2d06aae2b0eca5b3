"""Decisions of a real kube-scheduler v1.32: the same nodes are feasible and get the same scores.

The vectors are one scenario a line; `DAAS_SCHEDULING_VECTORS` names another directory that holds them. Steps whose pod
asks for what is not decided yet are left out here: that they stay pending is tested elsewhere.
"""

import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from daas.placement import Policy
from daas.placement.engine import Engine
from daas.placement.fold import fold
from daas.placement.log import NodeUpserted, PodUpserted
from daas.placement.model import Node, Pod
from daas.placement.repulsion import Repulsion
from daas.placement.state import ClusterState

VECTORS = Path(os.environ.get("DAAS_SCHEDULING_VECTORS", Path(__file__).parent / "vectors"))
PLUGINS = {
    "NodeResourcesFit": "least_allocated",
    "NodeResourcesBalancedAllocation": "balanced_allocation",
    "TaintToleration": "taint_toleration",
    "NodeAffinity": "node_affinity",
}
#: What kube-scheduler computes in floating point may differ by one per unit of weight.
TOLERANCE = Counter({"NodeResourcesBalancedAllocation": 1})


class Recorded:
    """One scenario's cluster, folded step by step."""

    def __init__(self, scenario: dict[str, Any]) -> None:
        self.state = ClusterState(Policy(scheduler_name="default-scheduler"))
        self._version = 0
        for node in scenario["nodes"]:
            fold(self.state, NodeUpserted(node=msgspec.convert(self._identified(node), Node)), 0)
        for pod in scenario["bound"]:
            self.put(pod)

    def _identified(self, document: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        meta = document["metadata"]
        uid = f"{meta.get('namespace', '')}/{meta['name']}"
        return {**document, "metadata": {**meta, "uid": uid, "resourceVersion": str(self._version)}}

    def put(self, document: dict[str, Any]) -> str:
        spec = {"schedulerName": "default-scheduler", **document["spec"]}
        pod = msgspec.convert(self._identified({**document, "spec": spec}), Pod)
        fold(self.state, PodUpserted(pod=pod), 0)
        return pod.metadata.uid

    def weigh(self, uid: str) -> dict[str, dict[str, int]] | None:
        """Weighted scores of the feasible nodes; None where the pod asks for what is not decided yet."""
        record = self.state.pods[uid]
        assert record.pod_class is not None
        if record.pod_class.unsupported:
            return None
        repulsion = Repulsion(self.state.repelling.values(), self.state.nodes)
        domains = repulsion.domains(record.namespace, record.labels)
        engine = Engine(self.state.policy)
        engine.table.sync(self.state.nodes, dict.fromkeys(self.state.nodes), {})
        engine.begin(0)
        return engine.weigh(self.state.classes.kept_away(record.pod_class, domains))


def selects_namespaces(scenario: dict[str, Any]) -> bool:
    """Whether running pods keep others away from namespaces chosen by label, which are not known here."""
    for pod in [*scenario["bound"], *(step["pod"] for step in scenario["steps"])]:
        anti = (pod["spec"].get("affinity") or {}).get("podAntiAffinity", {})
        for term in anti.get("requiredDuringSchedulingIgnoredDuringExecution", ()):
            if term.get("namespaceSelector"):
                return True
    return False


def test_feasible_nodes_and_scores_are_those_of_kube_scheduler() -> None:
    seen: Counter[str] = Counter()
    [path] = sorted(VECTORS.glob("kube-scheduler-1.32.jsonl*"))
    for line in (gzip.open if path.suffix == ".gz" else open)(path, "rt"):
        scenario = json.loads(line)
        cautious = selects_namespaces(scenario)
        cluster = Recorded(scenario)
        for step in scenario["steps"]:
            uid = cluster.put(step["pod"])
            found = cluster.weigh(uid)
            if found is None:
                seen["not decided yet"] += 1
            elif set(found) != set(step["feasible"]):
                assert cautious, scenario["seed"]
                assert set(found) < set(step["feasible"]), scenario["seed"]
                seen["more cautious"] += 1
            else:
                seen["same feasible nodes"] += 1
                compare_scores(found, step.get("weighted_scores") or {}, seen)
            if step["chosen"]:
                cluster.put({**step["pod"], "spec": {**step["pod"]["spec"], "nodeName": step["chosen"]}})
            else:
                cluster.state.remove_pod(cluster.state.pods[uid])
    print(dict(seen))  # noqa: T201 - the agreement per plugin, for whoever runs it with -s
    assert seen["same feasible nodes"] >= 799
    assert seen["more cautious"] <= 5
    assert min(seen[plugin] for plugin in PLUGINS) > 200


def compare_scores(found: dict[str, dict[str, int]], recorded: dict[str, dict[str, int]], seen: Counter[str]) -> None:
    for node, scores in recorded.items():
        for plugin, name in PLUGINS.items():
            if plugin in scores:
                assert abs(found[node][name] - scores[plugin]) <= TOLERANCE[plugin], (node, plugin)
                seen[plugin] += 1
            else:
                assert found[node][name] == 0, (node, plugin)
