"""What is kept of one class of pods over all nodes, and how it is brought up to date: only what changed is computed.

A node's own room decides whether it is feasible and what it scores; other nodes have a say through the largest raw
scores among the feasible, and other pods through topology domains. The first two kinds are kept per slot in one
comparison key, domains that are out are kept as a count of bars, and what may move with every placement (spread,
preferences between pods) is laid over the rest when a node is chosen.
"""

import numpy as np
import numpy.typing as npt

from daas.placement.columns import Columns, Counts, Domains, GroupColumn
from daas.placement.coupling import Coupling, SpreadRule
from daas.placement.logarithm import PLACES, logarithm
from daas.placement.podclass import PodClass
from daas.placement.reasons import NONE, Reason
from daas.placement.selection import selected, tolerated
from daas.placement.selectors import HOSTNAME
from daas.placement.table import BUILT_IN, CPU_COLUMN, MEMORY_COLUMN, Ints, LabelColumn, Mask, NodeTable, Slots

#: Largest raw scores before they were ever looked for.
UNKNOWN = (-1, -1)


class SpreadCounts:
    """One spread rule as one class counts it: only nodes that have every key and that the policies let in."""

    def __init__(self, rule: SpreadRule, column: GroupColumn, label: LabelColumn, eligible: Mask) -> None:
        domains = label.size
        self.rule = rule
        self.column = column
        self.members = label.members
        self.ids: Slots = label.wide
        ids = self.ids
        self.takes_part = eligible
        self.totals: Counts = np.zeros(domains, np.int64)
        np.add.at(self.totals, ids[eligible], column.counts[eligible])
        there = np.zeros(domains, np.bool_)
        there[ids[eligible]] = True
        there[0] = False
        self._there: Slots = np.flatnonzero(there)
        self._at = len(column.log)

    @property
    def there(self) -> list[int]:
        """Domains with a node that takes part."""
        found: list[int] = self._there.tolist()
        return found

    def refresh(self) -> None:
        """Reads what the column has seen since the last time."""
        log = self.column.log
        if self._at != len(log):
            for slot, difference in log[self._at :]:
                if self.takes_part.item(slot):
                    self.totals[self.ids.item(slot)] += difference
            self._at = len(log)

    def least(self) -> tuple[int, int] | None:
        """(pods in the emptiest domain, domains that have so few); None where the rule takes it to be empty."""
        if not len(self._there) or len(self._there) < self.rule.min_domains:
            return None
        totals = self.totals[self._there]
        least = int(totals.min())
        return least, int(np.count_nonzero(totals == least))

    def limit_at(self, least: int) -> int:
        """The most pods that a domain may hold for one more to keep the skew, beside the emptiest one's."""
        rule = self.rule
        if len(self._there) < rule.min_domains:
            least = 0
        return rule.max_skew + least - rule.self_match

    def limit(self) -> int:
        """`limit_at` as it is now."""
        return self.limit_at(int(self.totals[self._there].min()) if len(self._there) else 0)

    def allowed(self) -> Mask:
        """Per domain, whether one more pod keeps the skew; domain 0, nodes without the key, never."""
        fine: Mask = self.totals <= self.limit()
        fine[0] = False
        return fine


class View:
    """One class with one coupling.

    Attributes:
        asks: whether anything is requested; missing: whether no node has ever offered some of it.
        cpu, memory: of what is requested; extras: (index, amount) of the rest.
        asked: what a pod changes in the parts of `room` that scores are made of, as a column; takes: in all of it.
        refusal: index into STATIC_REASONS; open: where it is 0 and there is a node.
        taints, affinity: raw scores; images: weighted score; None where all are 0.
        barred: how many rules about other pods keep a slot out.
        key: per slot (score << 20 | tie), negative where the node is out; without spread and preferences between pods.
        static: the part of the score that depends on what a node is and on which nodes are feasible.
        largest: of taints and affinity among the feasible nodes, as `static` was made with.
        uneven: whether any raw score is not 0.
        batch, turned: the batch whose rotation of names the keys have, and which rotation that is.
        leaders: domain of the only hard rule to the best (key, slot) in it, as far as it is known.
        forbidden, required, hard, soft, liked: the coupling's rules with their counts.
    """

    __slots__ = (
        "affinity",
        "asked",
        "asks",
        "barred",
        "batch",
        "coupled_at",
        "coupling",
        "cpu",
        "dynamic_at",
        "explained",
        "extras",
        "forbidden",
        "forbidden_at",
        "generation",
        "hard",
        "images",
        "key",
        "largest",
        "leaders",
        "liked",
        "memory",
        "missing",
        "open",
        "pod_class",
        "refusal",
        "required",
        "required_at",
        "soft",
        "spread_key",
        "static",
        "static_at",
        "taints",
        "takes",
        "turned",
        "uneven",
        "unmet",
    )

    def __init__(
        self, pod_class: PodClass, coupling: Coupling, table: NodeTable, columns: Columns, generation: tuple[int, int]
    ) -> None:
        slots = table.slots
        self.pod_class = pod_class
        self.coupling = coupling
        self.generation = generation
        requests = pod_class.demand.requests
        rows = {table.columns[name]: amount for name, amount in requests if name in table.columns}
        self.missing = len(rows) < len(requests)
        self.refusal: npt.NDArray[np.uint8] = np.zeros(slots, np.uint8)
        self.asks = bool(rows)
        self.cpu, self.memory = rows.get(CPU_COLUMN, 0), rows.get(MEMORY_COLUMN, 0)
        self.extras = tuple((row, amount) for row, amount in rows.items() if row >= BUILT_IN)
        demand = pod_class.demand
        changes = (-demand.score_cpu_milli, -demand.score_memory_bytes, self.cpu, self.memory)
        self.asked: Ints = np.array(changes, np.int64)[:, None]
        self.takes: Ints = np.array((0, 0, *changes, -1, 0), np.int64)
        self.open: Mask = np.zeros(slots, np.bool_)
        self.taints: Ints | None = None
        self.affinity: Ints | None = None
        self.images: Ints | None = None
        self.barred: npt.NDArray[np.int32] | None = None
        self.static: Ints | int = 0
        self.leaders: dict[int, tuple[int, int]] = {}
        self.key: Ints = np.full(slots, -1, np.int64)
        self.largest = UNKNOWN
        self.uneven = True
        self.static_at = self.dynamic_at = self.coupled_at = -1
        self.batch = -1
        self.turned = (-1, 0)
        self.explained: tuple[tuple[int, int], Reason] = ((-1, -1), NONE)
        self.forbidden: list[Domains] = [columns.domains(f.group, f.topology_key) for f in coupling.forbids]
        self.forbidden_at: list[int] = []
        require = coupling.require
        self.required: list[Domains] = (
            [columns.domains(require.group, key) for key in require.topology_keys] if require else []
        )
        self.required_at: list[int] = []
        self.unmet: Mask | None = None
        self.liked: list[tuple[Domains, int]] = [
            (columns.domains(like.group, like.topology_key), like.weight) for like in coupling.likes
        ]
        self.hard: list[SpreadCounts] = []
        self.soft: list[SpreadCounts] = []
        self.spread_key: Mask | None = None

    @property
    def feasible(self) -> Mask:
        """Per slot, whether the pod may go there as far as keys say."""
        feasible: Mask = self.key >= 0
        return feasible

    @property
    def scored_late(self) -> bool:
        """Whether scores depend on more than the kept key holds."""
        return bool(self.liked or self.coupling.soft or (self.coupling.hard and self.uneven))

    # --- rules about other pods

    def couple(self, table: NodeTable, columns: Columns) -> Slots | list[int] | None:
        """Brings the rules about other pods up to date.

        Returns:
            the slots whose bars changed, for the caller to compute their keys again; None for all of them.
        """
        if self.coupled_at != table.static_at:
            self.coupled_at = table.static_at
            self._couple_anew(table, columns)
            return None
        changed: list[int] = []
        arrays: list[Slots] = []
        barred = self.barred
        for index, domains in enumerate(self.forbidden):
            domains.refresh()
            flips, start = domains.flips, self.forbidden_at[index]
            if start == len(flips):
                continue
            self.forbidden_at[index] = len(flips)
            assert barred is not None, "a view with rules has bars"
            for flip in flips[start:]:
                assert flip, "domains were made anew without a change of nodes"
                members = domains.members(abs(flip))
                barred[members] += 1 if flip > 0 else -1
                if len(members) == 1:
                    changed.append(members.item())
                else:
                    arrays.append(members)
        if self.required:
            positions = []
            for domains in self.required:
                domains.refresh()
                positions.append(len(domains.flips))
            if positions != self.required_at:
                self.required_at = positions
                assert barred is not None, "a view with rules has bars"
                assert self.unmet is not None
                unmet = self._unmet()
                moved = np.flatnonzero(unmet != self.unmet)
                barred[moved] += np.where(unmet[moved], 1, -1).astype(np.int32)
                self.unmet = unmet
                arrays.append(moved)
        if arrays:
            return np.concatenate((*arrays, np.array(changed, np.intp)))
        return changed

    def _couple_anew(self, table: NodeTable, columns: Columns) -> None:
        if self.forbidden or self.required:
            self.barred = np.zeros(table.slots, np.int32)
            self.forbidden_at = []
            for domains in self.forbidden:
                domains.refresh()
                self.barred += domains.totals[domains.ids] > 0
                self.forbidden_at.append(len(domains.flips))
        if self.required:
            for domains in self.required:
                domains.refresh()
            self.required_at = [len(domains.flips) for domains in self.required]
            self.unmet = self._unmet()
            assert self.barred is not None
            self.barred += self.unmet
        self._spread_anew(table, columns)

    def _unmet(self) -> Mask:
        """Slots where required affinity is not met."""
        require = self.coupling.require
        assert require is not None
        first = require.self_match and not any(domains.occupied for domains in self.required)
        unmet: Mask = np.zeros(len(self.key), np.bool_)
        for domains in self.required:
            unmet |= domains.ids == 0 if first else domains.totals[domains.ids] <= 0
        return unmet

    def _spread_anew(self, table: NodeTable, columns: Columns) -> None:
        coupling = self.coupling
        self.spread_key = None
        self.leaders.clear()
        if coupling.hard or coupling.soft:
            slots = np.arange(table.slots)
            matches = table.valid & selected(table, self.pod_class, slots)
            tolerates = table.valid & tolerated(table, self.pod_class)
            self.hard, _ = self._spread_counts(coupling.hard, table, columns, matches, tolerates, everywhere=True)
            self.soft, self.spread_key = self._spread_counts(
                coupling.soft, table, columns, matches, tolerates, everywhere=coupling.everywhere
            )

    @staticmethod
    def _spread_counts(
        rules: tuple[SpreadRule, ...],
        table: NodeTable,
        columns: Columns,
        matches: Mask,
        tolerates: Mask,
        *,
        everywhere: bool,
    ) -> tuple[list[SpreadCounts], Mask]:
        """The rules with their counts, and which slots take part in scores."""
        labels = [table.label(rule.topology_key) for rule in rules]
        inside: Mask = table.valid.copy()
        if everywhere:
            for label in labels:
                inside &= label.values != 0
        counts = []
        for rule, label in zip(rules, labels, strict=True):
            eligible = inside.copy()
            if rule.honor_affinity:
                eligible &= matches
            if rule.honor_taints:
                eligible &= tolerates
            counts.append(SpreadCounts(rule, columns.column(rule.group), label, eligible))
        return counts, inside

    def spread_mask(self) -> Mask:
        """Slots that hard spread lets in."""
        mask: Mask | None = None
        for counts in self.hard:
            counts.refresh()
            fine = counts.allowed()[counts.ids]
            mask = fine if mask is None else mask & fine
        assert mask is not None, "asked without hard rules"
        return mask

    def lead(self) -> tuple[int, int]:
        """The best (key, slot) in the domains that the only hard rule lets in; the key is -1 where there is none."""
        counts = self.hard[0]
        counts.refresh()
        best, leaders = (-1, 0), self.leaders
        for domain in np.flatnonzero(counts.allowed()).tolist():
            leader = leaders.get(domain)
            if leader is None:
                members = counts.members(domain)
                if not len(members):
                    continue
                keys = self.key.take(members)
                index = int(keys.argmax())
                leader = leaders[domain] = keys.item(index), members.item(index)
            best = max(best, leader)
        return best

    def preferences(self) -> Ints:
        """Raw score of inter-pod affinity per slot."""
        total: Ints = np.zeros(len(self.key), np.int64)
        for domains, weight in self.liked:
            domains.refresh()
            total += domains.totals[domains.ids] * weight
        return total

    def crowding(self, counted: Mask) -> Ints:
        """Raw score of soft spread per slot: more where more pods of the group are; rounded half up."""
        total: Ints = np.zeros(len(self.key), np.int64)
        for counts in self.soft:
            rule, ids = counts.rule, counts.ids
            counts.refresh()
            if rule.topology_key == HOSTNAME:
                size, pods = int(np.count_nonzero(counted)), counts.column.counts
            else:
                seen = np.zeros(len(counts.totals), np.bool_)
                seen[ids[counted]] = True
                size, pods = int(np.count_nonzero(seen)), counts.totals[ids]
            part = pods * logarithm(size + 2) + ((rule.max_skew - 1) << PLACES)
            if not self.coupling.everywhere:
                part[ids == 0] = 0
            total += part
        total += 1 << (PLACES - 1)
        total >>= PLACES
        return total
