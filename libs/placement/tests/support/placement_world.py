"""Builders of nodes, pods and entries, and a naive reference of filters and scores, written to be read."""

import random
from typing import Any

import msgspec

from daas.placement import Applied, Claim, Genesis, Policy, Scheduler
from daas.placement.filters import term_holds
from daas.placement.log import Event, LogEntry, NodeUpserted, PodUpserted, encode_entry
from daas.placement.model import Node, Pod
from daas.placement.records import PodState
from daas.placement.resources import PODS, allocatable, demand

GENESIS = Genesis(chain=b"\x01" * 32, registry=b"\x02" * 32, policy=Policy())


def make_node(
    name: str, version: int = 1, *, uid: str = "", labels: Any = None, taints: Any = (), **kwargs: Any
) -> Node:
    resources = {"cpu": "4", "memory": "8Gi", "pods": "110", **kwargs.pop("allocatable", {})}
    document = {
        "metadata": {
            "name": name,
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            "labels": {"kubernetes.io/hostname": name, **(labels or {})},
        },
        "spec": {"taints": list(taints), **kwargs},
        "status": {"allocatable": resources},
    }
    return msgspec.convert(document, Node)


def make_pod(name: str, version: int = 1, *, uid: str = "", cpu: str = "", memory: str = "", **kwargs: Any) -> Pod:
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    document = {
        "metadata": {
            "name": name,
            "namespace": kwargs.pop("namespace", "default"),
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            **kwargs.pop("metadata", {}),
        },
        "spec": {
            "schedulerName": "k3s-daas",
            "containers": [{"name": "main", "resources": {"requests": {**requests, **kwargs.pop("requests", {})}}}],
            **kwargs.pop("spec", {}),
        },
        "status": {"phase": kwargs.pop("phase", "Pending")},
    }
    document["spec"].update(kwargs)
    return msgspec.convert(document, Pod)


class World:
    """A scheduler with the log that it was fed."""

    def __init__(self, genesis: Genesis = GENESIS) -> None:
        self.genesis = genesis
        self.scheduler = Scheduler(genesis)
        self.now_ms = 1_000_000
        self.entries: list[bytes] = []
        self.claims: list[Claim] = []

    def raw(self, entry: bytes) -> Applied:
        self.entries.append(entry)
        applied = self.scheduler.apply(len(self.entries), entry)
        decision = applied.decision
        if decision is not None:
            self.claims.append(Claim(batch=decision.batch, leaves=decision.leaves, timestamp_ms=decision.timestamp_ms))
        return applied

    def tell(self, *events: Event, after_ms: int = 1) -> Applied:
        self.now_ms += after_ms
        return self.raw(encode_entry(LogEntry(timestamp_ms=self.now_ms, source="test", events=events)))

    def nodes(self, *nodes: Node) -> Applied:
        return self.tell(*(NodeUpserted(node=node) for node in nodes))

    def pods(self, *pods: Pod) -> dict[str, str | None]:
        """Pod name to node, of the decision that answers these pods."""
        return placed(self.tell(*(PodUpserted(pod=pod) for pod in pods)))

    def state_of(self, uid: str) -> PodState:
        return self.scheduler._state.pods[uid].state


def placed(applied: Applied) -> dict[str, str | None]:
    return {leaf.name: leaf.node for leaf in applied.decision.leaves} if applied.decision else {}


# --- the naive reference: one node, one pod, plain rules


def reference_tolerates(pod: Pod, key: str, value: str, effect: str) -> bool:
    for toleration in pod.spec.tolerations or ():
        if toleration.effect not in ("", effect):
            continue
        if toleration.key and toleration.key != key:
            continue
        if toleration.operator == "Exists" or toleration.value == value:
            return True
    return False


def reference_feasible(pod: Pod, node: Node, on_node: list[Pod]) -> bool:
    if node.spec.unschedulable and not reference_tolerates(pod, "node.kubernetes.io/unschedulable", "", "NoSchedule"):
        return False
    for taint in node.spec.taints or ():
        hard = taint.effect in ("NoSchedule", "NoExecute")
        if hard and not reference_tolerates(pod, taint.key, taint.value, taint.effect):
            return False
    labels = node.metadata.labels or {}
    if any(labels.get(key) != value for key, value in (pod.spec.node_selector or {}).items()):
        return False
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity else None
    if affinity and affinity.required:
        terms = affinity.required.node_selector_terms
        if not any(term_holds(term, node.metadata.name, labels) for term in terms):
            return False
    capacity = allocatable(node)
    if len(on_node) + 1 > capacity.get(PODS, 0):
        return False
    for resource, amount in demand(pod).requests:
        used = sum(dict(demand(other).requests).get(resource, 0) for other in on_node)
        if amount > capacity.get(resource, 0) - used:
            return False
    return True


def reference_scores(pod: Pod, nodes: list[Node], pods_on: dict[str, list[Pod]]) -> dict[str, int]:
    """Total of each feasible node, with the weights of the default policy."""
    feasible = [node for node in nodes if reference_feasible(pod, node, pods_on.get(node.metadata.name, []))]
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity else None
    unwanted, wanted, totals = {}, {}, {}
    for node in feasible:
        name = node.metadata.name
        unwanted[name] = sum(
            taint.effect == "PreferNoSchedule" and not reference_tolerates(pod, taint.key, taint.value, taint.effect)
            for taint in node.spec.taints or ()
        )
        wanted[name] = sum(
            term.weight
            for term in (affinity.preferred if affinity and affinity.preferred else ())
            if term_holds(term.preference, name, node.metadata.labels or {})
        )
    most_unwanted, most_wanted = max(unwanted.values(), default=0), max(wanted.values(), default=0)
    for node in feasible:
        name, capacity = node.metadata.name, allocatable(node)
        together = [*pods_on.get(name, []), pod]
        shares, fractions = [], []
        for resource, counted in (
            ("cpu", sum(demand(p).score_cpu_milli for p in together)),
            ("memory", sum(demand(p).score_memory_bytes for p in together)),
        ):
            room = capacity.get(resource, 0)
            asked = sum(dict(demand(p).requests).get(resource, 0) for p in together)
            if room:
                shares.append((room - counted) * 100 // room if counted <= room else 0)
                fractions.append(min(asked, room) * 10_000 // room)
        least = sum(shares) // len(shares) if shares else 0
        balanced = 100
        if len(fractions) == 2:
            balanced = (20_000 - abs(fractions[0] - fractions[1])) // 200
        taint = 100 - 100 * unwanted[name] // most_unwanted if most_unwanted else 100
        liking = 100 * wanted[name] // most_wanted if most_wanted else 0
        totals[name] = least + balanced + 3 * taint + 2 * liking
    return totals


# --- random worlds


def random_node(rng: random.Random, name: str, version: int) -> Node:
    taints = [
        {"key": rng.choice(["dedicated", "flaky"]), "value": rng.choice(["", "x"]), "effect": effect}
        for effect in ("NoSchedule", "PreferNoSchedule", "NoExecute")
        if rng.random() < 0.15
    ]
    allocatable = {
        "cpu": rng.choice(["2", "3500m", "8", "0"] if rng.random() < 0.1 else ["2", "3500m", "8"]),
        "memory": rng.choice(["4Gi", "16Gi", "3000M"]),
        "pods": rng.choice(["3", "8", "110"]),
    }
    if rng.random() < 0.3:
        allocatable["example.com/gpu"] = rng.choice(["1", "4"])
    labels = {"disk": rng.choice(["ssd", "hdd"]), "gen": str(rng.randrange(6))}
    if rng.random() < 0.5:
        labels["special"] = "yes"
    return make_node(
        name, version, labels=labels, taints=taints, allocatable=allocatable, unschedulable=rng.random() < 0.08
    )


def random_term(rng: random.Random, names: list[str]) -> dict[str, Any]:
    expressions = []
    for _ in range(rng.randrange(3)):
        operator = rng.choice(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"])
        key = "gen" if operator in ("Gt", "Lt") else rng.choice(["disk", "gen", "special", "absent"])
        values = {"In": ["ssd", "yes", "3"], "NotIn": ["hdd"], "Gt": ["2"], "Lt": ["+4"]}.get(operator, [])
        expressions.append({"key": key, "operator": operator, "values": values})
    fields = []
    if rng.random() < 0.2:
        operator = rng.choice(["In", "NotIn"])
        fields.append({"key": "metadata.name", "operator": operator, "values": [rng.choice(names)]})
    return {"matchExpressions": expressions, "matchFields": fields}


def random_pod(rng: random.Random, name: str, version: int, names: list[str], **kwargs: Any) -> Pod:
    requests = {}
    if rng.random() < 0.8:
        requests["cpu"] = rng.choice(["50m", "500m", "1500m"])
    if rng.random() < 0.8:
        requests["memory"] = rng.choice(["64Mi", "300M", "1Gi"])
    if rng.random() < 0.15:
        requests["example.com/gpu"] = "1"
    spec: dict[str, Any] = {}
    if rng.random() < 0.3:
        spec["tolerations"] = [
            {
                "key": rng.choice(["dedicated", "flaky", "node.kubernetes.io/unschedulable", ""]),
                "operator": "Exists",
                "effect": rng.choice(["", "NoSchedule", "PreferNoSchedule"]),
            }
        ]
    if rng.random() < 0.2:
        spec["nodeSelector"] = {"disk": rng.choice(["ssd", "nvme"])}
    affinity: dict[str, Any] = {}
    if rng.random() < 0.3:
        terms = [random_term(rng, names) for _ in range(rng.randrange(3))]
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    if rng.random() < 0.3:
        affinity["preferredDuringSchedulingIgnoredDuringExecution"] = [
            {"weight": rng.randrange(1, 101), "preference": random_term(rng, names)} for _ in range(2)
        ]
    if affinity:
        spec["affinity"] = {"nodeAffinity": affinity}
    return make_pod(name, version, requests=requests, priority=rng.choice([0, 0, 10]), **spec, **kwargs)
