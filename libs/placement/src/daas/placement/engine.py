"""Chooses a node for one pod after the other, each seeing where the previous ones went.

Per class of pods, the key of every node is kept and only what changed since the class was last looked at is computed
again: after a placement of the same class, one node. A score depends on other nodes only through the largest taint
count and affinity sum among the feasible nodes; when one of these moves, the class's static scores are made anew.
"""

from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from daas.placement import scores
from daas.placement.columns import Columns
from daas.placement.coupling import FREE, Coupling
from daas.placement.neighbours import Neighbours
from daas.placement.podclass import PodClass
from daas.placement.policy import PROFILE_BALANCE_CHANGE, Policy
from daas.placement.profile import Profile
from daas.placement.reasons import NONE, Reason
from daas.placement.resources import CPU, EPHEMERAL_STORAGE, MEMORY
from daas.placement.selection import AFFINITY, STATIC_REASONS, image_scores, preference, selected, taint_codes
from daas.placement.state import ClusterState
from daas.placement.table import CPU_COLUMN, MEMORY_COLUMN, PODS_COLUMN, Ints, Mask, NodeTable, Slots
from daas.placement.view import UNKNOWN, View

#: Room for the tie-break below the score in a comparison key: 2^20 nodes.
_TIE_BITS = 20
_TIE_MASK = (1 << _TIE_BITS) - 1
#: Up to here, plain integers beat numpy's cost per call.
_FEW = 6
#: Bytes of per-class columns that are kept, and the bytes they take per node.
_CACHE_BYTES = 96 * 1024 * 1024
_BYTES_PER_SLOT = 32
_LOG_LIMIT = 1 << 20

_SHORT = {
    CPU: Reason.INSUFFICIENT_CPU,
    MEMORY: Reason.INSUFFICIENT_MEMORY,
    EPHEMERAL_STORAGE: Reason.INSUFFICIENT_EPHEMERAL_STORAGE,
}


class Wish(NamedTuple):
    """What is asked for one pod: its class, what it is to others, and what that means for it."""

    pod_class: PodClass
    profile: Profile
    coupling: Coupling = FREE


class Engine:
    """The node table with the views of the classes that were decided lately."""

    def __init__(self, policy: Policy, neighbours: Neighbours) -> None:
        self.table = NodeTable()
        self.columns = Columns(self.table, neighbours)
        self._policy = policy
        self._balance_change = policy.profile == PROFILE_BALANCE_CHANGE
        self._views: OrderedDict[tuple[bytes, bytes], View] = OrderedDict()
        self._batch = 0
        self._ties: Ints = np.zeros(0, np.int64)

    def sync(self, state: ClusterState) -> None:
        """Reads what changed in the state since the last time."""
        table = self.table
        table.trim_logs(_LOG_LIMIT)
        self.columns.trim(_LOG_LIMIT)
        table.sync(state.nodes, state.changed_nodes, state.changed_usage)
        state.changed_nodes, state.changed_usage = {}, {}
        moved = []
        for slot in table.moved:
            pods = state.pods_on.get(table.names[slot] or "", {}).values()
            moved.append((slot, [pod.profile for pod in pods if pod.profile is not None]))
        self.columns.sync(state.neighbours.surroundings(state.objects).namespaces, moved)

    def begin(self, seed: int) -> None:
        """Starts a batch: `seed` says where the rotation of names begins that breaks ties."""
        table = self.table
        self._batch += 1
        count = max(table.count, 1)
        self._ties = _TIE_MASK - (table.ranks - seed % count) % count

    def choose(self, wish: Wish) -> tuple[str, int] | None:
        """The best node for a pod and its score; None where no node will do. Counts the pod there."""
        view = self._view(wish)
        if not self.table.count:
            return None
        key = self._keys(view)
        slot = int(key.argmax())
        best = key.item(slot)
        if best < 0:
            return None
        demand = wish.pod_class.demand
        self.table.take(slot, view.rows, demand.score_cpu_milli, demand.score_memory_bytes)
        self.columns.count(wish.profile, slot, 1)
        name = self.table.names[slot]
        assert name is not None
        return name, best >> _TIE_BITS

    def any_feasible(self, wish: Wish) -> bool:
        """Whether some node would do now."""
        return bool(self._feasible(self._view(wish)).any())

    def explain(self, wish: Wish) -> Reason:
        """Why nodes refuse this class: for each, its first failing filter, or all the room it lacks."""
        view = self._view(wish)
        if not self.table.count:
            return Reason.NO_NODES
        stamp = (view.dynamic_at, self.columns.counted)
        if view.explained[0] == stamp:
            return view.explained[1]
        found = NONE
        for reason in self._refusals(view):
            found |= reason
        view.explained = (stamp, found)
        return found

    def refusals(self, wish: Wish) -> dict[Reason, int]:
        """How many nodes each filter refuses; a node that lacks several things counts for each."""
        return self._refusals(self._view(wish))

    def weigh(self, wish: Wish) -> dict[str, dict[str, int]]:
        """Weighted scores of each feasible node by score name: what the choice is made of, for people and tests."""
        view, table, policy = self._view(wish), self.table, self._policy
        mask = self._feasible(view)
        if not mask.any():
            return {}
        late = self._late_scores(view, mask)
        result = {}
        for name, slot in sorted(table.slot_of.items()):
            if mask[slot]:
                least, balanced = self._resource_scores(view, slot)
                result[name] = {
                    "least_allocated": policy.weight_least_allocated * least,
                    "balanced_allocation": policy.weight_balanced_allocation * balanced,
                    "image_locality": 0 if view.images is None else view.images.item(slot),
                    **{part: int(values[slot]) for part, values in late.items()},
                }
        return result

    # --- what a choice is made of

    def _feasible(self, view: View) -> Mask:
        return view.feasible & view.spread_mask() if view.hard else view.feasible

    def _keys(self, view: View) -> Ints:
        """The comparison key of every slot, -1 where the pod may not go."""
        if not view.hard and not view.scored_late:
            return view.key
        mask = self._feasible(view)
        if not view.scored_late:
            return np.where(mask, view.key, -1)
        if not mask.any():
            return np.full(len(mask), -1, np.int64)
        total = view.dynamic.astype(np.int64)
        for part in self._late_scores(view, mask).values():
            total += part
        total <<= _TIE_BITS
        total += self._ties
        total[~mask] = -1
        return total

    def _late_scores(self, view: View, mask: Mask) -> dict[str, Ints]:
        """Weighted scores that depend on which nodes are feasible, right where `mask` holds."""
        policy = self._policy
        zero: Ints = np.zeros(len(mask), np.int64)
        taints, affinity, likes, spread = view.taints, view.affinity, zero, zero
        most_taints = int(taints[mask].max())
        most_affinity = int(affinity[mask].max())
        if view.liked:
            raw = view.preferences()
            inside = raw[mask]
            likes = policy.weight_inter_pod_affinity * scores.stretched(raw, int(inside.min()), int(inside.max()))
        if view.soft:
            assert view.spread_key is not None, "soft rules say which nodes take part"
            counted = mask & view.spread_key if view.coupling.everywhere else mask
            if counted.any():
                raw = view.crowding(counted)
                inside = raw[counted]
                spread = policy.weight_topology_spread * scores.evened(raw, int(inside.min()), int(inside.max()))
                spread[~counted] = 0
        return {
            "taint_toleration": policy.weight_taint_toleration
            * scores.normalized_of(taints.astype(np.int64), most_taints, reverse=True),
            "node_affinity": policy.weight_node_affinity
            * scores.normalized_of(affinity.astype(np.int64), most_affinity, reverse=False),
            "inter_pod_affinity": likes,
            "topology_spread": spread,
        }

    def _refusals(self, view: View) -> dict[Reason, int]:
        table = self.table
        found: dict[Reason, int] = {}

        def count(reason: Reason, nodes: Mask) -> Mask:
            """Notes how many nodes are out, and says which are still in."""
            number = int(np.count_nonzero(nodes))
            if number:
                found[reason] = found.get(reason, 0) + number
            return ~nodes

        for index in range(1, len(STATIC_REASONS)):
            count(STATIC_REASONS[index], table.valid & (view.refusal == index))
        nodes = table.valid & (view.refusal == 0)
        coupling = view.coupling
        for forbid, domains in zip(coupling.forbids, view.forbidden, strict=True):
            if forbid.topology_key is None:
                nodes &= count(forbid.reason, nodes & (domains.totals[domains.ids] > 0))
        fitting = nodes.copy()
        fitting &= count(Reason.TOO_MANY_PODS, nodes & (table.free[PODS_COLUMN] < 1))
        for name, amount in view.pod_class.demand.requests:
            row = table.columns.get(name)
            short = nodes if row is None else nodes & (table.free[row] < amount)
            fitting &= count(_SHORT.get(name, Reason.INSUFFICIENT_EXTENDED_RESOURCE), short)
        nodes = fitting
        if view.hard:
            nodes &= count(Reason.TOPOLOGY_SPREAD_MISMATCH, nodes & ~view.spread_mask())
        if view.unmet is not None:
            nodes &= count(Reason.POD_AFFINITY_MISMATCH, nodes & view.unmet)
        for reason in (Reason.POD_ANTI_AFFINITY_MISMATCH, Reason.EXISTING_ANTI_AFFINITY):
            out = np.zeros(table.slots, np.bool_)
            for forbid, domains in zip(coupling.forbids, view.forbidden, strict=True):
                if forbid.reason is reason:
                    out |= domains.totals[domains.ids] > 0
            nodes &= count(reason, nodes & out)
        return found

    # --- views

    def _view(self, wish: Wish) -> View:
        """The class's view, up to date."""
        table = self.table
        at = (wish.pod_class.key, wish.coupling.key)
        view = self._views.get(at)
        generation = (table.generation, self.columns.generation)
        if view is None or view.generation != generation:
            view = self._views[at] = View(wish.pod_class, wish.coupling, table, self.columns, generation)
            limit = max(16, _CACHE_BYTES // (_BYTES_PER_SLOT * table.slots))
            while len(self._views) > limit:
                self._views.popitem(last=False)
        self._views.move_to_end(at)
        flipped = self._refresh_static(view)
        extra = view.couple(table, self.columns) if wish.coupling is not FREE else _NOTHING
        if extra is None:
            view.dynamic_at = -1
            extra = _NOTHING
        flipped |= self._refresh_dynamic(view, extra)
        if view.largest == UNKNOWN or (flipped and view.uneven):
            self._renormalize(view)
        if view.batch != self._batch:
            self._rekey(view, None)
            view.batch = self._batch
        return view

    def _refresh_static(self, view: View) -> bool:
        """Filters and raw scores that depend on what a node is."""
        table = self.table
        end = table.static_at
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
        view.refusal[slots] = refusal
        view.taints[slots] = counts[sets]
        view.affinity[slots] = preference(table, pod_class, slots)
        view.uneven = bool(view.taints.any() or view.affinity.any())
        view.largest = UNKNOWN
        before, images = view.images, self._policy.weight_image_locality * image_scores(table, pod_class)
        view.images = images if images.any() else None
        if everything or before is not None or view.images is not None:
            view.dynamic_at = -1
        return True

    def _refresh_dynamic(self, view: View, extra: Slots | list[int]) -> bool:
        """Room and resource scores of the nodes whose use changed; says whether a node became feasible or ceased to."""
        log = self.table.dynamic_log
        start, end = view.dynamic_at, len(log)
        many = end - start + len(extra)
        if start >= 0 and not many:
            return False
        view.dynamic_at = end
        if start < 0 or many > self.table.slots // 2:
            self._refresh_many(view, None)
        elif many <= _FEW:
            flipped = False
            for slot in {*log[start:], *map(int, extra)}:
                flipped |= self._refresh_one(view, slot)
            return flipped
        else:
            self._refresh_many(view, np.concatenate((np.array(log[start:], np.intp), np.array(extra, np.intp))))
        return True

    def _refresh_many(self, view: View, slots: Slots | None) -> None:
        table, demand = self.table, view.pod_class.demand
        at: Slots | slice = slice(None) if slots is None else slots
        free = table.free
        feasible = table.valid[at] & (view.refusal[at] == 0) & (free[PODS_COLUMN, at] >= 1)
        if view.missing:
            feasible[:] = False
        if view.barred is not None:
            feasible &= view.barred[at] == 0
        for row, amount in view.rows:
            feasible &= free[row, at] >= amount
        view.feasible[at] = feasible
        capacity = (table.capacity[CPU_COLUMN, at], table.capacity[MEMORY_COLUMN, at])
        dynamic = self._policy.weight_least_allocated * scores.least_allocated_of(
            table.score_cpu[at] + demand.score_cpu_milli,
            capacity[0],
            table.score_memory[at] + demand.score_memory_bytes,
            capacity[1],
        )
        cpu, memory = self._requested(view)
        used = capacity[0] - free[CPU_COLUMN, at], capacity[1] - free[MEMORY_COLUMN, at]
        balanced = scores.balanced_allocation_of(used[0] + cpu, capacity[0], used[1] + memory, capacity[1])
        if self._balance_change:
            before = scores.balanced_allocation_of(used[0], capacity[0], used[1], capacity[1])
            balanced = scores.balance_change_of(balanced, before, asks=bool(view.rows))
        dynamic += self._policy.weight_balanced_allocation * balanced
        if view.images is not None:
            dynamic += view.images[at]
        view.dynamic[at] = dynamic
        self._rekey(view, slots)

    def _requested(self, view: View) -> tuple[int, int]:
        rows = dict(view.rows)
        return rows.get(CPU_COLUMN, 0), rows.get(MEMORY_COLUMN, 0)

    def _resource_scores(self, view: View, slot: int) -> tuple[int, int]:
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
        used_cpu = cpu_capacity - table.free.item(CPU_COLUMN, slot)
        used_memory = memory_capacity - table.free.item(MEMORY_COLUMN, slot)
        balanced = scores.balanced_allocation(used_cpu + cpu, cpu_capacity, used_memory + memory, memory_capacity)
        if self._balance_change:
            before = scores.balanced_allocation(used_cpu, cpu_capacity, used_memory, memory_capacity)
            balanced = scores.balance_change(balanced, before, asks=bool(view.rows))
        return least, balanced

    def _refresh_one(self, view: View, slot: int) -> bool:
        """`_refresh_many` of one node."""
        free = self.table.free
        feasible = (
            not view.missing
            and self.table.valid.item(slot)
            and view.refusal.item(slot) == 0
            and free.item(PODS_COLUMN, slot) >= 1
            and all(free.item(row, slot) >= amount for row, amount in view.rows)
            and (view.barred is None or view.barred.item(slot) == 0)
        )
        flipped = feasible != view.feasible.item(slot)
        if flipped:
            view.feasible[slot] = feasible
        least, balanced = self._resource_scores(view, slot)
        dynamic = self._policy.weight_least_allocated * least + self._policy.weight_balanced_allocation * balanced
        if view.images is not None:
            dynamic += view.images.item(slot)
        view.dynamic[slot] = dynamic
        view.key[slot] = ((dynamic + view.static.item(slot)) << _TIE_BITS) + self._ties.item(slot) if feasible else -1
        return flipped

    def _renormalize(self, view: View) -> None:
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

    def _rekey(self, view: View, slots: Slots | None) -> None:
        at: Slots | slice = slice(None) if slots is None else slots
        total = (view.dynamic[at] + view.static[at]).astype(np.int64)
        total <<= _TIE_BITS
        total += self._ties[at]
        total[~view.feasible[at]] = -1
        view.key[at] = total


_NOTHING: list[int] = []
