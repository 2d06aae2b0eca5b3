"""Chooses a node for one pod after the other, each seeing where the previous ones went.

Per class of pods, the score of every node is kept and only what changed since the class was last looked at is computed
again: after a placement of the same class, one node. A score depends on other nodes only through the largest taint
count and affinity sum among the feasible nodes; when one of these moves, the class's static scores are made anew.
"""

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from daas.placement import scores
from daas.placement.podclass import PodClass
from daas.placement.policy import Policy
from daas.placement.reasons import NONE, Reason
from daas.placement.resources import CPU, EPHEMERAL_STORAGE, MEMORY
from daas.placement.selection import (
    AFFINITY,
    REPELLED,
    STATIC_REASONS,
    preference,
    repelled,
    selected,
    taint_codes,
)
from daas.placement.table import CPU_COLUMN, MEMORY_COLUMN, PODS_COLUMN, Ints, Mask, NodeTable, Slots

#: Room for the tie-break below the score in a comparison key: 2^20 nodes.
_TIE_BITS = 20
_TIE_MASK = (1 << _TIE_BITS) - 1
#: Up to here, plain integers beat numpy's cost per call.
_FEW = 6
#: Bytes of per-class columns that are kept, and the bytes they take per node.
_CACHE_BYTES = 64 * 1024 * 1024
_BYTES_PER_SLOT = 24
_LOG_LIMIT = 1 << 20
#: Largest raw scores before they were ever looked for.
_UNKNOWN = (-1, -1)

_SHORT = {
    CPU: Reason.INSUFFICIENT_CPU,
    MEMORY: Reason.INSUFFICIENT_MEMORY,
    EPHEMERAL_STORAGE: Reason.INSUFFICIENT_EPHEMERAL_STORAGE,
}


class _View:
    """What is kept of one class over all slots.

    Attributes:
        rows: (row, amount) of each requested resource; missing: whether no node has ever offered one of them.
        refusal: index into STATIC_REASONS; taints, affinity: raw scores.
        feasible, dynamic, static, key: per slot; a key is (score << 20 | tie) and -1 where the node is out.
        largest: of taints and affinity among the feasible nodes, as `static` was made with.
    """

    __slots__ = (
        "affinity",
        "batch",
        "dynamic",
        "dynamic_at",
        "explained",
        "feasible",
        "generation",
        "key",
        "largest",
        "missing",
        "pod_class",
        "refusal",
        "rows",
        "static",
        "static_at",
        "taints",
        "uneven",
    )

    def __init__(self, pod_class: PodClass, table: NodeTable) -> None:
        slots = table.slots
        self.pod_class = pod_class
        self.generation = table.generation
        requests = pod_class.demand.requests
        self.rows = tuple((table.columns[name], amount) for name, amount in requests if name in table.columns)
        self.missing = len(self.rows) < len(requests)
        self.refusal: npt.NDArray[np.uint8] = np.zeros(slots, np.uint8)
        self.taints: npt.NDArray[np.int16] = np.zeros(slots, np.int16)
        self.affinity: npt.NDArray[np.int32] = np.zeros(slots, np.int32)
        self.feasible: Mask = np.zeros(slots, np.bool_)
        self.dynamic: npt.NDArray[np.int32] = np.zeros(slots, np.int32)
        self.static: npt.NDArray[np.int32] = np.zeros(slots, np.int32)
        self.key: Ints = np.full(slots, -1, np.int64)
        self.largest = _UNKNOWN
        self.uneven = True
        self.static_at = self.dynamic_at = -1
        self.batch = -1
        self.explained = (-1, NONE)


class Engine:
    """The node table with the views of the classes that were decided lately."""

    def __init__(self, policy: Policy) -> None:
        self.table = NodeTable()
        self._policy = policy
        self._views: OrderedDict[bytes, _View] = OrderedDict()
        self._batch = 0
        self._ties: Ints = np.zeros(0, np.int64)

    def begin(self, seed: int) -> None:
        """Starts a batch: `seed` says where the rotation of names begins that breaks ties."""
        table = self.table
        table.trim_logs(_LOG_LIMIT)
        self._batch += 1
        count = max(table.count, 1)
        self._ties = _TIE_MASK - (table.ranks - seed % count) % count

    def choose(self, pod_class: PodClass) -> tuple[str, int] | None:
        """The best node for a pod of this class and its score; None where no node will do. Counts the pod there."""
        view = self._view(pod_class)
        if not self.table.count:
            return None
        slot = int(view.key.argmax())
        key = view.key.item(slot)
        if key < 0:
            return None
        demand = pod_class.demand
        self.table.take(slot, view.rows, demand.score_cpu_milli, demand.score_memory_bytes)
        name = self.table.names[slot]
        assert name is not None
        return name, key >> _TIE_BITS

    def any_feasible(self, pod_class: PodClass) -> bool:
        """Whether some node would do now."""
        return bool(self._view(pod_class).feasible.any())

    def explain(self, pod_class: PodClass) -> Reason:
        """Why nodes refuse this class: for each, its first failing filter, or all the room it lacks."""
        view, table = self._view(pod_class), self.table
        if not table.count:
            return Reason.NO_NODES
        if view.explained[0] == view.dynamic_at:
            return view.explained[1]
        found = NONE
        for index in np.unique(view.refusal[table.valid]):
            found |= STATIC_REASONS[index]
        open_nodes = table.valid & (view.refusal == 0)
        if (open_nodes & (table.free[PODS_COLUMN] < 1)).any():
            found |= Reason.TOO_MANY_PODS
        for name, amount in pod_class.demand.requests:
            row = table.columns.get(name)
            short = open_nodes if row is None else open_nodes & (table.free[row] < amount)
            if short.any():
                found |= _SHORT.get(name, Reason.INSUFFICIENT_EXTENDED_RESOURCE)
        view.explained = (view.dynamic_at, found)
        return found

    def weigh(self, pod_class: PodClass) -> dict[str, dict[str, int]]:
        """Weighted scores of each feasible node by score name: what the choice is made of, for people and tests."""
        view, table, policy = self._view(pod_class), self.table, self._policy
        result = {}
        for name, slot in sorted(table.slot_of.items()):
            if view.feasible[slot]:
                least, balanced = self._resource_scores(view, slot)
                taint_max, affinity_max = view.largest
                result[name] = {
                    "least_allocated": policy.weight_least_allocated * least,
                    "balanced_allocation": policy.weight_balanced_allocation * balanced,
                    "taint_toleration": policy.weight_taint_toleration
                    * scores.normalized(view.taints.item(slot), taint_max, reverse=True),
                    "node_affinity": policy.weight_node_affinity
                    * scores.normalized(view.affinity.item(slot), affinity_max, reverse=False),
                }
        return result

    # --- views

    def _view(self, pod_class: PodClass) -> _View:
        """The class's view, up to date."""
        table = self.table
        view = self._views.get(pod_class.key)
        if view is None or view.generation != table.generation:
            view = self._views[pod_class.key] = _View(pod_class, table)
        self._views.move_to_end(pod_class.key)
        limit = max(16, _CACHE_BYTES // (_BYTES_PER_SLOT * table.slots))
        while len(self._views) > limit:
            self._views.popitem(last=False)
        flipped = self._refresh_static(view) | self._refresh_dynamic(view)
        if view.largest == _UNKNOWN or (flipped and view.uneven):
            self._renormalize(view)
        if view.batch != self._batch:
            self._rekey(view, None)
            view.batch = self._batch
        return view

    def _refresh_static(self, view: _View) -> bool:
        """Filters and raw scores that depend on what a node is."""
        table = self.table
        end = len(table.static_log)
        if view.static_at == end:
            return False
        everything = view.static_at < 0 or end - view.static_at > table.slots // 4
        slots = np.arange(table.slots) if everything else np.array(table.static_log[view.static_at :], np.intp)
        view.static_at = end
        pod_class = view.pod_class
        codes, counts = taint_codes(table, pod_class)
        sets = table.taint_set[slots]
        refusal = codes[sets]
        refusal[(refusal == 0) & ~selected(table, pod_class, slots)] = AFFINITY
        refusal[(refusal == 0) & repelled(table, pod_class, slots)] = REPELLED
        view.refusal[slots] = refusal
        view.taints[slots] = counts[sets]
        view.affinity[slots] = preference(table, pod_class, slots)
        view.uneven = bool(view.taints.any() or view.affinity.any())
        view.largest = _UNKNOWN
        view.dynamic_at = -1 if everything else view.dynamic_at
        return True

    def _refresh_dynamic(self, view: _View) -> bool:
        """Room and resource scores of the nodes whose use changed; says whether a node became feasible or ceased to."""
        log = self.table.dynamic_log
        start, end = view.dynamic_at, len(log)
        if start == end:
            return False
        view.dynamic_at = end
        if start >= 0 and end - start <= _FEW:
            flipped = False
            for slot in log[start:]:
                flipped |= self._refresh_one(view, slot)
            return flipped
        if start < 0 or end - start > self.table.slots // 2:
            self._refresh_many(view, None)
        else:
            self._refresh_many(view, np.array(log[start:], np.intp))
        return True

    def _refresh_many(self, view: _View, slots: Slots | None) -> None:
        table, demand = self.table, view.pod_class.demand
        at: Slots | slice = slice(None) if slots is None else slots
        feasible = table.valid[at] & (view.refusal[at] == 0) & (table.free[PODS_COLUMN, at] >= 1)
        if view.missing:
            feasible[:] = False
        for row, amount in view.rows:
            feasible &= table.free[row, at] >= amount
        view.feasible[at] = feasible
        capacity = (table.capacity[CPU_COLUMN, at], table.capacity[MEMORY_COLUMN, at])
        dynamic = self._policy.weight_least_allocated * scores.least_allocated_of(
            table.score_cpu[at] + demand.score_cpu_milli,
            capacity[0],
            table.score_memory[at] + demand.score_memory_bytes,
            capacity[1],
        )
        cpu, memory = self._requested(view)
        dynamic += self._policy.weight_balanced_allocation * scores.balanced_allocation_of(
            capacity[0] - table.free[CPU_COLUMN, at] + cpu,
            capacity[0],
            capacity[1] - table.free[MEMORY_COLUMN, at] + memory,
            capacity[1],
        )
        view.dynamic[at] = dynamic
        self._rekey(view, slots)

    def _requested(self, view: _View) -> tuple[int, int]:
        rows = dict(view.rows)
        return rows.get(CPU_COLUMN, 0), rows.get(MEMORY_COLUMN, 0)

    def _resource_scores(self, view: _View, slot: int) -> tuple[int, int]:
        """(least allocated, balanced allocation) of one node, unweighted."""
        table, demand = self.table, view.pod_class.demand
        cpu_capacity, memory_capacity = table.capacity.item(CPU_COLUMN, slot), table.capacity.item(MEMORY_COLUMN, slot)
        least = scores.least_allocated(
            table.score_cpu.item(slot) + demand.score_cpu_milli,
            cpu_capacity,
            table.score_memory.item(slot) + demand.score_memory_bytes,
            memory_capacity,
        )
        cpu, memory = self._requested(view)
        balanced = scores.balanced_allocation(
            cpu_capacity - table.free.item(CPU_COLUMN, slot) + cpu,
            cpu_capacity,
            memory_capacity - table.free.item(MEMORY_COLUMN, slot) + memory,
            memory_capacity,
        )
        return least, balanced

    def _refresh_one(self, view: _View, slot: int) -> bool:
        """`_refresh_many` of one node."""
        free = self.table.free
        feasible = (
            not view.missing
            and self.table.valid.item(slot)
            and view.refusal.item(slot) == 0
            and free.item(PODS_COLUMN, slot) >= 1
            and all(free.item(row, slot) >= amount for row, amount in view.rows)
        )
        flipped = feasible != view.feasible.item(slot)
        if flipped:
            view.feasible[slot] = feasible
        least, balanced = self._resource_scores(view, slot)
        dynamic = self._policy.weight_least_allocated * least + self._policy.weight_balanced_allocation * balanced
        view.dynamic[slot] = dynamic
        view.key[slot] = ((dynamic + view.static.item(slot)) << _TIE_BITS) + self._ties.item(slot) if feasible else -1
        return flipped

    def _renormalize(self, view: _View) -> None:
        """Taint and affinity scores, which are relative to the largest among the feasible nodes."""
        largest = (
            int(view.taints.max(where=view.feasible, initial=0)),
            int(view.affinity.max(where=view.feasible, initial=0)),
        )
        if largest != view.largest:
            view.largest = largest
            policy = self._policy
            taints = scores.normalized_of(view.taints.astype(np.int64), largest[0], reverse=True)
            affinity = scores.normalized_of(view.affinity.astype(np.int64), largest[1], reverse=False)
            static = policy.weight_taint_toleration * taints + policy.weight_node_affinity * affinity
            view.static = static.astype(np.int32)
            self._rekey(view, None)

    def _rekey(self, view: _View, slots: Slots | None) -> None:
        at: Slots | slice = slice(None) if slots is None else slots
        total = (view.dynamic[at] + view.static[at]).astype(np.int64)
        total <<= _TIE_BITS
        total += self._ties[at]
        total[~view.feasible[at]] = -1
        view.key[at] = total
