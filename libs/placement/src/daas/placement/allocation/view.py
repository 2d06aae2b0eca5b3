"""From a scheduler's state to the cluster that certificates speak of. The verifiers don't import this.

A state comes from a snapshot whose root equals an anchored one; this function is pure, so anyone who holds the snapshot
arrives at the same cluster and the same digest.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import msgspec

from daas.placement.allocation.cluster import Cluster, Running
from daas.placement.batch import PlacementBatch
from daas.placement.model import Node, Pod
from daas.placement.plans import Budgets
from daas.placement.policy import Genesis
from daas.placement.records import PENDING, TAKES_CAPACITY, PodState
from daas.placement.snapshot import SnapshotHead, read_snapshot
from daas.placement.state import ClusterState
from daas.placement.storage import PodDisruptionBudget


class NodeView(Protocol):
    """What is read of a node's record: the trimmed node without its version, as the state root commits to it."""

    @property
    def encoded(self) -> bytes:
        """JSON."""
        ...


class PodView(Protocol):
    """What is read of a pod's record."""

    @property
    def encoded(self) -> bytes:
        """The trimmed pod without its version, as JSON."""
        ...

    @property
    def node(self) -> str:
        """Where it is bound or assumed, else empty."""
        ...

    @property
    def state(self) -> PodState:
        """Where it stands."""
        ...


_NODE = msgspec.json.Decoder(Node)
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
    return Cluster.of((_NODE.decode(record.encoded) for record in nodes), running, pending)


class Moment(NamedTuple):
    """A state as computations on it see it.

    Attributes:
        budgets: disruption budgets by namespace and name, with what they allow beyond the evictions already planned.
        head: where chain and log stood. now_ms: the log's time. state_root: computed from what was read.
    """

    cluster: Cluster
    budgets: tuple[tuple[PodDisruptionBudget, int], ...]
    head: SnapshotHead
    now_ms: int
    state_root: bytes


def moment_of_snapshot(genesis: Genesis, snapshot: bytes) -> Moment:
    """The state in the bytes of a scheduler's snapshot.

    Raises:
        SnapshotError: malformed or of another genesis.
        ClusterError: too large for one computation.
    """
    state = ClusterState(genesis.policy)
    head = read_snapshot(snapshot, genesis.digest(), state)
    cluster = cluster_of(state.nodes.values(), state.pods.values())
    return Moment(cluster, budgets_of(state), head, state.last_ms, state.root())


def budgets_of(state: ClusterState) -> tuple[tuple[PodDisruptionBudget, int], ...]:
    """The disruption budgets that the log has told of, by namespace and name, and what each allows now."""
    return tuple(rule for namespace in sorted(state.budgets()) for rule in Budgets(state, namespace).left)


def cluster_of_snapshot(genesis: Genesis, snapshot: bytes, anchored: PlacementBatch | None = None) -> Cluster:
    """The cluster in the bytes of a scheduler's snapshot; with `anchored`, its state root has to be that of the batch.

    Raises:
        SnapshotError: malformed, of another genesis, or not the state right after `anchored`.
        ClusterError: too large for one computation.
    """
    state = ClusterState(genesis.policy)
    head = read_snapshot(snapshot, genesis.digest(), state)
    if anchored is not None:
        head.check(anchored, state.root())
    return cluster_of(state.nodes.values(), state.pods.values())
