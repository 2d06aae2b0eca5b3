"""The optimisation problem that a cluster and an objective define, in integers: what planner and verifier agree on.

Pods that ask for the same and are worth the same everywhere form a class k of c_k pods. With x_kn pods of class k on
node n, the problem is: maximise sum v_kn x_kn, subject to sum_n x_kn <= c_k, to sum_k r_kd x_kn <= f_nd for every node
n and resource d (`pods` is one of them), and to 0 <= x_kn <= limit_kn, where limit_kn is 0 on nodes that don't accept
the class and min(c_k, floor(f_nd / r_kd) over d) elsewhere.

For every positive integer q_d, sum_k floor(r_kd / q_d) x_kn <= floor(f_nd / q_d) follows (Chvatal-Gomory). The bound
uses these rounded rows: with q_d the greatest common divisor of the requests nothing is lost, and capacity that nobody
can use goes.
"""

from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from daas.placement.allocation.cluster import Cluster
from daas.placement.allocation.eligibility import Needs, Repulsion, accepts, coupling, needs_of
from daas.placement.allocation.errors import ClusterError
from daas.placement.allocation.objective import (
    MAX_PRIORITY_RANK,
    Objective,
    least_allocated,
    normalised,
    preference_taints,
    preferred_affinity,
)
from daas.placement.model import Affinity, Node, Pod, PreferredSchedulingTerm, Taint
from daas.placement.resources import CPU, MEMORY, PODS, allocatable, demand, pod_requests

if TYPE_CHECKING:
    from collections.abc import Mapping

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: Classes times nodes: 64 MB a matrix.
MAX_PAIRS = 1 << 23
#: Classes of one problem, and so their pods: sums of their requests stay below 2^63.
MAX_CLASSES = 10_000
#: Resources that pods of one problem ask for, `pods` included.
MAX_RESOURCES = 32
#: Rounded amounts stay below this, whatever the resource's own unit is.
MAX_ROUNDED = 1 << 24


class _ClassKey(msgspec.Struct, frozen=True):
    requests: tuple[tuple[str, int], ...]
    needs: Needs
    preferred: tuple[PreferredSchedulingTerm, ...]
    rank: int
    coupled: str | None


@dataclass(frozen=True, eq=False)
class AllocationModel:
    """One problem; K classes, N nodes, D resources.

    Attributes:
        cluster: digest of the cluster it comes from.
        objective: what is maximised.
        nodes: names, sorted. resources: names, sorted.
        pods: per class the uids of its pods, sorted; classes stand in the order of their first uid.
        coupled: per class, why a plan may not place it, or None.
        requests: K x D, what one pod takes; counts: K, how many there are.
        free: N x D, what the running pods leave. values: K x N. limits: K x N, most pods of a class on a node.
        units: D, the divisor q of each resource; rounded_requests, rounded_free: after division.
    """

    cluster: bytes
    objective: Objective
    nodes: tuple[str, ...]
    resources: tuple[str, ...]
    pods: tuple[tuple[str, ...], ...]
    coupled: tuple[str | None, ...]
    requests: Ints
    counts: Ints
    free: Ints
    values: Ints
    limits: Ints
    units: Ints
    rounded_requests: Ints
    rounded_free: Ints

    @property
    def value_step(self) -> int:
        """Every achievable value is a multiple of this, the greatest common divisor of what places are worth."""
        return max(int(np.gcd.reduce(self.values[self.limits > 0], initial=0)), 1)

    def capacity_left(self, placed: Ints) -> Ints:
        """N x D: what is left after `placed` (K x N); negative where it does not fit."""
        return self.free - placed.T @ self.requests


def build_model(cluster: Cluster, objective: Objective) -> AllocationModel:
    """The problem of a cluster.

    Raises:
        ClusterError: `cluster-*`, `objective-range` or `model-size`.
        QuantityError: naming the field.
    """
    cluster.check()
    objective.check()
    ranks = _priority_ranks(cluster.pending)
    repulsion = Repulsion(cluster.running, {node.metadata.name: node for node in cluster.nodes})
    members: dict[bytes, tuple[_ClassKey, list[Pod]]] = {}
    for pod in cluster.pending:
        affinity = (pod.spec.affinity or Affinity()).node_affinity
        key = _ClassKey(
            requests=demand(pod).requests,
            needs=needs_of(pod, repulsion.domains(pod)),
            preferred=(affinity.preferred if affinity else None) or (),
            rank=ranks[pod.spec.priority or 0],
            coupled=coupling(pod),
        )
        members.setdefault(msgspec.json.encode(key, order="deterministic"), (key, []))[1].append(pod)
    classes = [key for key, _ in members.values()]
    first = [pods[0] for _, pods in members.values()]
    resources = tuple(sorted({name for key in classes for name, _ in key.requests} | {PODS}))
    for field, count, most in (
        ("classes", len(classes), MAX_CLASSES),
        ("resources", len(resources), MAX_RESOURCES),
        ("pairs", len(classes) * len(cluster.nodes), MAX_PAIRS),
    ):
        if count > most:
            raise ClusterError(f"at most {most} {field} in one problem, not {count}", reason="model-size", field=field)
    requests = np.zeros((len(classes), len(resources)), np.int64)
    for k, key in enumerate(classes):
        wanted = {**dict(key.requests), PODS: 1}
        requests[k] = [wanted.get(name, 0) for name in resources]
    counts = np.array([len(pods) for _, pods in members.values()], np.int64)
    capacity, left = _capacity(cluster, (*resources, CPU, MEMORY))
    free = np.ascontiguousarray(left[:, : len(resources)])
    accepted = _accepted(cluster.nodes, classes)
    units, rounded_requests, rounded_free = _rounded(requests, free)
    return AllocationModel(
        cluster=cluster.digest(),
        objective=objective,
        nodes=tuple(node.metadata.name for node in cluster.nodes),
        resources=resources,
        pods=tuple(tuple(pod.metadata.uid for pod in pods) for _, pods in members.values()),
        coupled=tuple(key.coupled for key in classes),
        requests=requests,
        counts=counts,
        free=free,
        values=_values(
            cluster.nodes, classes, first, accepted, objective, cpu_and_memory=(left[:, -2:].T, capacity[:, -2:].T)
        ),
        limits=_limits(requests, counts, free, accepted),
        units=units,
        rounded_requests=rounded_requests,
        rounded_free=rounded_free,
    )


def _priority_ranks(pods: tuple[Pod, ...]) -> dict[int, int]:
    distinct = sorted({pod.spec.priority or 0 for pod in pods})
    return {priority: min(rank, MAX_PRIORITY_RANK) for rank, priority in enumerate(distinct)}


def _capacity(cluster: Cluster, resources: tuple[str, ...]) -> tuple[Ints, Ints]:
    """N x D: what nodes offer, and what running pods leave of it, at least 0."""
    index = {node.metadata.name: n for n, node in enumerate(cluster.nodes)}
    used: list[dict[str, int]] = [{} for _ in cluster.nodes]
    for running in cluster.running:
        if running.node in index:
            taken = used[index[running.node]]
            for resource, amount in pod_requests(running.pod).items():
                taken[resource] = taken.get(resource, 0) + amount
    capacity = np.zeros((len(cluster.nodes), len(resources)), np.int64)
    free = np.zeros_like(capacity)
    for n, node in enumerate(cluster.nodes):
        offered: Mapping[str, int] = allocatable(node)
        capacity[n] = [offered.get(name, 0) for name in resources]
        free[n] = [max(offered.get(name, 0) - used[n].get(name, 0), 0) for name in resources]
    return capacity, free


def _accepted(nodes: tuple[Node, ...], classes: list[_ClassKey]) -> Mask:
    """K x N: which nodes may be used apart from room; classes with equal needs are looked at once."""
    known: dict[bytes, Mask] = {}
    rows = np.zeros((len(classes), len(nodes)), np.bool_)
    for k, key in enumerate(classes):
        name = msgspec.json.encode(key.needs, order="deterministic")
        if name not in known:
            known[name] = np.array([accepts(node, key.needs) for node in nodes], np.bool_)
        rows[k] = known[name]
    return rows


def _limits(requests: Ints, counts: Ints, free: Ints, accepted: Mask) -> Ints:
    limits = np.where(accepted, counts[:, None], 0)
    for d in range(requests.shape[1]):
        asking = np.nonzero(requests[:, d])[0]
        limits[asking] = np.minimum(limits[asking], free[None, :, d] // requests[asking, d, None])
    return limits


def _rounded(requests: Ints, free: Ints) -> tuple[Ints, Ints, Ints]:
    """Divisors, and requests and free capacity divided by them; a request above MAX_ROUNDED fits nowhere.

    The divisor is the greatest common divisor of the requests, times the least power of two that keeps the largest free
    amount in range.
    """
    units = np.ones(requests.shape[1], np.int64)
    for d in range(requests.shape[1]):
        unit = gcd(*requests[:, d].tolist()) or 1
        while int(free[:, d].max(initial=0)) // unit >= MAX_ROUNDED:
            unit *= 2
        units[d] = unit
    return units, np.minimum(requests // units, MAX_ROUNDED), free // units


def _values(
    nodes: tuple[Node, ...],
    classes: list[_ClassKey],
    first: list[Pod],
    accepted: Mask,
    objective: Objective,
    *,
    cpu_and_memory: tuple[Ints, Ints],
) -> Ints:
    free, capacity = cpu_and_memory
    ids: dict[tuple[Taint, ...], int] = {}
    taint_set = np.array([ids.setdefault(node.spec.taints or (), len(ids)) for node in nodes], np.int64)
    values = np.zeros(accepted.shape, np.int64)
    for k, key in enumerate(classes):
        wanted = dict(key.requests)
        taints = normalised(preference_taints(first[k], list(ids), taint_set), accepted[k], reverse=True)
        affinity = normalised(preferred_affinity(first[k], nodes), accepted[k], reverse=False)
        values[k] = (
            objective.per_pod
            + objective.per_priority_rank * key.rank
            + objective.taint_toleration * taints
            + objective.node_affinity * affinity
            + objective.least_allocated * least_allocated(free, capacity, (wanted.get(CPU, 0), wanted.get(MEMORY, 0)))
        )
    return values
