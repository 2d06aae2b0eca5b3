"""Whose pod is decided next: weighted dominant-resource order across tenants, its certificate, and who checks it.

A tenant is a namespace. What it holds of the cluster, weighed by its stake, decides when it is served again; priority
and first come decide inside a tenant only. All of it is whole numbers; the definitions stand in docs/proofs.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from typing import NamedTuple

import msgspec

from daas.common import merkle
from daas.placement.batch import Leaf
from daas.placement.resources import PODS

#: Binary places of a share of the cluster, and of a share by weight.
SHARE_PLACES = 64
#: No tenant counts for less than this part of the average stake.
FLOOR_PART = 10

Amounts = Mapping[str, int]


class Weights:
    """Weights of tenants: their stake, but at least a tenth of the average stake, and at least 1."""

    def __init__(self, stakes: Mapping[str, int]) -> None:
        self._stakes = stakes
        self.floor = max(1, sum(stakes.values()) // (FLOOR_PART * max(len(stakes), 1)))

    def of(self, namespace: str) -> int:
        """The weight of a tenant, known or not."""
        return max(self._stakes.get(namespace, 0), self.floor)


def dominant_share(used: Amounts, capacity: Amounts) -> int:
    """The largest share of any resource that the cluster has, in 2^-64; resources that no node offers don't count."""
    shares = [(amount << SHARE_PLACES) // capacity[name] for name, amount in used.items() if capacity.get(name, 0) > 0]
    return max(shares, default=0)


def tie(namespace: str) -> bytes:
    """What decides between equal shares."""
    return merkle.digest(namespace.encode())


class TenantShare(NamedTuple):
    """Where a tenant with pods to decide stands before a batch: what it holds, and how many pods are due."""

    namespace: str
    weight: int
    used: tuple[tuple[str, int], ...]
    due: int


class Grant(NamedTuple):
    """What one leaf asked for, and its place inside the tenant."""

    requests: tuple[tuple[str, int], ...]
    priority: int
    ticket: int


class FairnessCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """What the order of a batch follows from.

    Attributes:
        capacity: (resource, amount) over all nodes, sorted.
        tenants: all that had pods due, sorted by namespace.
        grants: one for each leaf, in order.
    """

    capacity: tuple[tuple[str, int], ...]
    tenants: tuple[TenantShare, ...]
    grants: tuple[Grant, ...]


class Counter:
    """A tenant's holdings as the order counts them: what it was served in this batch counts, placed or not."""

    __slots__ = ("_capacity", "_key", "_weight", "served", "tenant", "used")

    def __init__(self, tenant: TenantShare, capacity: Amounts) -> None:
        self.tenant = tenant
        self.used = dict(tenant.used)
        self.served = 0
        self._capacity = capacity
        self._weight = tenant.weight
        self._key: int | None = None

    @property
    def key(self) -> int:
        """The share by weight."""
        if self._key is None:
            self._key = dominant_share(self.used, self._capacity) // self._weight
        return self._key

    def serve(self, requests: Iterable[tuple[str, int]]) -> None:
        """Counts one pod."""
        for name, amount in requests:
            self.used[name] = self.used.get(name, 0) + amount
        self.used[PODS] = self.used.get(PODS, 0) + 1
        self.served += 1
        self._key = None


class Order:
    """Picks tenants: always one with the least share by weight among those with pods due."""

    def __init__(self, tenants: Iterable[TenantShare], capacity: Amounts) -> None:
        self._heap = [
            (counter.key, tie(counter.tenant.namespace), counter)
            for counter in (Counter(tenant, capacity) for tenant in tenants)
            if counter.tenant.due
        ]
        heapify(self._heap)

    def next(self) -> Counter | None:
        """Whose turn it is; None where nothing is due."""
        return self._heap[0][2] if self._heap else None

    def serve(self, requests: Iterable[tuple[str, int]]) -> None:
        """Counts one pod of the tenant whose turn it is."""
        _, mark, counter = self._heap[0]
        counter.serve(requests)
        if counter.served == counter.tenant.due:
            heappop(self._heap)
        elif len(self._heap) > 1:
            heapreplace(self._heap, (counter.key, mark, counter))


class FairnessVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was found: `broken` names the claim that doesn't hold (order, first-come, envelope, shape), or None."""

    broken: str | None
    at: int = -1
    message: str = ""

    @property
    def holds(self) -> bool:
        """Whether all of it holds."""
        return self.broken is None


def verify_fairness(certificate: FairnessCertificate, leaves: Sequence[Leaf]) -> FairnessVerdict:
    """Checks order, first come inside each tenant and the envelope, in O(pods x log tenants), without any node.

    That the certificate's amounts are those of the committed state is for a replay to say; see docs/proofs.md.
    """
    if len(certificate.grants) != len(leaves):
        return FairnessVerdict(broken="shape", message=f"{len(certificate.grants)} grants for {len(leaves)} leaves")
    names = [tenant.namespace for tenant in certificate.tenants]
    if names != sorted(set(names)) or any(tenant.weight < 1 for tenant in certificate.tenants):
        return FairnessVerdict(broken="shape", message="tenants are sorted, once each, with weights from 1")
    capacity = dict(certificate.capacity)
    order = Order(certificate.tenants, capacity)
    last: dict[str, tuple[int, int]] = {}
    before: dict[str, int] = {}
    counters: dict[str, Counter] = {}
    for index, (leaf, grant) in enumerate(zip(leaves, certificate.grants, strict=True)):
        counter = order.next()
        expected = counter.tenant.namespace if counter is not None else "nobody"
        if counter is None or expected != leaf.namespace:
            return FairnessVerdict(
                broken="order", at=index, message=f"{leaf.namespace} was served where {expected} had the least share"
            )
        place = (-grant.priority, grant.ticket)
        if place < last.get(expected, place):
            return FairnessVerdict(broken="first-come", at=index, message=f"{leaf.name} overtook another of {expected}")
        last[expected], before[expected], counters[expected] = place, counter.key, counter
        order.serve(grant.requests)
    return _envelope(certificate, before, counters, capacity)


def _envelope(
    certificate: FairnessCertificate, before: Mapping[str, int], counters: Mapping[str, Counter], capacity: Amounts
) -> FairnessVerdict:
    """Nobody was served who, before the last time, stood above a tenant that is still waiting at the end."""
    for tenant in certificate.tenants:
        counter = counters.get(tenant.namespace) or Counter(tenant, capacity)
        if counter.served == tenant.due:
            continue
        for other, key in before.items():
            if key > counter.key:
                return FairnessVerdict(
                    broken="envelope", message=f"{other} was served above {tenant.namespace}, which is still waiting"
                )
    return FairnessVerdict(broken=None)
