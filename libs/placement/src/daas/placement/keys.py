"""Comparison keys of nodes for a class of pods: room, labels and tie-break in one number, made again where they change.

Everything stands twice: over many slots in numpy, and for one slot in plain integers, which is faster up to a handful.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from daas.placement import scores
from daas.placement.podclass import PodClass
from daas.placement.policy import PROFILE_BALANCE_CHANGE, Policy
from daas.placement.scores_of_one import FRACTION, MAX_SCORE
from daas.placement.selection import AFFINITY, image_scores, preference, selected, taint_codes
from daas.placement.table import CAPACITY, LEFT, PODS_LEFT, USED, Ints, NodeTable, Slots
from daas.placement.view import UNKNOWN, View

#: Room for the tie-break below the score in a comparison key: 2^20 nodes.
TIE_BITS = 20
_TIE_MASK = (1 << TIE_BITS) - 1
#: The key of a node that is out: negative however often the rotation moves it.
OUT = -(1 << 62)
#: Up to here, plain integers beat numpy's cost per call.
_FEW = 6


class Keys:
    """Brings the keys of views up to date with the table."""

    def __init__(self, policy: Policy, table: NodeTable) -> None:
        self._policy = policy
        self._table = table
        self._least_weight = policy.weight_least_allocated
        self._balanced_weight = policy.weight_balanced_allocation
        self._balance_change = policy.profile == PROFILE_BALANCE_CHANGE
        self._batch = 0
        self._round = self._start = 0
        self._count = 1
        self._ranks: Ints = np.zeros(0, np.int64)
        self._shifts: dict[int, Ints] = {}
        self.ties: Ints = np.zeros(0, np.int64)

    def begin(self, seed: int) -> None:
        """Starts a batch: `seed` says where the rotation of names begins that breaks ties."""
        self._batch += 1
        count, ranks = max(self._table.count, 1), self._table.ranks
        if ranks is not self._ranks:
            self._ranks, self._round = ranks, self._round + 1
        self._start, self._count = seed % count, count
        self._shifts = {}
        self.ties = _TIE_MASK - (ranks - self._start) % count

    def _turn(self, view: View) -> None:
        """Another rotation for the keys of a view: one addition where the names are the same as before."""
        if view.batch == self._batch:
            return
        view.batch = self._batch
        if view.turned[0] != self._round:
            if view.dynamic_at >= 0:
                self.rekey(view)
            return
        before = view.turned[1]
        shift = self._shifts.get(before)
        if shift is None:
            shift = (self._start - before) + self._count * (
                (self._ranks < before).astype(np.int64) - (self._ranks < self._start)
            )
            self._shifts[before] = shift
        view.key += shift
        view.turned = (self._round, self._start)
        view.leaders.clear()

    def refresh(self, view: View, extra: Slots | list[int] | None) -> None:
        """Brings a view up to date; `extra` names slots whose bars changed, None stands for all."""
        if extra is None:
            view.dynamic_at = -1
            extra = _NOTHING
        self._turn(view)
        flipped = self._refresh_dynamic(view, extra)
        if view.largest == UNKNOWN or (flipped and view.uneven):
            self._renormalize(view)

    def refresh_static(self, view: View) -> None:
        """Filters and raw scores that depend on what a node is."""
        table = self._table
        end = table.static_at
        if view.static_at == end:
            return
        everything = view.static_at < 0 or end - view.static_at > table.slots // 4
        slots = table.every if everything else np.array(table.static_log[view.static_at :], np.intp)
        sets = table.taint_set if everything else table.taint_set[slots]
        view.static_at = end
        pod_class = view.pod_class
        codes, counts = taint_codes(table, pod_class)
        refusal = codes[sets] if codes.any() else np.zeros(len(slots), np.uint8)
        if pod_class.node_selector or pod_class.required is not None:
            refusal[(refusal == 0) & ~selected(table, pod_class, slots)] = AFFINITY
        if everything:
            view.refusal = refusal
        else:
            view.refusal[slots] = refusal
        view.open = table.valid & (view.refusal == 0)
        if view.taints is not None or counts.any():
            view.taints = self._raw(view.taints, slots, counts[sets])
        if pod_class.preferred:
            view.affinity = self._raw(view.affinity, slots, preference(table, pod_class, slots))
        view.uneven = view.taints is not None or view.affinity is not None
        view.largest = UNKNOWN
        before = view.images
        view.images = self._images(pod_class)
        if everything or before is not None or view.images is not None:
            view.dynamic_at = -1

    def _images(self, pod_class: PodClass) -> Ints | None:
        if not self._policy.weight_image_locality:
            return None
        scored = image_scores(self._table, pod_class)
        return None if scored is None or not scored.any() else self._policy.weight_image_locality * scored

    def _raw(self, before: Ints | None, slots: Slots, values: npt.NDArray[np.integer[Any]]) -> Ints | None:
        """A column of raw scores with some of them changed; None where all are 0."""
        if before is None:
            if not values.any():
                return None
            before = np.zeros(self._table.slots, np.int64)
        before[slots] = values
        return before if before.any() else None

    def _refresh_dynamic(self, view: View, extra: Slots | list[int]) -> bool:
        """Room and resource scores of the nodes whose use changed; says whether a node became feasible or ceased to."""
        log = self._table.dynamic_log
        start, end = view.dynamic_at, log.end
        many = end - start + len(extra)
        if start >= 0 and not many:
            return False
        view.dynamic_at = end
        if start < 0 or many > self._table.slots // 2:
            self._refresh_many(view, None)
        elif many <= _FEW:
            flipped = False
            changed = log.since(start).tolist()
            for slot in {*changed, *map(int, extra)} if len(extra) or many > 1 else changed:
                flipped |= self.refresh_one(view, slot)
            return flipped
        elif len(extra):
            self._refresh_many(view, np.concatenate((log.since(start), np.array(extra, np.intp))))
        else:
            self._refresh_many(view, log.since(start))
        return True

    def _refresh_many(self, view: View, slots: Slots | None) -> None:
        table = self._table
        columns = table.wide() if slots is None else np.ascontiguousarray(table.room.take(slots, 0).T)
        feasible = view.open & (columns[PODS_LEFT] >= 1) if slots is None else view.open.take(slots)
        if slots is not None:
            feasible &= columns[PODS_LEFT] >= 1
        if view.missing:
            feasible[:] = False
        if view.barred is not None:
            feasible &= (view.barred if slots is None else view.barred.take(slots)) == 0
        capacity, parts = columns[CAPACITY:LEFT], columns[LEFT:PODS_LEFT] + view.asked
        if view.cpu:
            feasible &= parts[2] <= capacity[0]
        if view.memory:
            feasible &= parts[3] <= capacity[1]
        for row, amount in view.extras:
            free = table.free(row)
            feasible &= (free if slots is None else free.take(slots)) >= amount
        dynamic = self._dynamic(view, columns, capacity, parts)
        if view.images is not None:
            dynamic += view.images if slots is None else view.images.take(slots)
        if slots is None or isinstance(view.static, int):
            dynamic += view.static
        else:
            dynamic += view.static.take(slots)
        dynamic <<= TIE_BITS
        dynamic += self.ties if slots is None else self.ties.take(slots)
        np.copyto(dynamic, OUT, where=~feasible)
        if slots is None:
            view.key = dynamic
            view.turned = (self._round, self._start)
        else:
            view.key[slots] = dynamic
        view.leaders.clear()

    def _dynamic(self, view: View, columns: Ints, capacity: Ints, parts: Ints) -> Ints:
        """Weighted resource scores; `parts` is worked in."""
        if self._table.plain:
            least, balanced = scores.resource_scores_of(parts, capacity)
        else:
            least = scores.least_allocated_of(capacity - parts[:2], capacity)
            balanced = scores.balanced_allocation_of(parts[2:], capacity)
        if self._balance_change:
            before = scores.balanced_allocation_of(columns[USED:PODS_LEFT], capacity)
            balanced = scores.balance_change_of(balanced, before, asks=view.asks)
        if self._least_weight != 1:
            least *= self._least_weight
        if self._balanced_weight != 1:
            balanced *= self._balanced_weight
        least += balanced
        return least

    def rekey(self, view: View) -> None:
        """Other ties for all keys; those that are out stay far below 0."""
        view.key &= ~_TIE_MASK
        view.key += self.ties
        view.turned = (self._round, self._start)
        view.leaders.clear()

    def resource_scores(self, view: View, slot: int) -> tuple[int, int]:
        """(least allocated, balanced allocation) of one node, unweighted."""
        return self.scores_of_line(view, self._table.room[slot].tolist())

    def weighted_scores(self, view: View, line: list[int]) -> int:
        """What the resource scores of a node come to, from its line of `room`."""
        least, balanced = self.scores_of_line(view, line)
        return self._least_weight * least + self._balanced_weight * balanced

    def scores_of_line(self, view: View, line: list[int]) -> tuple[int, int]:
        """`resource_scores` of a node's line of `room`."""
        cpu, memory, left_cpu, left_memory, used_cpu, used_memory, _, _ = line
        score_cpu, score_memory = view.pod_class.demand[1:]
        with_cpu, with_memory = used_cpu + view.cpu, used_memory + view.memory
        if 0 < with_cpu < cpu and 0 < with_memory < memory and left_cpu >= score_cpu and left_memory >= score_memory:
            # the formulas of `scores_of_one` without their corner cases
            cpu_share, memory_share = (left_cpu - score_cpu) * MAX_SCORE, (left_memory - score_memory) * MAX_SCORE
            least = (cpu_share // cpu + memory_share // memory) >> 1
            apart = abs(with_cpu * FRACTION // cpu - with_memory * FRACTION // memory)
            balanced = (2 * FRACTION - apart) // (2 * FRACTION // MAX_SCORE)
        else:
            used_score_cpu, used_score_memory = cpu - left_cpu + score_cpu, memory - left_memory + score_memory
            least = scores.least_allocated(used_score_cpu, cpu, used_score_memory, memory)
            balanced = scores.balanced_allocation(with_cpu, cpu, with_memory, memory)
        if self._balance_change:
            before = scores.balanced_allocation(used_cpu, cpu, used_memory, memory)
            balanced = scores.balance_change(balanced, before, asks=view.asks)
        return least, balanced

    def key_of(self, view: View) -> Callable[[list[int], int], int]:
        """The key of a node for a class from its line of `room` and its slot, -1 without room for it.

        What else keeps the class out is for the caller to know; scores that differ between nodes may be of images only.
        """
        assert isinstance(view.static, int), "taints and preferences are even"
        static, images, ties = view.static, view.images, self.ties.item
        score_cpu, score_memory = view.pod_class.demand[1:]
        cpu, memory, least_weight, balanced_weight = view.cpu, view.memory, self._least_weight, self._balanced_weight
        change, step = self._balance_change, 2 * FRACTION // MAX_SCORE

        def key_of(line: list[int], slot: int) -> int:
            all_cpu, all_memory, left_cpu, left_memory, with_cpu, with_memory, pods_left, _ = line
            if pods_left < 1:
                return -1
            with_cpu += cpu
            with_memory += memory
            left_cpu -= score_cpu
            left_memory -= score_memory
            if 0 < with_cpu < all_cpu and 0 < with_memory < all_memory and left_cpu >= 0 <= left_memory and not change:
                # as in `scores_of_line`
                least = (left_cpu * MAX_SCORE // all_cpu + left_memory * MAX_SCORE // all_memory) >> 1
                apart = abs(with_cpu * FRACTION // all_cpu - with_memory * FRACTION // all_memory)
                value = least_weight * least + balanced_weight * ((2 * FRACTION - apart) // step)
            elif (cpu and with_cpu > all_cpu) or (memory and with_memory > all_memory):
                return -1
            else:
                value = self.weighted_scores(view, line)
            value += static
            if images is not None:
                value += images.item(slot)
            return (value << TIE_BITS) + ties(slot)

        return key_of

    def refresh_one(self, view: View, slot: int) -> bool:
        """`_refresh_many` of one node."""
        line: list[int] = self._table.room[slot].tolist()
        feasible = (
            view.open.item(slot)
            and not view.missing
            and line[PODS_LEFT] >= 1
            and (view.barred is None or view.barred.item(slot) == 0)
            and (not view.cpu or line[USED] + view.cpu <= line[CAPACITY])
            and (not view.memory or line[USED + 1] + view.memory <= line[CAPACITY + 1])
        )
        if feasible:
            for row, amount in view.extras:
                if self._table.free(row).item(slot) < amount:
                    feasible = False
                    break
        flipped: bool = feasible != (view.key.item(slot) >= 0)
        if feasible:
            score = self.weighted_scores(view, line)
            if view.images is not None:
                score += view.images.item(slot)
            score += view.static if isinstance(view.static, int) else view.static.item(slot)
            view.key[slot] = (score << TIE_BITS) + self.ties.item(slot)
        else:
            view.key[slot] = OUT
        if view.leaders:
            view.leaders.pop(view.hard[0].ids.item(slot), None)
        return flipped

    def _renormalize(self, view: View) -> None:
        """Taint and affinity scores, which are relative to the largest among the feasible nodes."""
        taints, affinity, feasible = view.taints, view.affinity, view.feasible
        largest = (
            0 if taints is None else int(taints.max(where=feasible, initial=0)),
            0 if affinity is None else int(affinity.max(where=feasible, initial=0)),
        )
        if largest == view.largest:
            return
        view.largest = largest
        before = view.static
        view.static = self.taint_score(view, largest[0]) + self.affinity_score(view, largest[1])
        view.key += (view.static - before) << TIE_BITS
        view.leaders.clear()

    def taint_score(self, view: View, largest: int) -> Ints | int:
        """Weighted score for preferences against pods that a node states by taints."""
        weight = self._policy.weight_taint_toleration
        if view.taints is None or not largest:
            return weight * scores.MAX_SCORE
        return weight * scores.normalized_of(view.taints, largest, reverse=True)

    def affinity_score(self, view: View, largest: int) -> Ints | int:
        """Weighted score for node affinity that the pod prefers."""
        if view.affinity is None or not largest:
            return 0
        return self._policy.weight_node_affinity * scores.normalized_of(view.affinity, largest, reverse=False)


_NOTHING: list[int] = []
