"""Checks of decisions without making them again: every placement against the committed state, and single wrong steps.

`verify_feasibility` looks at all placements of a batch in the state after it. `refute` judges one leaf by one or two
openings of that state: what a court with little room, a contract on chain, could do. The levels, and what each of them
does not show, are defined in docs/proofs.md. Nothing here chooses a node.
"""

from collections.abc import Sequence

import msgspec

from daas.common import bcs, merkle
from daas.placement import scores_of_one as scores
from daas.placement.batch import Leaf, PlacementBatch, Preemption, decisions_root
from daas.placement.commitment import Opening, Part, opened
from daas.placement.coupling import couple
from daas.placement.filters import count_intolerable_preferences, taint_refusal, term_holds
from daas.placement.groups import Group
from daas.placement.model import Affinity, Node, Pod
from daas.placement.plans import broken_plan
from daas.placement.policy import PROFILE_BALANCE_CHANGE, Genesis, Policy
from daas.placement.reasons import NONE, UNSUPPORTED, Reason
from daas.placement.records import PodRecord
from daas.placement.resources import CPU, MEMORY, PODS, Demand, allocatable, demand
from daas.placement.snapshot import SnapshotHead, read_snapshot
from daas.placement.state import ClusterState
from daas.placement.volumes import claims_of

#: What two rows can't show: rules between pods, promises, groups and volumes.
_OUT_OF_SIGHT = (
    UNSUPPORTED
    | Reason.EXISTING_ANTI_AFFINITY
    | Reason.RESERVED_FOR_NOMINATED
    | Reason.GANG_INCOMPLETE
    | Reason.GANG_DOES_NOT_FIT
    | Reason.CLAIM_NOT_FOUND
    | Reason.CLAIM_UNBOUND
    | Reason.CLAIM_IN_USE
    | Reason.VOLUME_LIMIT
    | Reason.VOLUME_MISMATCH
)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a leaf.

    Attributes:
        index: of the leaf, -1 for the batch as a whole.
        rule: `leaves`, `not-assumed`, `unknown-node`, `taints`, `node-affinity`, `resources`, `volumes`,
            `ports-or-anti-affinity`, `affinity`, `preemption`; of refutations `not-allowed`, `overcommitted`,
            `left-out`, `better-node`.
    """

    index: int
    rule: str
    message: str


# --- all placements of a batch, in the state after it


def verify_feasibility(
    genesis: Genesis,
    snapshot: bytes,
    batch: PlacementBatch,
    leaves: Sequence[Leaf],
    preemptions: Sequence[Preemption] = (),
) -> Finding | None:
    """The first placement or plan that breaks a rule in the state right after the batch; None where all hold.

    Raises:
        SnapshotError: the snapshot is not the state that the batch commits to.
    """
    state = ClusterState(genesis.policy)
    head: SnapshotHead = read_snapshot(snapshot, genesis.digest(), state)
    head.check(batch, state.root())
    if decisions_root(leaves, preemptions) != batch.decisions or len(leaves) + len(preemptions) != batch.count:
        return Finding(index=-1, rule="leaves", message="the leaves are not those under the header")
    for index, leaf in enumerate(leaves):
        broken = None if leaf.node is None else _broken(state, leaf, leaf.node, batch.sequence)
        if broken is not None:
            return Finding(index=index, rule=broken, message=f"{leaf.namespace}/{leaf.name} on {leaf.node}")
    for index, plan in enumerate(preemptions, len(leaves)):
        wrong = broken_plan(state, plan, batch.sequence)
        if wrong is not None:
            return Finding(index=index, rule="preemption", message=wrong)
    return None


def _broken(state: ClusterState, leaf: Leaf, name: str, sequence: int) -> str | None:
    record = state.pods.get(leaf.pod_uid)
    if record is None or (record.node, record.sequence) != (name, sequence):
        return "not-assumed"
    node = state.nodes.get(name)
    if node is None:
        return "unknown-node"
    pod = msgspec.json.decode(record.encoded, type=Pod)
    rule = static_refusal(pod, node.node)
    if rule is not None:
        return rule
    used = {**node.used, PODS: node.pods}
    if overcommitted(demand(pod), used, node.capacity):
        return "resources"
    if record.claims and state.claims.refusal(record, node.node):
        return "volumes"
    return _beside(state, record, node.node)


def static_refusal(pod: Pod, node: Node) -> str | None:
    """The filter by which a node's labels or taints keep the pod away."""
    tolerations, taints = pod.spec.tolerations or (), node.spec.taints or ()
    if taint_refusal(tolerations, taints, unschedulable=node.spec.unschedulable) is not NONE:
        return "taints"
    labels = node.metadata.labels or {}
    if any(labels.get(key) != value for key, value in (pod.spec.node_selector or {}).items()):
        return "node-affinity"
    affinity = (pod.spec.affinity or Affinity()).node_affinity
    if affinity is not None and affinity.required is not None:
        terms = affinity.required.node_selector_terms
        if not any(term_holds(term, node.metadata.name, labels) for term in terms):
            return "node-affinity"
    return None


def overcommitted(asked: Demand, used: dict[str, int], capacity: dict[str, int]) -> bool:
    """Whether more than there is was taken of something the pod asks for."""
    return any(used.get(name, 0) > capacity.get(name, 0) for name in (*(name for name, _ in asked.requests), PODS))


def _beside(state: ClusterState, record: PodRecord, node: Node) -> str | None:
    """Required affinity, anti-affinity and host ports: they hold at the end where they held at each step."""
    profile, around = record.profile, state.neighbours.surroundings(state.objects)
    assert profile is not None, "a placed pod has a profile"
    coupling = couple(profile, state.neighbours.carriers, around, 0)
    labels = node.metadata.labels or {}

    def pods(group: Group, topology_key: str | None) -> int:
        found = 0
        for other in state.neighbours.candidates(group):
            times = group.count(other, around.namespaces)
            for name, count in other.on.items() if times else ():
                there = state.nodes.get(name)
                if topology_key is None:
                    same = name == record.node
                else:
                    value = (there.node.metadata.labels or {}).get(topology_key) if there is not None else None
                    same = value is not None and value == labels.get(topology_key)
                found += times * count * same
        return found

    for forbid in coupling.forbids:
        inside = forbid.topology_key is None or forbid.topology_key in labels
        own = forbid.group.count(profile, around.namespaces) if inside else 0
        if pods(forbid.group, forbid.topology_key) > own:
            return "ports-or-anti-affinity"
    require = coupling.require
    if require is not None and any(not pods(require.group, key) for key in require.topology_keys):
        return "affinity"
    return None


# --- one leaf, by openings


class OpenedNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node's row in a state: the trimmed node as it was encoded, the bytes of its leaf, and the way to the root."""

    encoded: bytes
    leaf: bytes
    opening: Opening


class OpenedPod(msgspec.Struct, frozen=True, kw_only=True):
    """A pod's row in a state."""

    encoded: bytes
    leaf: bytes
    opening: Opening


class _Row(msgspec.Struct, frozen=True):
    node: Node
    used: dict[str, int]
    score_cpu_milli: int
    score_memory_bytes: int


class Refutation(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence against one leaf.

    Attributes:
        leaves, preemptions: all of the batch.
        index: of the leaf that is wrong.
        pod: its row.
        chosen: the row of the node it was placed on; not needed where it was placed on none.
        other: the row of a node that it should have had.
    """

    batch: PlacementBatch
    leaves: tuple[Leaf, ...]
    index: int
    pod: OpenedPod
    preemptions: tuple[Preemption, ...] = ()
    chosen: OpenedNode | None = None
    other: OpenedNode | None = None


def open_node(state: ClusterState, name: str) -> OpenedNode:
    """The evidence about a node of a state."""
    record = state.nodes[name]
    return OpenedNode(encoded=record.encoded, leaf=record.to_bcs(), opening=state.open(Part.NODES, name))


def open_pod(state: ClusterState, uid: str) -> OpenedPod:
    """The evidence about a pod of a state."""
    record = state.pods[uid]
    return OpenedPod(encoded=record.encoded, leaf=record.to_bcs(), opening=state.open(Part.PODS, uid))


def refute(policy: Policy, evidence: Refutation) -> Finding | None:
    """What the evidence shows to be wrong; None where it shows nothing.

    The signature over the header is checked elsewhere. Rules between pods can't be seen from two rows: see
    docs/proofs.md for how an honest operator answers.

    Raises:
        DecodeError: a row is malformed.
    """
    batch, leaves, index = evidence.batch, evidence.leaves, evidence.index
    plans = evidence.preemptions
    if policy.digest() != batch.policy or not 0 <= index < len(leaves) or len(leaves) + len(plans) != batch.count:
        return None
    if decisions_root(leaves, plans) != batch.decisions:
        return None
    leaf = leaves[index]
    pod = _pod(batch.state_root, evidence.pod, leaf.pod_uid)
    if pod is None:
        return None
    asked = demand(pod)
    chosen = None if evidence.chosen is None else _row(batch.state_root, evidence.chosen)
    other = None if evidence.other is None else _row(batch.state_root, evidence.other)
    if chosen is not None and chosen.node.metadata.name == leaf.node:
        if static_refusal(pod, chosen.node) is not None:
            return Finding(index=index, rule="not-allowed", message=f"{leaf.name} may not go to {leaf.node}")
        if overcommitted(asked, chosen.used, dict(allocatable(chosen.node))):
            return Finding(index=index, rule="overcommitted", message=f"{leaf.node} holds more than it offers")
    if other is None or not _free_of_others(pod) or static_refusal(pod, other.node) is not None:
        return None
    name = other.node.metadata.name
    if not _fits(asked, other):
        return None
    if leaf.node is None:
        if leaf.reasons & _OUT_OF_SIGHT:
            return None
        return Finding(index=index, rule="left-out", message=f"{leaf.name} fits {name}, even after the batch")
    if leaf.node == name or any(later.node == name for later in leaves[index + 1 :]):
        return None
    least = _score_at_least(policy, pod, asked, other)
    if least > leaf.score:
        return Finding(
            index=index, rule="better-node", message=f"{name} scores at least {least}, {leaf.node} {leaf.score}"
        )
    return None


def _pod(state_root: bytes, evidence: OpenedPod, uid: str) -> Pod | None:
    reader = bcs.Reader(evidence.leaf)
    if reader.string() != uid or not opened(state_root, Part.PODS, uid, evidence.leaf, evidence.opening):
        return None
    reader.u64()
    reader.u64()
    if reader.take(merkle.HASH_LENGTH) != merkle.digest(evidence.encoded):
        return None
    return msgspec.json.decode(evidence.encoded, type=Pod)


def _row(state_root: bytes, evidence: OpenedNode) -> _Row | None:
    reader = bcs.Reader(evidence.leaf)
    name = reader.string()
    if not opened(state_root, Part.NODES, name, evidence.leaf, evidence.opening):
        return None
    reader.string()
    reader.u64()
    reader.u64()
    if reader.take(merkle.HASH_LENGTH) != merkle.digest(evidence.encoded):
        return None
    pods, cpu, memory = reader.u32(), reader.u128(), reader.u128()
    used = {PODS: pods}
    for _ in range(reader.uleb128()):
        resource = reader.string()
        used[resource] = reader.u128()
    reader.end()
    return _Row(msgspec.json.decode(evidence.encoded, type=Node), used, cpu, memory)


def _free_of_others(pod: Pod) -> bool:
    """Whether the pod itself asks for nothing that depends on where other pods are."""
    affinity, spec = pod.spec.affinity or Affinity(), pod.spec
    hard = any(c.when_unsatisfiable != "ScheduleAnyway" for c in spec.topology_spread_constraints or ())
    together, apart = affinity.pod_affinity, affinity.pod_anti_affinity
    ports = any(port.host_port or spec.host_network for c in spec.containers for port in c.ports or ())
    return not (hard or ports or claims_of(pod) or (together and together.required) or (apart and apart.required))


def _fits(asked: Demand, row: _Row) -> bool:
    capacity = allocatable(row.node)
    return row.used[PODS] < capacity.get(PODS, 0) and all(
        row.used.get(name, 0) + amount <= capacity.get(name, 0) for name, amount in asked.requests
    )


def _score_at_least(policy: Policy, pod: Pod, asked: Demand, row: _Row) -> int:
    """A bound from below for a node's score that needs nothing but its row: relative scores only where certain."""
    capacity, requests = allocatable(row.node), dict(asked.requests)
    cpu, memory = capacity.get(CPU, 0), capacity.get(MEMORY, 0)
    least = scores.least_allocated(
        row.score_cpu_milli + asked.score_cpu_milli, cpu, row.score_memory_bytes + asked.score_memory_bytes, memory
    )
    used_cpu, used_memory = row.used.get(CPU, 0), row.used.get(MEMORY, 0)
    balanced = scores.balanced_allocation(
        used_cpu + requests.get(CPU, 0), cpu, used_memory + requests.get(MEMORY, 0), memory
    )
    if policy.profile == PROFILE_BALANCE_CHANGE:
        before = scores.balanced_allocation(used_cpu, cpu, used_memory, memory)
        balanced = scores.balance_change(balanced, before, asks=bool(asked.requests))
    unwanted = count_intolerable_preferences(pod.spec.tolerations or (), row.node.spec.taints or ())
    taints = 0 if unwanted else scores.MAX_SCORE
    return (
        policy.weight_least_allocated * least
        + policy.weight_balanced_allocation * balanced
        + policy.weight_taint_toleration * taints
    )
