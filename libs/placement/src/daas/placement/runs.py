"""Nodes for many pods of few classes in a row: a placement changes the key of one node, and only of that.

For each class the best node that nobody touched is the next of a list that is sorted once, the best of those that were
touched the top of a heap; so a pod costs a few integers, however many nodes there are. Decides what `Engine.choose`
decides, one by one.
"""

from collections.abc import Sequence
from heapq import heappop, heappush

import numpy as np

from daas.placement.keys import TIE_BITS, Keys
from daas.placement.table import CAPACITY, LEFT, PODS_LEFT, USED, NodeTable
from daas.placement.view import View

#: Every class looks at the nodes that the others took; with more of them, columns are faster.
MOST_CLASSES = 16
#: Sorting the nodes has to pay: at least so many pods for each class.
LEAST_PODS = 4


def can_run(view: View) -> bool:
    """Whether keys of this class depend on nothing but the room of their own node."""
    return not (
        view.hard or view.scored_late or view.uneven or view.extras or view.forbidden or view.required or view.missing
    )


class _Track:
    """One class in a run: `seen` says how many placements its heap of (-key, slot, version) knows of."""

    __slots__ = ("asks", "best", "heap", "images", "may_use", "seen", "static", "view")

    def __init__(self, view: View, most: int) -> None:
        self.view = view
        assert isinstance(view.static, int), "taints and preferences are even"
        self.static = view.static
        self.images = view.images
        self.may_use = view.open.item
        demand = view.pod_class.demand
        self.asks = (demand.score_cpu_milli, demand.score_memory_bytes, view.cpu, view.memory)
        few = min(most, len(view.key))
        slots = np.argpartition(view.key, len(view.key) - few)[len(view.key) - few :]
        slots = slots[np.argsort(view.key[slots])]
        # taken from the end: the best is last
        self.best = list(zip(view.key[slots].tolist(), slots.tolist(), strict=True))
        self.heap: list[tuple[int, int, int]] = []
        self.seen = 0


class _Run:
    """The nodes that were touched: their lines of `room`, their ties, and how often each was taken."""

    def __init__(self, keys: Keys, table: NodeTable) -> None:
        self._keys = keys
        self._table = table
        self.lines: dict[int, list[int]] = {}
        self._versions: dict[int, int] = {}
        self._ties: dict[int, int] = {}
        self._log: list[int] = []

    def place(self, track: _Track) -> tuple[int, int] | None:
        """(slot, key) of the next pod of a class, counted; None where no node will do."""
        self._catch_up(track)
        heap, best, versions, lines = track.heap, track.best, self._versions, self.lines
        while heap and versions[heap[0][1]] != heap[0][2]:
            heappop(heap)
        while best and best[-1][1] in lines:
            best.pop()
        if heap and (not best or -heap[0][0] > best[-1][0]):
            key, slot = -heap[0][0], heap[0][1]
        elif best and best[-1][0] >= 0:
            key, slot = best.pop()
            lines[slot] = self._table.room[slot].tolist()
            self._ties[slot] = self._keys.ties.item(slot)
        else:
            return None
        counts_cpu, counts_memory, cpu, memory = track.asks
        line = lines[slot]
        line[LEFT] -= counts_cpu
        line[LEFT + 1] -= counts_memory
        line[USED] += cpu
        line[USED + 1] += memory
        line[PODS_LEFT] -= 1
        versions[slot] = versions.get(slot, 0) + 1
        self._log.append(slot)
        return slot, key

    def _catch_up(self, track: _Track) -> None:
        """Looks at the nodes that were taken since the class was last asked."""
        log, lines = self._log, self.lines
        _, _, cpu, memory = track.asks
        for slot in log[track.seen :]:
            line = lines[slot]
            if (
                line[PODS_LEFT] < 1
                or (cpu and line[USED] + cpu > line[CAPACITY])
                or (memory and line[USED + 1] + memory > line[CAPACITY + 1])
                or not track.may_use(slot)
            ):
                continue
            value = self._keys.weighted_scores(track.view, line) + track.static
            if track.images is not None:
                value += track.images.item(slot)
            heappush(track.heap, (-((value << TIE_BITS) + self._ties[slot]), slot, self._versions[slot]))
        track.seen = len(log)


def run(views: Sequence[View], keys: Keys, table: NodeTable) -> list[tuple[int, int]]:
    """(slot, score) for a pod of each view in order, up to the first for which no node will do; counts them.

    Args:
        views: up to date, each one that `can_run`.
        keys: of these views.
        table: where the pods are counted.
    """
    tracks: dict[int, _Track] = {}
    going = _Run(keys, table)
    chosen: list[tuple[int, int]] = []
    for view in views:
        track = tracks.get(id(view))
        if track is None:
            track = tracks[id(view)] = _Track(view, len(views))
            track.seen = 0
        placed = going.place(track)
        if placed is None:
            break
        chosen.append((placed[0], placed[1] >> TIE_BITS))
    if chosen:
        slots = np.array(list(going.lines), np.intp)
        table.room[slots] = np.array(list(going.lines.values()), np.int64)
        table.dynamic_log.extend(slots)
    return chosen
