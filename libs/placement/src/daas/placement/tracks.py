"""One class of pods while many are placed in a row: its nodes in the order of their keys, kept up node by node."""

from collections.abc import Callable
from heapq import heappop, heappush

import numpy as np

from daas.placement.keys import Keys
from daas.placement.limits import Lead, Limit
from daas.placement.table import Ints, Mask, Slots
from daas.placement.view import View

#: Worse than every node that will do.
_NOWHERE = (-1, -1)


class Pile:
    """Nodes of a class, or of one domain: `best` holds (key, slot), the best last, `heap` (-key, slot, version).

    Attributes:
        leader: the best of them, where it is known; floor: nodes with a key below it were not sorted yet, 0 for none.
    """

    __slots__ = ("best", "floor", "heap", "leader")

    def __init__(self, floor: int) -> None:
        self.best: list[tuple[int, int]] = []
        self.heap: list[tuple[int, int, int]] = []
        self.leader: tuple[int, int] | None = None
        self.floor = floor


def _best_of(keys: Ints, most: int) -> tuple[Slots, int]:
    """(places of the largest keys from 0 on, the best last; the least key among them, 0 where these are all)."""
    left_out = len(keys) - most
    floor = max(int(np.partition(keys, left_out)[left_out]), 0) if left_out > 0 else 0
    places = np.flatnonzero(keys >= floor)
    return places[np.argsort(keys[places])], floor


class Track:
    """One class in a run.

    Args:
        view: up to date.
        keys: of the view.
        limits: rules that placements tell against slots; lead: the rule that chooses between domains.
        may_use: slots that nothing but room and these rules keep the class out of.
        most: as many nodes are sorted at once, and again where these run out.
        seen: how many placements the view knows of.

    Attributes:
        seen: how many placements its heaps know of; touched: the slots of those since it was begun.
        key_of: the key of a node from its line of `room` and its slot; negative where there is no room.
    """

    __slots__ = ("_key", "_limits", "_may_use", "_most", "_piles", "asks", "key_of", "lead", "seen", "touched")

    def __init__(
        self, view: View, keys: Keys, limits: list[Limit], lead: Lead | None, *, may_use: Mask, most: int, seen: int
    ) -> None:
        self.lead = lead
        self.seen = seen
        self.touched: set[int] = set()
        self.key_of: Callable[[list[int], int], int] = keys.key_of(view)
        demand = view.pod_class.demand
        self.asks = (demand.score_cpu_milli, demand.score_memory_bytes, view.cpu, view.memory)
        self._limits = limits
        self._may_use = may_use.item
        self._key = np.where(may_use, view.key, -1)
        self._most = most
        slots, floor = _best_of(self._key, most)
        nodes = list(zip(self._key[slots].tolist(), slots.tolist(), strict=True))
        if lead is None:
            self._piles = {0: Pile(floor)}
            self._piles[0].best = nodes
        else:
            self._piles = {domain: Pile(floor) for domain in lead.domains}
            for domain, node in zip(lead.ids[slots].tolist(), nodes, strict=True):
                if domain:
                    self._piles[domain].best.append(node)

    def _refill(self, domain: int, pile: Pile) -> None:
        """Sorts more nodes of a domain, where there are more."""
        members = None if self.lead is None else self.lead.members(domain)
        keys = self._key if members is None else self._key[members]
        keys = np.where(keys < pile.floor, keys, -1)
        places, pile.floor = _best_of(keys, self._most)
        slots = places if members is None else members[places]
        pile.best = list(zip(keys[places].tolist(), slots.tolist(), strict=True))

    def _shut(self, slot: int) -> bool:
        for limit in self._limits:  # noqa: SIM110 - asked several times for every pod; a generator takes twice as long
            if limit.domain_of(slot) in limit.shut:
                return True
        return False

    def _top(self, domain: int, pile: Pile, versions: dict[int, int]) -> tuple[int, int]:
        """(key, slot) of the best node of a pile."""
        heap, touched, limits = pile.heap, self.touched, self._limits
        while heap and (versions[heap[0][1]] != heap[0][2] or (limits and self._shut(heap[0][1]))):
            heappop(heap)
        while True:
            best = pile.best
            while best and (best[-1][1] in touched or (limits and self._shut(best[-1][1]))):
                best.pop()
            if best or not pile.floor:
                break
            self._refill(domain, pile)
        if heap and (not best or -heap[0][0] > best[-1][0]):
            return -heap[0][0], heap[0][1]
        return best[-1] if best else _NOWHERE

    def top(self, versions: dict[int, int]) -> tuple[int, int]:
        """(key, slot) of the best node; the key is negative where there is none."""
        lead = self.lead
        if lead is None:
            return self._top(0, self._piles[0], versions)
        found, limit, totals = _NOWHERE, lead.limit, lead.totals
        for domain, pile in self._piles.items():
            if totals[domain] <= limit:
                leader = pile.leader
                if leader is None or (self._limits and self._shut(leader[1])):
                    leader = pile.leader = self._top(domain, pile, versions)
                found = max(found, leader)
        return found

    def look(self, slot: int, line: list[int], version: int) -> None:
        """Takes note of a node that was taken."""
        self.touched.add(slot)
        lead = self.lead
        if lead is None:
            pile = self._piles[0]
        else:
            domain = lead.domain_of(slot)
            if not domain:
                return
            pile = self._piles[domain]
            pile.leader = None
        if (self._limits and self._shut(slot)) or not self._may_use(slot):
            return
        key = self.key_of(line, slot)
        if key >= 0:
            heappush(pile.heap, (-key, slot, version))
