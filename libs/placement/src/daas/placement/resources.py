"""What a pod takes and what a node offers, as integers; and whether the one fits the other.

CPU is in milli-cores, everything else in whole units (bytes, pieces). Requests round up, capacities down. The rules
are those of k8s.io/component-helpers/resource `PodRequests`: sidecars count from their place in the start order on,
ordinary init containers only by their largest moment, pod-level requests override, overhead comes on top.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from daas.placement.errors import QuantityError
from daas.placement.model import Container, ContainerStatus, Node, Pod
from daas.placement.quantity import NANO, NANO_PER_MILLI, parse_nano

CPU = "cpu"
MEMORY = "memory"
EPHEMERAL_STORAGE = "ephemeral-storage"
PODS = "pods"

#: 2^48 (256 TiB, or 281 billion cores): the integer score formulas stay below 2^63 with it. A larger capacity counts as
#: this much; a larger request counts as one more and fits nowhere.
MAX_CAPACITY = 2**48
#: What a container without a request counts for in scores, but not in fit: kube-scheduler's own defaults.
DEFAULT_CPU_MILLI = 100
DEFAULT_MEMORY_BYTES = 200 * 1024 * 1024
_DEFAULTS_NANO = {CPU: DEFAULT_CPU_MILLI * NANO_PER_MILLI, MEMORY: DEFAULT_MEMORY_BYTES * NANO}


class Demand(NamedTuple):
    """What one pod takes.

    Attributes:
        requests: (resource, amount) sorted by name, amounts above zero, without `pods`.
        score_cpu_milli, score_memory_bytes: the same with the defaults for containers that ask for nothing.
    """

    requests: tuple[tuple[str, int], ...]
    score_cpu_milli: int
    score_memory_bytes: int


def _unit(resource: str) -> int:
    return NANO_PER_MILLI if resource == CPU else NANO


def _container_nano(
    container: Container, field: str, defaults: Mapping[str, int], status: ContainerStatus | None, *, infeasible: bool
) -> dict[str, int]:
    """What a container counts for: what it asks for or, being resized in place, what it has, whichever is more.

    A resize that the node can't do is left out of the count.
    """
    total = dict(defaults)
    for resource, text in (container.resources.requests or {}).items():
        total[resource] = _parse(text, f"{field}.resources.requests[{resource}]")
    if status is None:
        return total
    has: dict[str, int] = {}
    for amounts in (status.allocated_resources, status.resources and status.resources.requests):
        for resource, text in (amounts or {}).items():
            amount = _parse(text, f"status of {field}[{resource}]")
            has[resource] = max(has.get(resource, 0), amount)
    for resource, amount in has.items():
        total[resource] = amount if infeasible else max(total.get(resource, 0), amount)
    return total


def _parse(text: str, field: str) -> int:
    try:
        return parse_nano(text)
    except QuantityError as error:
        raise QuantityError(error.message, reason=error.reason, field=field) from None


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for resource, amount in more.items():
        total[resource] = total.get(resource, 0) + amount


def _pod_nano(pod: Pod, defaults: Mapping[str, int]) -> dict[str, int]:
    spec, status = pod.spec, pod.status
    total: dict[str, int] = {}
    statuses = {s.name: s for s in (*(status.container_statuses or ()), *(status.init_container_statuses or ()))}
    infeasible = any(c.type == "PodResizePending" and c.reason == "Infeasible" for c in status.conditions or ())
    for index, container in enumerate(spec.containers):
        of = statuses.get(container.name)
        _add(total, _container_nano(container, f"spec.containers[{index}]", defaults, of, infeasible=infeasible))
    sidecars: dict[str, int] = {}
    largest: dict[str, int] = {}
    for index, container in enumerate(spec.init_containers or ()):
        sidecar = container.restart_policy == "Always"
        of = statuses.get(container.name) if sidecar else None
        moment = _container_nano(container, f"spec.initContainers[{index}]", defaults, of, infeasible=infeasible)
        if sidecar:
            _add(total, moment)
            _add(sidecars, moment)
            moment = sidecars
        else:
            _add(moment, sidecars)
        for resource, amount in moment.items():
            largest[resource] = max(largest.get(resource, 0), amount)
    for resource, amount in largest.items():
        total[resource] = max(total.get(resource, 0), amount)
    if spec.resources is not None:
        for resource, text in (spec.resources.requests or {}).items():
            if resource in (CPU, MEMORY) or resource.startswith("hugepages-"):
                total[resource] = _parse(text, f"spec.resources.requests[{resource}]")
    for resource, text in (spec.overhead or {}).items():
        total[resource] = total.get(resource, 0) + _parse(text, f"spec.overhead[{resource}]")
    return total


def _ceil(resource: str, nano: int) -> int:
    return min(-(-nano // _unit(resource)), MAX_CAPACITY + 1)


@lru_cache(maxsize=16384)
def _shared(requests: tuple[tuple[str, int], ...], score_cpu_milli: int, score_memory_bytes: int) -> Demand:
    """One object for equal demands: pods of a template are many."""
    return Demand(requests, score_cpu_milli, score_memory_bytes)


def demand(pod: Pod) -> Demand:
    """What the pod takes, for fit and for scores.

    Raises:
        QuantityError: naming the field.
    """
    exact = _pod_nano(pod, {})
    scored = _pod_nano(pod, _DEFAULTS_NANO)
    requests = sorted((name, _ceil(name, nano)) for name, nano in exact.items() if nano > 0 and name != PODS)
    return _shared(tuple(requests), _ceil(CPU, scored.get(CPU, 0)), _ceil(MEMORY, scored.get(MEMORY, 0)))


def pod_requests(pod: Pod) -> Mapping[str, int]:
    """Resource to amount the pod takes: milli-cores of `cpu`, whole units of the others, 1 of `pods`.

    Raises:
        QuantityError: naming the field.
    """
    return {**dict(demand(pod).requests), PODS: 1}


def allocatable(node: Node) -> Mapping[str, int]:
    """Resource to amount the node offers, in the units of `pod_requests`.

    Raises:
        QuantityError: naming the field.
    """
    return {
        resource: min(_parse(text, f"status.allocatable[{resource}]") // _unit(resource), MAX_CAPACITY)
        for resource, text in (node.status.allocatable or {}).items()
    }


def is_terminal(pod: Pod) -> bool:
    """Whether the pod has ended and takes nothing any more."""
    return pod.status.phase in ("Succeeded", "Failed")


def fits(node: Node, pods_on_node: Iterable[Pod], pod: Pod) -> str | None:
    """Why `pod` doesn't fit beside the pods that are on the node, in one phrase; None where it does.

    Only resources are looked at, in kube-scheduler's order: pod count, then each requested resource. Ended pods and the
    pod itself (by uid) don't count.

    Raises:
        QuantityError: naming the field.
    """
    capacity = allocatable(node)
    used: dict[str, int] = {PODS: 0}
    for other in pods_on_node:
        if other.metadata.uid != pod.metadata.uid and not is_terminal(other):
            _add(used, pod_requests(other))
    wanted = pod_requests(pod)
    if used[PODS] + 1 > capacity.get(PODS, 0):
        return "too many pods"
    for resource, amount in wanted.items():
        free = capacity.get(resource, 0) - used.get(resource, 0)
        if resource != PODS and amount > free:
            return f"insufficient {resource}: {amount} requested, {max(free, 0)} free"
    return None
