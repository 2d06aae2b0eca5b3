"""What the log has told so far, and the state root over it: only what changed is hashed again.

Who changes a record notes it in `dirty_nodes` or `dirty_pods`; what follows from a change is the subclass's to know.
"""

from collections import Counter

from daas.common import bcs, merkle
from daas.placement.claims import STORAGE_KINDS, SURROUNDING_KINDS, Claims
from daas.placement.commitment import (
    NODE_BUCKETS,
    OBJECT_BUCKETS,
    POD_BUCKETS,
    TOMBSTONE_BUCKETS,
    BucketTree,
    Opening,
    Part,
    state_root,
)
from daas.placement.neighbours import Neighbours
from daas.placement.objects import MIST_PER_SUI, STAKE, ObjectKey, ObjectRecord, leaf_name
from daas.placement.records import NodeRecord, PodRecord
from daas.placement.storage import PodDisruptionBudget

#: Deleted uids remembered against late upserts: eight full entries of deletions.
TOMBSTONES = 4096


class Known:
    """Nodes by name, pods by uid, other objects, deleted uids and counters, with their commitment.

    Attributes:
        last_ms: timestamp of the last readable entry.
        pods_on: node name to the pods on it, by uid.
        objects: what is neither node nor pod.
        claims: claims and volumes, and who uses them.
        neighbours: who is beside whom, as far as choices depend on it.
        capacity: resource to amount over all nodes.
        epoch: number of the last resync that was started; resync_id: its id while it runs, else "".
        tickets: places in the queue given so far.
        helped: whether something happened since the last look that can make an unschedulable pod fit.
        changed_nodes, changed_usage: names the engine has to look at again: all of the node, or only what is taken.
        dirty_nodes, dirty_pods: names and uids whose leaves have to be hashed again.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, NodeRecord] = {}
        self.pods: dict[str, PodRecord] = {}
        self.pods_on: dict[str, dict[str, PodRecord]] = {}
        self.objects: dict[ObjectKey, ObjectRecord] = {}
        self.claims = Claims(self.objects)
        self.neighbours = Neighbours()
        self.tombstones: dict[str, int] = {}
        self.tombstone_ring: list[str] = []
        self.tombstone_next = 0
        self.resource_names: dict[str, int] = {}
        self.capacity: dict[str, int] = {}
        self.last_ms = 0
        self.epoch = 0
        self.resync_id = ""
        self.tickets = 0
        self.helped = False
        self._stakes: dict[str, int] | None = None
        self._budgets: dict[str, tuple[PodDisruptionBudget, ...]] | None = None
        self.changed_nodes: dict[str, None] = {}
        self.changed_usage: dict[str, None] = {}
        self.dirty_nodes: dict[str, None] = {}
        self.dirty_pods: dict[str, None] = {}
        self._dirty_tombstones: dict[str, None] = {}
        self._dirty_objects: dict[ObjectKey, None] = {}
        self._trees = tuple(
            BucketTree(buckets, remember=buckets == NODE_BUCKETS)
            for buckets in (NODE_BUCKETS, POD_BUCKETS, TOMBSTONE_BUCKETS, OBJECT_BUCKETS)
        )

    # --- nodes

    def put_node(self, record: NodeRecord) -> None:
        """Adds a node or replaces the one of its name; what is taken is counted from the pods on it."""
        before = self.nodes.get(record.name)
        if before is not None:
            self._count_resources(before, -1)
        self._count_resources(record, 1)
        record.epoch = self.epoch
        for pod in self.pods_on.get(record.name, {}).values():
            record.take(pod.demand)
        self.nodes[record.name] = record
        self.dirty_nodes[record.name] = None
        if before is None or before.digest != record.digest:
            self.changed_nodes[record.name] = None
            self.helped = True

    def touch_node(self, record: NodeRecord, version: int) -> None:
        """Notes that a node was seen, unchanged but for its version."""
        if record.epoch != self.epoch or record.version != version:
            record.epoch = self.epoch
            record.version = version
            self.dirty_nodes[record.name] = None

    def remove_node(self, record: NodeRecord) -> None:
        """Forgets a node. The pods on it stay: they are gone when the log says so."""
        del self.nodes[record.name]
        self._count_resources(record, -1)
        self.dirty_nodes[record.name] = None
        self.changed_nodes[record.name] = None
        # it may have been the emptiest domain, or have carried the pod that others keep away from
        self.helped = True

    def _count_resources(self, record: NodeRecord, step: int) -> None:
        for resource, amount in record.capacity.items():
            count = self.resource_names.get(resource, 0) + step
            if count:
                self.resource_names[resource] = count
                self.capacity[resource] = self.capacity.get(resource, 0) + step * amount
            else:
                del self.resource_names[resource], self.capacity[resource]

    # --- objects

    def put_object(self, record: ObjectRecord) -> None:
        """Adds or replaces an object."""
        before = self.objects.get(record.key)
        self.objects[record.key] = record
        self._dirty_objects[record.key] = None
        if before is None or before.digest != record.digest:
            self._object_changed(record.key[0], before, record)

    def remove_object(self, key: ObjectKey) -> None:
        """Forgets an object, if it is known."""
        before = self.objects.pop(key, None)
        if before is not None:
            self._dirty_objects[key] = None
            self._object_changed(key[0], before, None)

    def _object_changed(self, kind: str, before: ObjectRecord | None, after: ObjectRecord | None) -> None:
        if kind in STORAGE_KINDS:
            self.claims.put(before, after)
        elif kind in SURROUNDING_KINDS:
            self.neighbours.forget_surroundings()
        elif kind in {"Tenant", STAKE}:
            self._stakes = None
        elif kind == "PodDisruptionBudget":
            self._budgets = None
        self.helped = True

    def stakes(self) -> dict[str, int]:
        """Namespace to stake, of the tenants that have one."""
        if self._stakes is None:
            tenants = {key[2]: r.value for key, r in sorted(self.objects.items()) if key[0] == "Tenant"}
            spread = Counter(tenant.account for tenant in tenants.values())
            self._stakes = {
                namespace: self._bonded(tenant.account) // spread[tenant.account] if tenant.account else tenant.stake
                for namespace, tenant in tenants.items()
            }
        return self._stakes

    def _bonded(self, account: str) -> int:
        """What an account has bonded, in whole SUI."""
        record = self.objects.get((STAKE, "", account))
        return record.value.bonded_mist // MIST_PER_SUI if record is not None else 0

    def budgets(self) -> dict[str, tuple[PodDisruptionBudget, ...]]:
        """Namespace to its disruption budgets, by name."""
        if self._budgets is None:
            self._budgets = {}
            for key in sorted(key for key in self.objects if key[0] == "PodDisruptionBudget"):
                self._budgets[key[1]] = (*self._budgets.get(key[1], ()), self.objects[key].value.budget)
        return self._budgets

    # --- deletions

    def bury(self, uid: str) -> None:
        """Remembers that a uid is gone for good; the oldest memory makes room."""
        if uid in self.tombstones:
            return
        if len(self.tombstone_ring) < TOMBSTONES:
            self.tombstone_ring.append(uid)
        else:
            forgotten = self.tombstone_ring[self.tombstone_next]
            del self.tombstones[forgotten]
            self._dirty_tombstones[forgotten] = None
            self.tombstone_ring[self.tombstone_next] = uid
        self.tombstones[uid] = self.tombstone_next
        self._dirty_tombstones[uid] = None
        self.tombstone_next = (self.tombstone_next + 1) % TOMBSTONES

    # --- commitment

    def root(self) -> bytes:
        """The state root: 32 bytes over everything that the next decision depends on."""
        nodes, pods, tombstones, objects = self._trees
        if self.dirty_nodes:
            nodes.update({n: self.nodes[n].to_bcs() if n in self.nodes else None for n in self.dirty_nodes})
            self.dirty_nodes = {}
        if self.dirty_pods:
            pods.update({u: self.pods[u].to_bcs() if u in self.pods else None for u in self.dirty_pods})
            self.dirty_pods = {}
        if self._dirty_tombstones:
            tombstones.update({u: self._tombstone(u) if u in self.tombstones else None for u in self._dirty_tombstones})
            self._dirty_tombstones = {}
        if self._dirty_objects:
            known = self.objects
            objects.update({leaf_name(k): known[k].to_bcs() if k in known else None for k in self._dirty_objects})
            self._dirty_objects = {}
        return state_root(self.counters(), nodes.root, pods.root, tombstones.root, objects.root)

    def open(self, part: Part, name: str) -> Opening:
        """The way from a record to the state root.

        Raises:
            KeyError: there is no such record.
        """
        self.root()
        bucket, position, path = self._trees[part - 1].open(name)
        roots = (self.counters(), *(tree.root for tree in self._trees))
        return Opening(bucket=bucket, position=position, path=path, parts=merkle.proof(roots, part))

    def _tombstone(self, uid: str) -> bytes:
        return bcs.string(uid) + bcs.u32(self.tombstones[uid])

    def counters(self) -> bytes:
        """The leaf of what is neither node nor pod nor tombstone."""
        return b"".join(
            (
                bcs.u64(self.last_ms),
                bcs.u64(self.epoch),
                bcs.string(self.resync_id),
                bcs.u64(self.tickets),
                bcs.u32(self.tombstone_next),
                bcs.boolean(self.helped),
            )
        )
