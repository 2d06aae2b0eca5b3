"""What the API answers with, and how it is put together from facts and the live view."""

import msgspec

from daas.common import merkle
from daas.common.decision import check_decided, committed
from daas.common.errors import NotFound, Refused
from daas.common.messages import DecidedLeaf, DecidedPreemption, Header, PlacementDecided
from daas.gateway.api.index import Batch
from daas.gateway.cache import ClusterCache
from daas.gateway.capacity import allocatable_of


class BatchPage(msgspec.Struct, frozen=True, kw_only=True):
    """Anchored decisions; `next_after` continues where the page ends, None at the end."""

    batches: list[Batch]
    next_after: int | None


class BatchDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as it was signed, and its anchor."""

    batch: Batch
    header: Header
    timestamp_ms: int
    signature: str
    leaves: tuple[DecidedLeaf, ...]
    preemptions: tuple[DecidedPreemption, ...]


class PodProof(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that ties a pod's place to an anchored, signed decision.

    Attributes:
        index, path: the leaf's place under `header.decisions`, and its Merkle path (hex, leaf to root).
    """

    pod_uid: str
    node: str
    batch: Batch
    header: Header
    timestamp_ms: int
    signature: str
    leaf: DecidedLeaf
    index: int
    path: list[str]


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A node: amounts in milli-cores of cpu, whole units of the rest."""

    name: str
    unschedulable: bool
    pods: int
    allocatable: dict[str, int]
    taken: dict[str, int]


class NodePage(msgspec.Struct, frozen=True, kw_only=True):
    """All nodes, by name."""

    nodes: list[NodeView]


def detail(batch: Batch, decided: PlacementDecided) -> BatchDetail:
    """A decision with its anchor.

    Raises:
        Refused: `not-the-anchored-decision`.
    """
    _check(batch, decided)
    return BatchDetail(
        batch=batch,
        header=decided.header,
        timestamp_ms=decided.timestamp_ms,
        signature=decided.signature,
        leaves=decided.leaves,
        preemptions=decided.preemptions,
    )


def pod_proof(batch: Batch, decided: PlacementDecided, index: int, uid: str, node: str) -> PodProof:
    """The proof of one pod's place.

    Raises:
        Refused: `not-the-anchored-decision`.
        NotFound: `no-proof`: that leaf is not about this pod on this node.
    """
    _check(batch, decided)
    if index >= len(decided.leaves):
        raise NotFound(f"decision {batch.sequence} has no leaf {index}", reason="no-proof")
    leaf = decided.leaves[index]
    if leaf.pod_uid != uid or leaf.node != node:
        raise NotFound(f"leaf {batch.sequence}/{index} is about another pod or node", reason="no-proof")
    path = merkle.proof(committed(decided), index)
    return PodProof(
        pod_uid=uid,
        node=node,
        batch=batch,
        header=decided.header,
        timestamp_ms=decided.timestamp_ms,
        signature=decided.signature,
        leaf=leaf,
        index=index,
        path=[one.hex() for one in path],
    )


def _check(batch: Batch, decided: PlacementDecided) -> None:
    if check_decided(decided).hex() != batch.payload_digest:
        raise Refused(f"decision {batch.sequence} is not the anchored one", reason="not-the-anchored-decision")


def node_page(cache: ClusterCache) -> NodePage:
    """The live view of all nodes."""
    views = []
    for name in sorted(cache.nodes):
        node = cache.nodes[name]
        taken, count = cache.taken_on(name)
        views.append(
            NodeView(
                name=name,
                unschedulable=node.spec.unschedulable,
                pods=count,
                allocatable=dict(allocatable_of(node)),
                taken=dict(taken),
            )
        )
    return NodePage(nodes=views)
