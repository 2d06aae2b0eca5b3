"""What must be so whatever came before: a root over all that is known, and nobody forgotten once nothing happens."""

import msgspec
from placement_world import World, reference_feasible

from daas.placement.commitment import (
    NODE_BUCKETS,
    OBJECT_BUCKETS,
    POD_BUCKETS,
    TOMBSTONE_BUCKETS,
    BucketTree,
    state_root,
)
from daas.placement.log import PodUpserted
from daas.placement.model import Pod
from daas.placement.objects import leaf_name
from daas.placement.records import PENDING, PodRecord, PodState
from daas.placement.scheduler import Scheduler

#: Entries without a placement after which nothing else is to come, and entries after which that has to be so.
QUIET = 3
ROUNDS = 200
#: Longer than a placement waits for its bind, and than any pod waits for its next try.
LAPSE_MS = 200_000
ROUND_MS = 11_000


def root_from_scratch(scheduler: Scheduler) -> bytes:
    """The state root, of trees that are built anew."""
    state = scheduler._state
    trees = []
    for buckets, leaves in (
        (NODE_BUCKETS, {name: record.to_bcs() for name, record in state.nodes.items()}),
        (POD_BUCKETS, {uid: record.to_bcs() for uid, record in state.pods.items()}),
        (TOMBSTONE_BUCKETS, {uid: state._tombstone(uid) for uid in state.tombstones}),
        (OBJECT_BUCKETS, {leaf_name(key): record.to_bcs() for key, record in state.objects.items()}),
    ):
        tree = BucketTree(buckets)
        tree.update(leaves)
        trees.append(tree.root)
    return state_root(state.counters(), *trees)


def check_columns(scheduler: Scheduler) -> None:
    """The engine's counts of pods beside each other are those of the pods on nodes, where it has heard everything."""
    state, columns, slot_of = scheduler._state, scheduler._engine.columns, scheduler._engine.table.slot_of
    neighbours = state.neighbours
    heard = not neighbours.changes and not neighbours.overflowed and not state.changed_nodes
    if not heard or columns._surroundings_generation != neighbours.surroundings_generation:
        return
    for column in columns._columns.values():
        counts = [0] * len(column.counts)
        for profile in neighbours.candidates(column.group):
            for node, pods in profile.on.items():
                if node in slot_of:
                    counts[slot_of[node]] += pods * column.group.count(profile, columns._namespaces)
        assert column.counts.tolist() == counts, "a column counts other pods than there are"


def check_nothing_lost(world: World) -> None:
    """Lets a copy of a world come to rest, every placement bound, and looks at who still waits.

    Raises:
        AssertionError: it does not come to rest, or a pod waits that the reference has a node for, or for which
            there is a node or a plan once it is asked again.
    """
    still = World(world.genesis)
    still.scheduler = Scheduler.restore(world.genesis, world.scheduler.snapshot())
    still.entries = list(world.entries)
    state = still.scheduler._state
    still.now_ms = state.last_ms
    still.tell(after_ms=LAPSE_MS)
    quiet = 0
    for _ in range(ROUNDS):
        bound = [_bound(record) for record in state.assumed.values()]
        decision = still.tell(*bound, after_ms=ROUND_MS).decision
        placed = decision is not None and any(leaf.node is not None for leaf in decision.leaves)
        quiet = 0 if placed or bound else quiet + 1
        if quiet == QUIET:
            break
    assert quiet == QUIET, "placements go on and on"
    _check_waiting(still)
    _check_asked_again(still)


def _check_asked_again(world: World) -> None:
    """Whoever waits for something to happen has nothing to gain from being decided now.

    Groups are left out: how they are dealt out to nodes depends on the tie-break, so that another try may do.
    """
    state = world.scheduler._state
    asked = [r for r in state.queue.members[PodState.UNSCHEDULABLE].values() if r.plan is None and not r.gang]
    for record in asked:
        state.activate(record)
    decision = world.tell().decision
    uids = {record.uid for record in asked}
    if decision is not None:
        found = {leaf.pod_uid: leaf.node for leaf in decision.leaves if leaf.node is not None}
        found |= {plan.pod_uid: plan.node for plan in decision.preemptions}
        assert not uids & set(found), f"{sorted(uids & set(found))} wait for what is there"


def _bound(record: PodRecord) -> PodUpserted:
    """The pod as it is seen where it was placed."""
    pod = msgspec.json.decode(record.encoded, type=Pod)
    meta = msgspec.structs.replace(pod.metadata, resource_version=str(record.version + 1))
    spec = msgspec.structs.replace(pod.spec, node_name=record.node)
    return PodUpserted(pod=msgspec.structs.replace(pod, metadata=meta, spec=spec))


def _check_waiting(world: World) -> None:
    state = world.scheduler._state
    waiting = [record for record in state.pods.values() if record.state in PENDING]
    assert all(r.state is PodState.UNSCHEDULABLE or r.priority > state.lowest_priority(r.namespace) for r in waiting)
    on: dict[str, list[Pod]] = {}
    for record in state.pods.values():
        if record.node:
            on.setdefault(record.node, []).append(msgspec.json.decode(record.encoded, type=Pod))
    namespaces = {key[2]: r.value.labels or {} for key, r in state.objects.items() if key[0] == "Namespace"}
    nodes = [node.node for node in state.nodes.values()]
    for record in waiting:
        if record.gang or record.claims or record.state is PodState.BACKOFF:
            continue
        pod = msgspec.json.decode(record.encoded, type=Pod)
        feasible = {node.metadata.name for node in reference_feasible(pod, nodes, on, namespaces)}
        assert feasible <= set(state.nominated), f"{record.uid} waits, though {sorted(feasible)} would do"
