"""How many pods of a group are on each node and in each topology domain, kept up pod by pod.

A column is made when a class first asks for its group, from the profiles that are on nodes, and then follows every
placement and departure. Domains are counted per label value; nodes without the label are domain 0 and never counted.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from daas.placement.groups import Group, NamespaceLabels, Token, tokens
from daas.placement.neighbours import Neighbours
from daas.placement.profile import Profile
from daas.placement.table import NodeTable, Slots

Counts = npt.NDArray[np.int64]
#: Columns and their domains together; past it all are dropped and made again when asked for.
_MAX_BYTES = 96 * 1024 * 1024


class Domains:
    """Pods of one group by topology domain, over all nodes; without a topology key, by node.

    Attributes:
        ids: per slot its domain, 0 where the node lacks the label.
        totals: per domain.
        occupied: how many domains hold a pod.
        flips: +domain where it became occupied, -domain where it ceased to be, oldest first; 0 where all of it may
            have changed.
    """

    def __init__(self, column: "GroupColumn", table: NodeTable, topology_key: str | None) -> None:
        self.column = column
        self._table = table
        self._label = None if topology_key is None else table.label(topology_key)
        self._static_at = -1
        self._at = 0
        self.flips: list[int] = []
        self.ids: Slots = np.zeros(0, np.intp)
        self.totals: Counts = np.zeros(0, np.int64)
        self.occupied = 0
        self.refresh()

    def refresh(self) -> None:
        """Reads what the column has seen since the last time."""
        if self._static_at != self._table.static_at:
            self._rebuild()
            return
        log = self.column.log
        if self._at == len(log):
            return
        totals, ids = self.totals, self.ids
        for slot, difference in log[self._at :]:
            domain = ids.item(slot)
            if domain:
                before = totals.item(domain)
                totals[domain] = before + difference
                if not before:
                    self.flips.append(domain)
                    self.occupied += 1
                elif not before + difference:
                    self.flips.append(-domain)
                    self.occupied -= 1
        self._at = len(log)

    def _rebuild(self) -> None:
        self._static_at = self._table.static_at
        if self._label is None:
            self.ids = np.arange(1, self._table.slots + 1)
            self.totals = np.zeros(self._table.slots + 1, np.int64)
        else:
            self.ids = self._label.wide
            self.totals = np.zeros(self._label.size, np.int64)
        np.add.at(self.totals, self.ids, self.column.counts)
        self.totals[0] = 0
        self.occupied = int(np.count_nonzero(self.totals))
        self.flips.append(0)
        self._at = len(self.column.log)

    def members(self, domain: int) -> Slots:
        """The slots of a domain; without a topology key every slot is a domain of its own."""
        return np.array([domain - 1]) if self._label is None else self._label.members(domain)


class GroupColumn:
    """Pods of one group by slot. `log` holds (slot, difference), oldest first."""

    def __init__(self, group: Group, slots: int) -> None:
        self.group = group
        self.counts: Counts = np.zeros(slots, np.int64)
        self.log: list[tuple[int, int]] = []
        self.domains: dict[str | None, Domains] = {}


class Columns:
    """The columns that classes have asked for.

    Attributes:
        generation: changes when all columns that were handed out are void.
        counted: how many changes they have seen.
    """

    def __init__(self, table: NodeTable, neighbours: Neighbours) -> None:
        self.generation = 0
        self._table = table
        self._neighbours = neighbours
        self._namespaces: NamespaceLabels = {}
        self._columns: dict[bytes, GroupColumn] = {}
        self._by_token: dict[Token | None, list[GroupColumn]] = {}
        self._of: dict[bytes, list[tuple[GroupColumn, int]]] = {}
        self._seen: dict[Token, list[Profile]] = {}
        self._table_generation = table.generation
        self._surroundings_generation = -1
        self._bytes = 0
        self.counted = 0

    def drop(self) -> None:
        """Forgets everything."""
        self._columns, self._by_token, self._of, self._seen, self._bytes = {}, {}, {}, {}, 0
        self.generation += 1

    def sync(self, namespaces: NamespaceLabels, moved_slots: Iterable[tuple[int, Iterable[Profile]]]) -> None:
        """Follows what changed between batches.

        Args:
            namespaces: labels by name.
            moved_slots: slots that hold another node than before, with a profile for each pod on it.
        """
        generation = self._neighbours.surroundings_generation
        changes = self._neighbours.take_changes()
        stale = self._table_generation != self._table.generation or self._surroundings_generation != generation
        if changes is None or stale or self._bytes > _MAX_BYTES:
            self._table_generation, self._surroundings_generation = self._table.generation, generation
            self._namespaces = namespaces
            self.drop()
            return
        if not self._columns:
            return
        moved: dict[int, None] = {}
        for slot, profiles in moved_slots:
            moved[slot] = None
            for column in self._columns.values():
                self._add(column, slot, -column.counts.item(slot))
            for profile in profiles:
                self.count(profile, slot, 1)
        slot_of = self._table.slot_of
        for profile, node, difference in changes:
            slot = slot_of.get(node, -1)
            if slot >= 0 and slot not in moved:
                self.count(profile, slot, difference)

    def trim(self, limit: int) -> None:
        """Forgets long histories between batches."""
        for column in self._columns.values():
            if len(column.log) > limit or any(len(domains.flips) > limit for domains in column.domains.values()):
                self.drop()
                return

    @staticmethod
    def _add(column: GroupColumn, slot: int, difference: int) -> None:
        if difference:
            column.counts[slot] += difference
            column.log.append((slot, difference))

    def count(self, profile: Profile, slot: int, difference: int) -> None:
        """Pods of this profile came to a node or left it."""
        self.counted += 1
        for column, times in self.counting(profile):
            column.counts[slot] += difference * times
            column.log.append((slot, difference * times))

    def count_many(self, profile: Profile, slots: list[int]) -> None:
        """A pod of this profile came to each of these nodes, which may repeat."""
        self.counted += 1
        for column, times in self.counting(profile):
            np.add.at(column.counts, slots, times)
            column.log += [(slot, times) for slot in slots]

    def counting(self, profile: Profile) -> list[tuple[GroupColumn, int]]:
        """The columns that count a profile, each with how often."""
        found = self._of.get(profile.key)
        return self._meet(profile) if found is None else found

    def _meet(self, profile: Profile) -> list[tuple[GroupColumn, int]]:
        """The columns that count a profile, which is remembered for columns to come."""
        found = self._of[profile.key] = []
        known: list[Token | None] = [None]
        for token in tokens(profile):
            known.append(token)
            self._seen.setdefault(token, []).append(profile)
        for member in known:
            for column in self._by_token.get(member, ()):
                times = column.group.count(profile, self._namespaces)
                if times:
                    found.append((column, times))
        return found

    def column(self, group: Group) -> GroupColumn:
        """The column of a group."""
        column = self._columns.get(group.key)
        if column is None:
            column = self._columns[group.key] = GroupColumn(group, self._table.slots)
            self._by_token.setdefault(group.token, []).append(column)
            slot_of = self._table.slot_of
            self._bytes += 8 * self._table.slots
            for profile in self._neighbours.candidates(group):
                times = group.count(profile, self._namespaces)
                if times:
                    for node, pods in profile.on.items():
                        slot = slot_of.get(node)
                        if slot is not None:
                            column.counts[slot] += pods * times
            if group.token is None:
                self._of, self._seen = {}, {}
            else:
                for profile in self._seen.get(group.token, ()):
                    times = group.count(profile, self._namespaces)
                    if times:
                        self._of[profile.key].append((column, times))
        return column

    def domains(self, group: Group, topology_key: str | None) -> Domains:
        """The domains of a group by a topology key, up to date."""
        column = self.column(group)
        found = column.domains.get(topology_key)
        if found is None:
            found = column.domains[topology_key] = Domains(column, self._table, topology_key)
            self._bytes += 16 * self._table.slots
        found.refresh()
        return found
