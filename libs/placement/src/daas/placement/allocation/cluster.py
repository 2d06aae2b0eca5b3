"""The committed input of a computation over a cluster: nodes, running pods and pending pods, with one digest.

Whoever verifies a certificate starts from this value and from nothing else. `cluster_of` in `daas.placement.allocation.
view` derives it from a scheduler's state, whose root the chain has anchored.
"""

from collections.abc import Iterable
from itertools import pairwise

import msgspec

from daas.common import merkle
from daas.placement.allocation.errors import ClusterError
from daas.placement.model import Name, Node, Pod

#: Bounds of one computation; sums of products in the verifiers stay below 2^63 with them.
MAX_NODES = 20_000
MAX_PODS = 250_000

_DOMAIN = b"k3s-daas/cluster/1\x00"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A pod that takes capacity, and the node it takes it on."""

    node: Name
    pod: Pod


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster at one moment, in its one order: nodes by name, pods by uid.

    Attributes:
        nodes: every known node.
        running: pods that take capacity, bound or assumed. Ended pods are left out.
        pending: pods to be placed.
    """

    nodes: tuple[Node, ...]
    running: tuple[Running, ...] = ()
    pending: tuple[Pod, ...] = ()

    @classmethod
    def of(cls, nodes: Iterable[Node], running: Iterable[Running] = (), pending: Iterable[Pod] = ()) -> "Cluster":
        """A cluster from its parts in any order.

        Raises:
            ClusterError: see `check`.
        """
        cluster = cls(
            nodes=tuple(sorted(nodes, key=lambda node: node.metadata.name)),
            running=tuple(sorted(running, key=lambda running: running.pod.metadata.uid)),
            pending=tuple(sorted(pending, key=lambda pod: pod.metadata.uid)),
        )
        cluster.check()
        return cluster

    def check(self) -> None:
        """Asserts order, uniqueness and bounds: equal clusters have equal digests.

        Raises:
            ClusterError: `cluster-size`, `cluster-order` or `cluster-duplicate`, naming the field.
        """
        pods = len(self.running) + len(self.pending)
        for field, count, most in (("nodes", len(self.nodes), MAX_NODES), ("pods", pods, MAX_PODS)):
            if count > most:
                raise ClusterError(f"at most {most} {field}, not {count}", reason="cluster-size", field=field)
        for field, names in (
            ("nodes", [node.metadata.name for node in self.nodes]),
            ("running", [running.pod.metadata.uid for running in self.running]),
            ("pending", [pod.metadata.uid for pod in self.pending]),
        ):
            for before, after in pairwise(names):
                if before >= after:
                    reason = "cluster-duplicate" if before == after else "cluster-order"
                    raise ClusterError(f"{after!r} stands after {before!r}", reason=reason, field=field)
        both = {r.pod.metadata.uid for r in self.running} & {pod.metadata.uid for pod in self.pending}
        if both:
            raise ClusterError(f"{min(both)!r} is running and pending", reason="cluster-duplicate", field="pending")

    def digest(self) -> bytes:
        """blake2b-256 over the domain tag and the JSON with sorted map keys, 32 bytes."""
        return merkle.digest(_DOMAIN + msgspec.json.encode(self, order="deterministic"))
