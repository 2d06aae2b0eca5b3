"""Decisions of a real kube-scheduler v1.32: the same nodes are feasible and get the same scores.

The vectors are one scenario a line; `DAAS_SCHEDULING_VECTORS` names another directory that holds them.
"""

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from daas.placement import Policy
from daas.placement.engine import Engine, Wish
from daas.placement.fold import fold
from daas.placement.log import NamespaceUpserted, NodeUpserted, PodUpserted, ServiceUpserted
from daas.placement.model import Node, Pod
from daas.placement.state import ClusterState

VECTORS = Path(os.environ.get("DAAS_SCHEDULING_VECTORS", Path(__file__).parent / "vectors"))
PLUGINS = {
    "NodeResourcesFit": "least_allocated",
    "NodeResourcesBalancedAllocation": "balanced_allocation",
    "TaintToleration": "taint_toleration",
    "NodeAffinity": "node_affinity",
    "PodTopologySpread": "topology_spread",
    "InterPodAffinity": "inter_pod_affinity",
    "ImageLocality": "image_locality",
}
#: Labels of the namespaces that all scenarios have.
NAMESPACES = {"red": "one", "blue": "two", "green": "one"}
#: What kube-scheduler computes in floating point may differ by one per unit of weight.
TOLERANCE = Counter({"NodeResourcesBalancedAllocation": 1, "PodTopologySpread": 2})


class Recorded:
    """One scenario's cluster, folded step by step."""

    def __init__(self, scenario: dict[str, Any]) -> None:
        self.state = ClusterState(Policy(scheduler_name="default-scheduler"))
        self._version = 0
        for name, team in NAMESPACES.items():
            fold(self.state, NamespaceUpserted(name=name, labels={"team": team}), 0)
        for service in scenario["services"]:
            meta, selector = service["metadata"], service["spec"]["selector"]
            fold(self.state, ServiceUpserted(namespace=meta["namespace"], name=meta["name"], selector=selector), 0)
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

    def weigh(self, uid: str) -> dict[str, dict[str, int]]:
        """Weighted scores of the feasible nodes."""
        state, record = self.state, self.state.pods[uid]
        assert record.pod_class is not None
        assert record.profile is not None
        assert not record.pod_class.unsupported
        state.changed_nodes = dict.fromkeys(state.nodes)
        engine = Engine(state.policy, state.neighbours)
        engine.sync(state)
        engine.begin(0)
        coupling = state.neighbours.coupling(record.profile, state.objects, state.policy.hard_affinity_weight)
        wish = Wish(record.pod_class, record.profile, coupling)
        found = engine.weigh(wish)
        chosen = engine.choose(wish)
        totals = {name: sum(parts.values()) for name, parts in found.items()}
        assert (chosen is None) == (not totals)
        if chosen is not None:
            assert totals[chosen[0]] == chosen[1] == max(totals.values())
        return found


def test_feasible_nodes_and_scores_are_those_of_kube_scheduler() -> None:
    seen: Counter[str] = Counter()
    exact: Counter[str] = Counter()
    wrong: list[object] = []
    [path] = sorted(VECTORS.glob("kube-scheduler-1.32.jsonl*"))
    for line in (gzip.open if path.suffix == ".gz" else open)(path, "rt"):
        scenario = json.loads(line)
        cluster = Recorded(scenario)
        for index, step in enumerate(scenario["steps"]):
            uid = cluster.put(step["pod"])
            found = cluster.weigh(uid)
            seen["decisions"] += 1
            if set(found) != set(step["feasible"]):
                wrong.append((scenario["seed"], index, sorted(found), sorted(step["feasible"])))
            else:
                exact["decisions"] += 1
                for node, plugin, ours, theirs in compared(found, step.get("weighted_scores") or {}):
                    seen[plugin] += 1
                    exact[plugin] += ours == theirs
                    if abs(ours - theirs) > TOLERANCE[plugin]:
                        wrong.append((scenario["seed"], index, node, plugin, ours, theirs))
            if step["chosen"]:
                cluster.put({**step["pod"], "spec": {**step["pod"]["spec"], "nodeName": step["chosen"]}})
            else:
                cluster.state.remove_pod(cluster.state.pods[uid])
    for name in sorted(seen):
        print(f"{name}: {exact[name]} of {seen[name]} exact")  # noqa: T201 - the agreement, for whoever runs it with -s
    assert not wrong, f"{len(wrong)} differ, first {wrong[:5]}"
    assert seen["decisions"] >= 1288
    assert min(seen[plugin] for plugin in PLUGINS) > 200


def compared(
    found: dict[str, dict[str, int]], recorded: dict[str, dict[str, int]]
) -> Iterator[tuple[str, str, int, int]]:
    """(node, plugin, ours, theirs); a plugin that left itself out counts for nothing."""
    for node, theirs in recorded.items():
        for plugin, name in PLUGINS.items():
            yield node, plugin, found[node][name], theirs.get(plugin, 0)
