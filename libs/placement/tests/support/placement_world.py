"""Builders of nodes, pods and entries, and a naive reference of filters and scores, written to be read."""

import random
from typing import Any

import msgspec
import placement_reference as beside

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
    images = kwargs.pop("images", ())
    document = {
        "metadata": {
            "name": name,
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            "labels": {"kubernetes.io/hostname": name, **(labels or {})},
        },
        "spec": {"taints": list(taints), **kwargs},
        "status": {"allocatable": resources, "images": list(images)},
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
            "containers": [
                {
                    "name": "main",
                    "image": kwargs.pop("image", ""),
                    "ports": kwargs.pop("ports", []),
                    "resources": {"requests": {**requests, **kwargs.pop("requests", {})}},
                }
            ],
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
            self.claims.append(
                Claim(
                    batch=decision.batch,
                    leaves=decision.leaves,
                    timestamp_ms=decision.timestamp_ms,
                    preemptions=decision.preemptions,
                )
            )
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


def reference_tolerated(pod: Pod, node: Node) -> bool:
    hard = [taint for taint in node.spec.taints or () if taint.effect in ("NoSchedule", "NoExecute")]
    return all(reference_tolerates(pod, taint.key, taint.value, taint.effect) for taint in hard)


def reference_selected(pod: Pod, node: Node) -> bool:
    labels = node.metadata.labels or {}
    if any(labels.get(key) != value for key, value in (pod.spec.node_selector or {}).items()):
        return False
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity else None
    if affinity and affinity.required:
        return any(term_holds(term, node.metadata.name, labels) for term in affinity.required.node_selector_terms)
    return True


def reference_fits(pod: Pod, node: Node, on_node: list[Pod]) -> bool:
    capacity = allocatable(node)
    if len(on_node) + 1 > capacity.get(PODS, 0):
        return False
    for resource, amount in demand(pod).requests:
        used = sum(dict(demand(other).requests).get(resource, 0) for other in on_node)
        if amount > capacity.get(resource, 0) - used:
            return False
    return True


def reference_feasible(pod: Pod, nodes: list[Node], on: dict[str, list[Pod]], namespaces: Any = None) -> list[Node]:
    """The nodes that every filter lets pass."""
    selected = {node.metadata.name: reference_selected(pod, node) for node in nodes}
    tolerated = {node.metadata.name: reference_tolerated(pod, node) for node in nodes}
    found = []
    for node in nodes:
        name = node.metadata.name
        cordoned = node.spec.unschedulable and not reference_tolerates(
            pod, "node.kubernetes.io/unschedulable", "", "NoSchedule"
        )
        if (
            not cordoned
            and tolerated[name]
            and selected[name]
            and reference_fits(pod, node, on.get(name, []))
            and beside.ports_free(pod, on.get(name, []))
            and beside.spread_allows(pod, node, nodes, on, selected, tolerated)
            and beside.anti_affinity_allows(pod, node, nodes, on, namespaces or {})
            and beside.affinity_allows(pod, node, nodes, on, namespaces or {})
        ):
            found.append(node)
    return found


def reference_scores(
    pod: Pod, nodes: list[Node], pods_on: dict[str, list[Pod]], namespaces: Any = None
) -> dict[str, int]:
    """Total of each feasible node, with the weights of the default policy."""
    feasible = reference_feasible(pod, nodes, pods_on, namespaces)
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
    selected = {node.metadata.name: reference_selected(pod, node) for node in nodes}
    tolerated = {node.metadata.name: reference_tolerated(pod, node) for node in nodes}
    spread = beside.spread_scores(pod, feasible, nodes, pods_on, selected, tolerated)
    together = beside.affinity_scores(pod, feasible, nodes, pods_on, namespaces or {})
    for node in feasible:
        name, capacity = node.metadata.name, allocatable(node)
        there = [*pods_on.get(name, []), pod]
        shares, fractions = [], []
        for resource, counted in (
            ("cpu", sum(demand(p).score_cpu_milli for p in there)),
            ("memory", sum(demand(p).score_memory_bytes for p in there)),
        ):
            room = capacity.get(resource, 0)
            asked = sum(dict(demand(p).requests).get(resource, 0) for p in there)
            if room:
                shares.append((room - counted) * 100 // room if counted <= room else 0)
                fractions.append(min(asked, room) * 10_000 // room)
        least = sum(shares) // len(shares) if shares else 0
        balanced = 100
        if len(fractions) == 2:
            balanced = (20_000 - abs(fractions[0] - fractions[1])) // 200
        taint = 100 - 100 * unwanted[name] // most_unwanted if most_unwanted else 100
        liking = 100 * wanted[name] // most_wanted if most_wanted else 0
        image = beside.image_score(pod, node, nodes)
        totals[name] = least + balanced + 3 * taint + 2 * liking + image + 2 * spread[name] + 2 * together[name]
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
    if rng.random() < 0.85:
        labels["topology.kubernetes.io/zone"] = rng.choice("abc")
    if rng.random() < 0.5:
        labels["special"] = "yes"
    return make_node(
        name,
        version,
        labels=labels,
        taints=taints,
        allocatable=allocatable,
        unschedulable=rng.random() < 0.08,
        images=[
            {"names": [f"reg.example/{image}"], "sizeBytes": rng.randrange(1, 1500) * 2**20}
            for image in ("web:1", "db:latest")
            if rng.random() < 0.3
        ],
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


def random_pod(
    rng: random.Random, name: str, version: int, names: list[str], *, social: bool = False, **kwargs: Any
) -> Pod:
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
    if social:
        random_company(rng, spec, kwargs)
    return make_pod(name, version, requests=requests, priority=rng.choice([0, 0, 10]), **spec, **kwargs)


ZONES = ["topology.kubernetes.io/zone", "kubernetes.io/hostname", "disk"]


def random_selector(rng: random.Random) -> dict[str, Any]:
    if rng.random() < 0.1:
        return {}
    if rng.random() < 0.7:
        return {"matchLabels": {"app": rng.choice(["web", "db"])}}
    operator = rng.choice(["In", "NotIn", "Exists", "DoesNotExist"])
    values = ["gold", "silver"][: rng.randrange(1, 3)] if operator in ("In", "NotIn") else []
    return {"matchExpressions": [{"key": "tier", "operator": operator, "values": values}]}


def random_pod_term(rng: random.Random) -> dict[str, Any]:
    term: dict[str, Any] = {"labelSelector": random_selector(rng), "topologyKey": rng.choice(ZONES)}
    if rng.random() < 0.2:
        term["namespaces"] = ["blue", "default"][: rng.randrange(1, 3)]
    if rng.random() < 0.2:
        term["namespaceSelector"] = rng.choice([{}, {"matchLabels": {"team": "one"}}])
    if rng.random() < 0.1:
        term["matchLabelKeys"] = ["tier"]
    if rng.random() < 0.1:
        term["mismatchLabelKeys"] = ["app"]
    return term


def random_company(rng: random.Random, spec: dict[str, Any], kwargs: dict[str, Any]) -> None:
    """Labels, namespace, terms towards other pods, spread, ports and images."""
    labels = {"app": rng.choice(["web", "db"])}
    if rng.random() < 0.5:
        labels["tier"] = rng.choice(["gold", "silver"])
    kwargs["metadata"] = {"labels": labels}
    kwargs["namespace"] = rng.choice(["default", "blue", "far"])
    kwargs["image"] = rng.choice(["reg.example/web:1", "reg.example/db", ""])
    affinity = spec.setdefault("affinity", {})
    for side, chance in (("podAffinity", 0.15), ("podAntiAffinity", 0.2)):
        group: dict[str, Any] = {}
        if rng.random() < chance:
            group["requiredDuringSchedulingIgnoredDuringExecution"] = [random_pod_term(rng)] * rng.choice([1, 1, 2])
        if rng.random() < chance:
            group["preferredDuringSchedulingIgnoredDuringExecution"] = [
                {"weight": rng.randrange(1, 101), "podAffinityTerm": random_pod_term(rng)} for _ in range(2)
            ]
        affinity[side] = group
    if rng.random() < 0.35:
        spec["topologySpreadConstraints"] = [
            {
                "topologyKey": key,
                "maxSkew": rng.randrange(1, 4),
                "whenUnsatisfiable": rng.choice(["DoNotSchedule", "ScheduleAnyway"]),
                "labelSelector": random_selector(rng),
                "nodeAffinityPolicy": rng.choice(["Honor", "Ignore"]),
                "nodeTaintsPolicy": rng.choice(["Honor", "Ignore"]),
                **({"minDomains": rng.randrange(1, 5)} if rng.random() < 0.2 else {}),
                **({"matchLabelKeys": ["tier"]} if rng.random() < 0.2 else {}),
            }
            for key in rng.sample(ZONES, rng.randrange(1, 3))
        ]
    if rng.random() < 0.15:
        address = rng.choice(["", "10.0.0.1", "0.0.0.0"])
        kwargs["ports"] = [{"containerPort": 80, "hostPort": rng.choice([80, 81]), "hostIP": address}]
