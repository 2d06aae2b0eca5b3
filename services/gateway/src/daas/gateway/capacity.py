"""Whether a pod may still go to a node: what it takes, what is left, and whether the node would have it."""

from collections.abc import Mapping
from typing import Final

from daas.placement.errors import QuantityError
from daas.placement.filters import taint_refusal, term_holds
from daas.placement.model import Node, Pod
from daas.placement.resources import MAX_CAPACITY, PODS, allocatable, pod_requests

#: Resource to amount: milli-cores of `cpu`, whole units of the others, 1 of `pods`.
Amounts = dict[str, int]

#: What a pod takes whose request can't be read: the whole node, so that nothing is put beside it.
UNREADABLE: Final[Amounts] = {PODS: MAX_CAPACITY}


def request_of(pod: Pod) -> Amounts:
    """What the pod takes."""
    try:
        return dict(pod_requests(pod))
    except QuantityError:
        return UNREADABLE


def same_request(one: Pod, other: Pod) -> bool:
    """Whether two versions of a pod take the same for certain, told without reading quantities."""
    spec, than = one.spec, other.spec
    return (
        one.status.container_statuses is None  # else a resize in place has a say
        and other.status.container_statuses is None
        and spec.containers == than.containers
        and spec.init_containers == than.init_containers
        and spec.overhead == than.overhead
        and spec.resources == than.resources
    )


def allocatable_of(node: Node) -> Amounts:
    """What the node offers; nothing where that can't be read."""
    try:
        return dict(allocatable(node))
    except QuantityError:
        return {}


def lacking(capacity: Mapping[str, int], taken: Mapping[str, int], request: Mapping[str, int]) -> list[str]:
    """The resources of which too little is left for the request, sorted; empty where it fits."""
    return sorted(
        resource
        for resource, amount in request.items()
        if amount > 0 and amount > capacity.get(resource, 0) - taken.get(resource, 0)
    )


def node_refuses(node: Node, pod: Pod) -> str | None:
    """Why the node would not have the pod although there may be room; None where it would."""
    if node.metadata.deletion_timestamp is not None:
        return "is being deleted"
    refusal = taint_refusal(pod.spec.tolerations or (), node.spec.taints or (), unschedulable=node.spec.unschedulable)
    if refusal:
        return f"refuses the pod: {(refusal.name or 'taint').lower().replace('_', ' ')}"
    labels = node.metadata.labels or {}
    if any(labels.get(key) != value for key, value in (pod.spec.node_selector or {}).items()):
        return "no longer matches the pod's node selector"
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity is not None else None
    if affinity is not None and affinity.required is not None:
        terms = affinity.required.node_selector_terms
        if not any(term_holds(term, node.metadata.name, labels) for term in terms):
            return "no longer matches the pod's required node affinity"
    return None
