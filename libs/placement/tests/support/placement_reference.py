"""A naive reference of what one pod may and would like to do beside others, written to be read: no caches, no columns.

Everything is asked of all nodes and all pods anew. `on` maps node names to the pods there.
"""

import math
from typing import Any

from daas.placement.model import LabelSelector, Node, Pod, PodAffinityTerm, TopologySpreadConstraint
from daas.placement.selectors import HOSTNAME

On = dict[str, list[Pod]]
Namespaces = dict[str, dict[str, str]]


def selector_matches(selector: LabelSelector | None, labels: dict[str, str]) -> bool:
    if selector is None:
        return False
    if any(labels.get(key) != wanted for key, wanted in (selector.match_labels or {}).items()):
        return False
    for expression in selector.match_expressions or ():
        value = labels.get(expression.key)
        holds = {
            "In": value is not None and value in (expression.values or ()),
            "NotIn": value is None or value not in (expression.values or ()),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[expression.operator]
        if not holds:
            return False
    return True


def term_concerns(
    term: PodAffinityTerm, owner: Pod, pod: Pod, namespaces: Namespaces, *, unknown_holds: bool = False
) -> bool:
    """Whether a term of `owner` is about `pod`."""
    named = term.namespaces or (() if term.namespace_selector else (owner.metadata.namespace,))
    if pod.metadata.namespace not in named:
        if term.namespace_selector is None:
            return False
        selector = term.namespace_selector
        if selector.match_labels or selector.match_expressions:
            if pod.metadata.namespace not in namespaces:
                if not unknown_holds:
                    return False
            elif not selector_matches(selector, namespaces[pod.metadata.namespace]):
                return False
    labels, own = pod.metadata.labels or {}, owner.metadata.labels or {}
    if not selector_matches(term.label_selector, labels):
        return False
    for key in term.match_label_keys or ():
        if key in own and labels.get(key) != own[key]:
            return False
    return all(not (key in own and labels.get(key) == own[key]) for key in term.mismatch_label_keys or ())


def terms(pod: Pod, side: str, kind: str) -> Any:
    affinity = pod.spec.affinity
    group = getattr(affinity, side) if affinity else None
    return (getattr(group, kind) if group else None) or ()


def label(node: Node, key: str) -> str | None:
    return (node.metadata.labels or {}).get(key)


def pods_in_domain(node: Node, key: str, nodes: list[Node], on: On) -> list[Pod]:
    value = label(node, key)
    if value is None:
        return []
    return [pod for other in nodes if label(other, key) == value for pod in on.get(other.metadata.name, [])]


def anti_affinity_allows(pod: Pod, node: Node, nodes: list[Node], on: On, namespaces: Namespaces) -> bool:
    for other_node in nodes:
        for other in on.get(other_node.metadata.name, []):
            for owner, about in ((pod, other), (other, pod)):
                for term in terms(owner, "pod_anti_affinity", "required"):
                    value = label(node, term.topology_key)
                    if value is None or label(other_node, term.topology_key) != value:
                        continue
                    if term_concerns(term, owner, about, namespaces, unknown_holds=True):
                        return False
    return True


def affinity_allows(pod: Pod, node: Node, nodes: list[Node], on: On, namespaces: Namespaces) -> bool:
    required = terms(pod, "pod_affinity", "required")
    if not required:
        return True
    if any(label(node, term.topology_key) is None for term in required):
        return False

    def meets_all(other: Pod) -> bool:
        return all(term_concerns(term, pod, other, namespaces) for term in required)

    if all(any(meets_all(o) for o in pods_in_domain(node, term.topology_key, nodes, on)) for term in required):
        return True
    somewhere = any(
        meets_all(other)
        for other_node in nodes
        if any(label(other_node, term.topology_key) is not None for term in required)
        for other in on.get(other_node.metadata.name, [])
    )
    return not somewhere and meets_all(pod)


def spread_counts_pod(constraint: TopologySpreadConstraint, owner: Pod, pod: Pod) -> bool:
    selector = constraint.label_selector
    own, labels = owner.metadata.labels or {}, pod.metadata.labels or {}
    keys = [key for key in constraint.match_label_keys or () if key in own]
    if any(labels.get(key) != own[key] for key in keys):
        return False
    return selector_matches(selector, labels) if selector is not None else bool(keys)


def counted_on(constraint: TopologySpreadConstraint, owner: Pod, node: Node, on: On) -> int:
    selector = constraint.label_selector
    keys = [key for key in constraint.match_label_keys or () if key in (owner.metadata.labels or {})]
    if selector is not None and not selector.match_labels and not selector.match_expressions and not keys:
        return 0
    return sum(
        other.metadata.namespace == owner.metadata.namespace
        and not other.metadata.deletion_timestamp
        and spread_counts_pod(constraint, owner, other)
        for other in on.get(node.metadata.name, [])
    )


def eligible(constraint: TopologySpreadConstraint, node: Node, *, selected: bool, tolerated: bool) -> bool:
    return (constraint.node_affinity_policy != "Honor" or selected) and (
        constraint.node_taints_policy != "Honor" or tolerated
    )


def spread_allows(
    pod: Pod, node: Node, nodes: list[Node], on: On, selected: dict[str, bool], tolerated: dict[str, bool]
) -> bool:
    hard = [c for c in pod.spec.topology_spread_constraints or () if c.when_unsatisfiable == "DoNotSchedule"]
    for constraint in hard:
        key = constraint.topology_key
        if label(node, key) is None:
            return False
        totals: dict[str | None, int] = {}
        for other in nodes:
            name = other.metadata.name
            if any(label(other, c.topology_key) is None for c in hard):
                continue
            if eligible(constraint, other, selected=selected[name], tolerated=tolerated[name]):
                totals[label(other, key)] = totals.get(label(other, key), 0) + counted_on(constraint, pod, other, on)
        least = min(totals.values(), default=0) if len(totals) >= (constraint.min_domains or 1) else 0
        self_match = spread_counts_pod(constraint, pod, pod)
        if totals.get(label(node, key), 0) + self_match - least > constraint.max_skew:
            return False
    return True


def spread_scores(
    pod: Pod, feasible: list[Node], nodes: list[Node], on: On, selected: dict[str, bool], tolerated: dict[str, bool]
) -> dict[str, int]:
    """0..100 of the soft constraints, in floating point as kube-scheduler computes them."""
    soft = [c for c in pod.spec.topology_spread_constraints or () if c.when_unsatisfiable == "ScheduleAnyway"]
    names = [node.metadata.name for node in feasible]
    if not soft:
        return dict.fromkeys(names, 0)
    inside = [node for node in feasible if all(label(node, c.topology_key) is not None for c in soft)]
    raw: dict[str, float] = {node.metadata.name: 0.0 for node in inside}
    for constraint in soft:
        key = constraint.topology_key
        size = len(inside) if key == HOSTNAME else len({label(node, key) for node in inside})
        for node in inside:
            if key == HOSTNAME:
                count = counted_on(constraint, pod, node, on)
            else:
                count = sum(
                    counted_on(constraint, pod, other, on)
                    for other in nodes
                    if label(other, key) == label(node, key)
                    and all(label(other, c.topology_key) is not None for c in soft)
                    and eligible(
                        constraint,
                        other,
                        selected=selected[other.metadata.name],
                        tolerated=tolerated[other.metadata.name],
                    )
                )
            raw[node.metadata.name] += count * math.log(size + 2) + (constraint.max_skew - 1)
    rounded = {name: math.floor(value + 0.5) for name, value in raw.items()}
    least, most = min(rounded.values(), default=0), max(rounded.values(), default=0)
    result = dict.fromkeys(names, 0)
    for name, value in rounded.items():
        result[name] = 100 * (most + least - value) // most if most else 100
    return result


def affinity_scores(
    pod: Pod, feasible: list[Node], nodes: list[Node], on: On, namespaces: Namespaces
) -> dict[str, int]:
    """0..100 of preferred terms of the pod and of others, and of others' required affinity."""
    raw: dict[str, int] = {}
    for node in feasible:
        total = 0
        for other_node in nodes:
            for other in on.get(other_node.metadata.name, []):
                for weight, term, owner, about in weighted_terms(pod, other):
                    value = label(node, term.topology_key)
                    if value is not None and value == label(other_node, term.topology_key):
                        total += weight * term_concerns(term, owner, about, namespaces)
        raw[node.metadata.name] = total
    least, most = min(raw.values(), default=0), max(raw.values(), default=0)
    if least == most:
        return dict.fromkeys(raw, 0)
    return {name: int(100 * ((value - least) / (most - least))) for name, value in raw.items()}


def weighted_terms(pod: Pod, other: Pod) -> list[tuple[int, PodAffinityTerm, Pod, Pod]]:
    found = []
    for owner, about in ((pod, other), (other, pod)):
        found += [(w.weight, w.pod_affinity_term, owner, about) for w in terms(owner, "pod_affinity", "preferred")]
        found += [
            (-w.weight, w.pod_affinity_term, owner, about) for w in terms(owner, "pod_anti_affinity", "preferred")
        ]
    found += [(1, term, other, pod) for term in terms(other, "pod_affinity", "required")]
    return found


def ports_free(pod: Pod, on_node: list[Pod]) -> bool:
    def taken(owner: Pod) -> list[tuple[int, str, str]]:
        return [
            (port.host_port, port.protocol or "TCP", port.host_ip or "0.0.0.0")
            for container in owner.spec.containers
            for port in container.ports or ()
            if port.host_port
        ]

    for port, protocol, address in taken(pod):
        for other in on_node:
            for other_port, other_protocol, other_address in taken(other):
                same = (port, protocol) == (other_port, other_protocol)
                if same and (address == other_address or "0.0.0.0" in (address, other_address)):
                    return False
    return True


def image_score(pod: Pod, node: Node, nodes: list[Node]) -> int:
    def images(of: Node) -> dict[str, int]:
        return {name: image.size_bytes for image in of.status.images or () for name in image.names or ()}

    containers = (*(pod.spec.init_containers or ()), *pod.spec.containers)
    total = 0
    for container in containers:
        name = container.image if ":" in container.image.rsplit("/", 1)[-1] else f"{container.image}:latest"
        if name in images(node):
            holders = sorted((other for other in nodes if name in images(other)), key=lambda n: n.metadata.name)
            total += int(float(images(holders[0])[name]) * (float(len(holders)) / float(len(nodes))))
    least, most = 23 * 2**20, 1000 * 2**20 * len(containers)
    return 100 * (min(max(total, least), most) - least) // (most - least)
