"""Nodes for many pods of few classes in a row: a placement changes the key of one node, and little beside that.

For each class the nodes that nobody touched stand in a list that is sorted once, those that were touched in a heap; so
a pod costs a few integers, however many nodes there are. What a placement means to the rules about other pods is noted
as it happens: domains that required anti-affinity or host ports close, and counts of hard topology spread. Decides what
`Engine.choose` decides, one by one.
"""

import numpy as np

from daas.placement.columns import Columns, GroupColumn
from daas.placement.keys import TIE_BITS, Keys
from daas.placement.limits import Bar, Lead, Limit, Steady, few_domains, is_steady
from daas.placement.profile import Profile
from daas.placement.table import LEFT, PODS_LEFT, USED, NodeTable
from daas.placement.tracks import Track
from daas.placement.view import SpreadCounts, View

#: Every class looks at the nodes that the others took; with more of them, columns are faster.
MOST_CLASSES = 16
#: Sorting the nodes has to pay: at least so many pods for each class.
LEAST_PODS = 4
#: Nodes that are sorted at once; where classes take turns, each needs more than it has pods in a row.
_LEAST_SORTED = 64


def can_run(view: View, most: int) -> bool:
    """Whether up to so many pods of this class can be chosen for in a run.

    Keys must depend on nothing but the room of their own node, and at most one rule of hard spread on how the other
    domains fill up.
    """
    if view.scored_late or view.uneven or view.extras or view.required or view.missing:
        return False
    return _uncertain(view, most) is not None


def _uncertain(view: View, most: int) -> list[SpreadCounts] | None:
    """The rules whose emptiest domain may fill up meanwhile; None where they are too many."""
    found = []
    for counts in view.hard:
        counts.refresh()
        if not is_steady(counts, most):
            found.append(counts)
    return found if len(found) <= 1 and all(map(few_domains, found)) else None


#: Rules that a placement is told to, each with how often the pod counts for it.
_Effects = list[tuple[Limit | Lead, int]]


class Run:
    """Pods that are placed in a row.

    Args:
        keys: of the views that are asked for.
        table, columns: where the pods are counted, at the latest by `settle`.

    Attributes:
        lines: the touched nodes' lines of `room`; versions: how often each was taken; log: which, in order.
    """

    def __init__(self, keys: Keys, table: NodeTable, columns: Columns) -> None:
        self._keys = keys
        self._table = table
        self._columns = columns
        self.lines: dict[int, list[int]] = {}
        self.versions: dict[int, int] = {}
        self.log: list[int] = []
        self._told = 0
        self._tracks: dict[int, Track] = {}
        self._listeners: list[tuple[GroupColumn, Limit | Lead]] = []
        self._effects: dict[int, _Effects] = {}
        self._counted: dict[bytes, tuple[Profile, list[int]]] = {}

    def knows(self, view: View) -> bool:
        """Whether pods of this class were asked for before."""
        return id(view) in self._tracks

    def settle(self) -> None:
        """Tells table and columns what was placed since the last time."""
        slots = list(dict.fromkeys(self.log[self._told :]))
        self._told = len(self.log)
        if slots:
            lines = self.lines
            self._table.put_lines(np.array(slots, np.intp), np.array([lines[slot] for slot in slots], np.int64))
        for profile, places in self._counted.values():
            self._columns.count_many(profile, places)
        self._counted.clear()

    def begin(self, view: View, most: int, *, alike: int) -> bool:
        """Takes up a class, whose view knows all that was placed; False where it can't run after all.

        Args:
            view: up to date, and one that `can_run`.
            most: pods that are still to come, of all classes.
            alike: pods that come next, all of this class.
        """
        uncertain = _uncertain(view, most)
        if uncertain is None:
            return False
        may_use = view.open if view.barred is None else view.open & (view.barred == 0)
        limits: list[Limit] = []
        for domains in view.forbidden:
            limits.append(Bar(domains))
            self._listeners.append((domains.column, limits[-1]))
        lead = None
        for counts in view.hard:
            if counts in uncertain:
                lead = Lead(counts)
                self._listeners.append((counts.column, lead))
            else:
                limits.append(Steady(counts))
                may_use = may_use & counts.allowed()[counts.ids]
                self._listeners.append((counts.column, limits[-1]))
        self._tracks[id(view)] = Track(
            view, self._keys, limits, lead, may_use=may_use, most=max(alike, _LEAST_SORTED), seen=len(self.log)
        )
        self._effects.clear()
        return True

    def _effects_of(self, profile: Profile) -> _Effects:
        found = self._effects.get(id(profile))
        if found is None:
            times = {id(column): times for column, times in self._columns.counting(profile)}
            told = self._listeners
            found = [(rule, times[id(column)]) for column, rule in told if id(column) in times]
            self._effects[id(profile)] = found
        return found

    def place(self, view: View, profile: Profile, count: int) -> list[tuple[int, int]]:
        """(slot, score) for so many pods of a class that was begun, up to the first for which no node will do."""
        track, effects = self._tracks[id(view)], self._effects_of(profile)
        log, lines, versions, room = self.log, self.lines, self.versions, self._table.room
        counts_cpu, counts_memory, cpu, memory = track.asks
        chosen: list[tuple[int, int]] = []
        for _ in range(count):
            if track.seen != len(log):
                for slot in log[track.seen :]:
                    track.look(slot, lines[slot], versions[slot])
            key, slot = track.top(versions)
            if key < 0:
                break
            line = lines.get(slot)
            if line is None:
                line = lines[slot] = room[slot].tolist()
                versions[slot] = 0
            line[LEFT] -= counts_cpu
            line[LEFT + 1] -= counts_memory
            line[USED] += cpu
            line[USED + 1] += memory
            line[PODS_LEFT] -= 1
            version = versions[slot] = versions[slot] + 1
            log.append(slot)
            for rule, times in effects:
                rule.note(slot, times)
            track.look(slot, line, version)
            track.seen = len(log)
            chosen.append((slot, key >> TIE_BITS))
        if chosen:
            _, places = self._counted.setdefault(profile.key, (profile, []))
            places += [slot for slot, _ in chosen]
        return chosen
