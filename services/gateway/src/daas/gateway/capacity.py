"""Whether a pod may still go to a node: what it takes, what is left, and whether the node would have it."""

from collections.abc import Mapping
from typing import Final

from daas.placement.errors import QuantityError
from daas.placement.model import Node, Pod, Taint, Toleration
from daas.placement.resources import MAX_CAPACITY, PODS, allocatable, pod_requests

#: Resource to amount: milli-cores of `cpu`, whole units of the others, 1 of `pods`.
Amounts = dict[str, int]

#: What a pod takes whose request can't be read: the whole node, so that nothing is put beside it.
UNREADABLE: Final[Amounts] = {PODS: MAX_CAPACITY}
UNSCHEDULABLE_TAINT: Final = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
#: PreferNoSchedule only lowers a score; the others keep pods away.
HARD_EFFECTS: Final = frozenset({"NoSchedule", "NoExecute"})


def request_of(pod: Pod) -> Amounts:
    """What the pod takes."""
    try:
        return dict(pod_requests(pod))
    except QuantityError:
        return UNREADABLE


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
    if node.spec.unschedulable and not _tolerated(UNSCHEDULABLE_TAINT, pod):
        return "is unschedulable"
    for taint in node.spec.taints or ():
        if taint.effect in HARD_EFFECTS and not _tolerated(taint, pod):
            return f"has the taint {taint.key}:{taint.effect} that the pod does not tolerate"
    return None


def _tolerated(taint: Taint, pod: Pod) -> bool:
    return any(tolerates(toleration, taint) for toleration in pod.spec.tolerations or ())


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """k8s.io/api/core/v1 `Toleration.ToleratesTaint`: an empty key with Exists tolerates everything."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return toleration.operator in {"", "Equal"} and bool(toleration.key) and toleration.value == taint.value
