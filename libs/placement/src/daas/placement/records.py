"""What the engine remembers of each node and pod, and the bytes by which the state root commits to it."""

from enum import IntEnum
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from daas.common import bcs
from daas.placement.kinds import PodKind
from daas.placement.model import Node
from daas.placement.podclass import PodClass
from daas.placement.profile import Profile
from daas.placement.resources import Demand
from daas.placement.volumes import ClaimKey, ClaimUse


class PodState(IntEnum):
    """Where a pod stands. Numbers are part of the state's encoding."""

    #: Nothing to decide and nothing taken: ended, gated, being deleted unbound, or another scheduler's.
    IDLE = 0
    #: Ours, and due for a decision.
    ACTIVE = 1
    #: Ours, and waiting for its delay to pass.
    BACKOFF = 2
    #: Ours, decided without a node; waiting for something that can help.
    UNSCHEDULABLE = 3
    #: Decided with a node; takes capacity until bound, failed or lapsed.
    ASSUMED = 4
    #: On a node, whoever put it there; takes capacity.
    BOUND = 5


#: Neighbouring fields of leaves in one go: these are encoded for every pod that is decided.
_VERSION = Struct("<QQ")
_POD_VERSION = Struct("<QQ32sB")
_POD_PROGRESS = Struct("<QQIQQ")
#: Amounts have 128 bits: their lower and their upper half.
_TAKEN = Struct("<IQQQQ")
_AMOUNT = Struct("<QQ")
_LOWER = 2**64 - 1
_resource = lru_cache(maxsize=1024)(bcs.string)
_node_name = lru_cache(maxsize=32_768)(bcs.string)


class Plan(NamedTuple):
    """What preemption promised a pod: a node, and the pods that are evicted for it.

    Attributes:
        sequence: the decision that says so.
        expires_ms: past it, and the grace, nothing is kept for the pod any more.
        victims: uids, in the order of their eviction.
    """

    sequence: int
    node: str
    expires_ms: int
    victims: tuple[str, ...]


PENDING = frozenset({PodState.ACTIVE, PodState.BACKOFF, PodState.UNSCHEDULABLE})
TAKES_CAPACITY = frozenset({PodState.ASSUMED, PodState.BOUND})


class NodeRecord:
    """A node and what is taken of it.

    Attributes:
        version: resourceVersion.
        epoch: number of the resync that last named it.
        encoded, digest: the trimmed node without its version, and blake2b-256 of that.
        capacity: resource to amount, units of `daas.placement.resources`.
        used: resource to amount taken by the pods on it, zero amounts left out; score_*: the same for scores.
        pods: how many pods are on it.
    """

    __slots__ = (
        "_head",
        "capacity",
        "digest",
        "encoded",
        "epoch",
        "name",
        "node",
        "pods",
        "score_cpu_milli",
        "score_memory_bytes",
        "uid",
        "used",
        "version",
    )

    def __init__(self, node: Node, version: int, encoded: bytes, digest: bytes, capacity: dict[str, int]) -> None:
        self.name = node.metadata.name
        self.uid = node.metadata.uid
        self.node = node
        self.version = version
        self.encoded = encoded
        self.digest = digest
        self.capacity = capacity
        self.epoch = 0
        self.used: dict[str, int] = {}
        self.score_cpu_milli = 0
        self.score_memory_bytes = 0
        self.pods = 0
        self._head = (-1, -1, b"")

    def take(self, demand: Demand) -> None:
        """Adds one pod."""
        for resource, amount in demand.requests:
            self.used[resource] = self.used.get(resource, 0) + amount
        self.score_cpu_milli += demand.score_cpu_milli
        self.score_memory_bytes += demand.score_memory_bytes
        self.pods += 1

    def give_back(self, demand: Demand) -> None:
        """Removes one pod that was added with this demand."""
        for resource, amount in demand.requests:
            left = self.used[resource] - amount
            assert left >= 0, f"{self.name} gives back more {resource} than was taken"
            if left:
                self.used[resource] = left
            else:
                del self.used[resource]
        self.score_cpu_milli -= demand.score_cpu_milli
        self.score_memory_bytes -= demand.score_memory_bytes
        self.pods -= 1

    def to_bcs(self) -> bytes:
        """The leaf of this node in the state."""
        version, epoch, head = self._head
        if (version, epoch) != (self.version, self.epoch):
            version, epoch = self.version, self.epoch
            head = b"".join((bcs.string(self.name), bcs.string(self.uid), _VERSION.pack(version, epoch), self.digest))
            self._head = (version, epoch, head)
        used, cpu, memory = self.used, self.score_cpu_milli, self.score_memory_bytes
        taken = _TAKEN.pack(self.pods, cpu & _LOWER, cpu >> 64, memory & _LOWER, memory >> 64)
        parts = [head, taken, bcs.uleb128(len(used))]
        for resource in sorted(used):
            amount = used[resource]
            parts += (_resource(resource), _AMOUNT.pack(amount & _LOWER, amount >> 64))
        return b"".join(parts)


class PodRecord:
    """A pod and where it stands.

    Attributes:
        version: resourceVersion.
        epoch: number of the resync that last named it.
        kind: what it shares with others; own: what its encoding has beside that; named: spec.nodeName.
        digest: blake2b-256 of the trimmed pod without its version.
        node: where it is bound or assumed.
        sequence: the decision that assumed it, else 0.
        expires_ms: when that decision lapses, else 0.
        attempts: failures in a row.
        not_before_ms: end of the delay after the last failure.
        ticket: place in the queue, given when it became active.
        gang: name of the group that it is placed with, or "".
        asked_for: the node that its status says it was promised, while it is on none.
        nominated: the node that it is promised: by its plan, else by its status.
        claims: the claims that it mounts; volumes: (claim, volume) that its placement promised, "" for one to be made.
        plan: what preemption promised it, or None.
        pod_class: what it asks for; only pods that may have to be decided have one.
        profile: what it is to other pods; idle pods have none.
        foretold: the profile whose terms are known to others while it is promised a node.
    """

    __slots__ = (
        "asked_for",
        "attempts",
        "claims",
        "demand",
        "digest",
        "epoch",
        "expires_ms",
        "foretold",
        "gang",
        "kind",
        "name",
        "named",
        "namespace",
        "node",
        "nominated",
        "not_before_ms",
        "own",
        "plan",
        "pod_class",
        "priority",
        "profile",
        "sequence",
        "state",
        "ticket",
        "uid",
        "version",
        "volumes",
    )

    def __init__(self, uid: str, namespace: str, name: str) -> None:
        self.uid = uid
        self.namespace = namespace
        self.name = name
        self.version = -1
        self.epoch = 0
        self.kind: PodKind | None = None
        self.own = self.digest = b""
        self.named = ""
        self.demand = Demand((), 0, 0)
        self.priority = 0
        self.pod_class: PodClass | None = None
        self.profile: Profile | None = None
        self.foretold: Profile | None = None
        self.state = PodState.IDLE
        self.node = ""
        self.sequence = 0
        self.expires_ms = 0
        self.attempts = 0
        self.not_before_ms = 0
        self.ticket = 0
        self.asked_for = self.nominated = ""
        self.gang = ""
        self.claims: tuple[ClaimUse, ...] = ()
        self.volumes: tuple[tuple[ClaimKey, str], ...] = ()
        self.plan: Plan | None = None

    def see(self, kind: PodKind, own: bytes, named: str, digest: bytes) -> None:
        """Takes over what a version says; `digest` is that of its encoding."""
        self.kind, self.own, self.named, self.digest = kind, own, named, digest

    @property
    def encoded(self) -> bytes:
        """The trimmed pod without its version."""
        assert self.kind is not None, f"pod {self.uid} was never seen"
        return self.kind.encode(self.name, self.uid, self.own, self.named)

    @property
    def resource_version(self) -> str:
        """The version as text, as leaves carry it."""
        return str(self.version)

    def to_bcs(self) -> bytes:
        """The leaf of this pod in the state."""
        common = b"".join(
            (
                bcs.string(self.uid),
                _POD_VERSION.pack(self.version, self.epoch, self.digest, self.state),
                _node_name(self.node),
                _POD_PROGRESS.pack(self.sequence, self.expires_ms, self.attempts, self.not_before_ms, self.ticket),
            )
        )
        if self.plan is None and not self.volumes:
            return common
        return common + bcs.option(_plan, self.plan) + bcs.vector(_volume, self.volumes)


def _plan(plan: Plan) -> bytes:
    return b"".join(
        (bcs.u64(plan.sequence), bcs.string(plan.node), bcs.u64(plan.expires_ms), bcs.vector(bcs.string, plan.victims))
    )


def _volume(item: tuple[ClaimKey, str]) -> bytes:
    (_, claim), volume = item
    return bcs.string(claim) + bcs.string(volume)
