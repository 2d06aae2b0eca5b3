"""Nodes for many pods of one class in a row: after each, only the node that was chosen has another key.

The best untouched node is the next of a list that is sorted once, the best touched one the top of a heap; so a pod
costs a few integers, however many nodes there are. Decides what `Engine.choose` decides, one by one.
"""

from heapq import heappop, heappush, heapreplace

import numpy as np

from daas.placement.keys import OUT, TIE_BITS, Keys
from daas.placement.table import CAPACITY, LEFT, PODS_LEFT, USED, NodeTable
from daas.placement.view import View

#: A run has to pay for looking at all nodes twice.
LEAST = 4
_TIE_MASK = (1 << TIE_BITS) - 1


def can_run(view: View) -> bool:
    """Whether keys of this class depend on nothing but the room of their own node."""
    return not (
        view.hard or view.scored_late or view.uneven or view.extras or view.forbidden or view.required or view.missing
    )


def run(view: View, keys: Keys, table: NodeTable, count: int) -> list[tuple[int, int]]:
    """(slot, score) of up to `count` pods, fewer where no node will do any more; counts them in table and view."""
    key, room = view.key, table.room
    assert isinstance(view.static, int), "taints and preferences are even"
    static = view.static
    few = min(count, len(key))
    slots = np.argpartition(key, len(key) - few)[len(key) - few :]
    # taken from the end: the best is last
    untouched = sorted(zip(key[slots].tolist(), slots.tolist(), strict=True))
    touched: list[tuple[int, int]] = []
    lines: dict[int, list[int]] = {}
    values: dict[int, int] = {}
    chosen: list[tuple[int, int]] = []
    cpu, memory = view.cpu, view.memory
    counts_cpu, counts_memory = view.pod_class.demand.score_cpu_milli, view.pod_class.demand.score_memory_bytes
    while len(chosen) < count:
        if touched and (not untouched or -touched[0][0] > untouched[-1][0]):
            best, slot = touched[0]
            best = -best
            line, again = lines[slot], True
        elif untouched and untouched[-1][0] >= 0:
            best, slot = untouched.pop()
            line = lines[slot] = room[slot].tolist()
            again = False
        else:
            break
        chosen.append((slot, best >> TIE_BITS))
        line[LEFT] -= counts_cpu
        line[LEFT + 1] -= counts_memory
        line[USED] += cpu
        line[USED + 1] += memory
        line[PODS_LEFT] -= 1
        least, balanced = keys.scores_of_line(view, line)
        value = keys.weighted(least, balanced)
        if view.images is not None:
            value += view.images.item(slot)
        values[slot] = value
        if (
            line[PODS_LEFT] < 1
            or (cpu and line[USED] + cpu > line[CAPACITY])
            or (memory and line[USED + 1] + memory > line[CAPACITY + 1])
        ):
            key[slot] = OUT
            view.feasible[slot] = False
            if again:
                heappop(touched)
            continue
        now = ((value + static) << TIE_BITS) + (best & _TIE_MASK)
        key[slot] = now
        if again:
            heapreplace(touched, (-now, slot))
        else:
            heappush(touched, (-now, slot))
    _take_over(view, table, lines, values, chosen)
    return chosen


def _take_over(
    view: View, table: NodeTable, lines: dict[int, list[int]], values: dict[int, int], chosen: list[tuple[int, int]]
) -> None:
    if not chosen:
        return
    slots = np.array(list(lines), np.intp)
    table.room[slots] = np.array(list(lines.values()), np.int64)
    view.dynamic[slots] = np.array(list(values.values()), np.int32)
    table.dynamic_log.extend(slots)
    view.dynamic_at = table.dynamic_log.end
