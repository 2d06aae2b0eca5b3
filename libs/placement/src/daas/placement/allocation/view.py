"""From a scheduler's state to the cluster that certificates speak of. The verifiers don't import this.

A state comes from a snapshot whose root equals an anchored one; this function is pure, so anyone who holds the snapshot
arrives at the same cluster and the same digest.
"""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from daas.placement.allocation.cluster import Cluster, Running
from daas.placement.model import Node, Pod
from daas.placement.records import PENDING, TAKES_CAPACITY, PodState


class NodeView(Protocol):
    """What is read of a node's record: the trimmed node."""

    @property
    def node(self) -> Node:
        """The trimmed node."""
        ...


class PodView(Protocol):
    """What is read of a pod's record."""

    @property
    def encoded(self) -> bytes:
        """The trimmed pod as JSON."""
        ...

    @property
    def node(self) -> str:
        """Where it is bound or assumed, else empty."""
        ...

    @property
    def state(self) -> PodState:
        """Where it stands."""
        ...


_POD = msgspec.json.Decoder(Pod)


def cluster_of(nodes: Iterable[NodeView], pods: Iterable[PodView]) -> Cluster:
    """The cluster of a state: `cluster_of(state.nodes.values(), state.pods.values())`.

    Raises:
        ClusterError: too large for one computation.
    """
    running, pending = [], []
    for record in pods:
        if record.state in TAKES_CAPACITY:
            running.append(Running(node=record.node, pod=_POD.decode(record.encoded)))
        elif record.state in PENDING:
            pending.append(_POD.decode(record.encoded))
    return Cluster.of((record.node for record in nodes), running, pending)
