"""Chooses a node for one pod after the other, each seeing where the previous ones went.

Per class of pods, the key of every node is kept and only what changed since the class was last looked at is computed
again: after a placement of the same class, one node. A score depends on other nodes only through the largest taint
count and affinity sum among the feasible nodes; when one of these moves, the class's static scores are made anew.
"""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from daas.placement import scores
from daas.placement.batch import MAX_LEAVES
from daas.placement.columns import Columns
from daas.placement.coupling import FREE, Coupling
from daas.placement.keys import TIE_BITS, Keys
from daas.placement.limits import FEW_DOMAINS
from daas.placement.neighbours import Neighbours
from daas.placement.podclass import PodClass
from daas.placement.policy import Policy
from daas.placement.profile import Profile
from daas.placement.reasons import NONE, Reason
from daas.placement.resources import CPU, EPHEMERAL_STORAGE, MEMORY, Demand
from daas.placement.runs import Run, can_run
from daas.placement.selection import STATIC_REASONS
from daas.placement.state import ClusterState
from daas.placement.table import BUILT_IN, CPU_COLUMN, MEMORY_COLUMN, PODS_COLUMN, Ints, Mask, NodeTable
from daas.placement.view import View

#: Bytes of per-class columns that are kept, and the bytes they take per node.
_CACHE_BYTES = 160 * 1024 * 1024
_BYTES_PER_SLOT = 16
_LOG_LIMIT = 1 << 20

_SHORT = {
    CPU: Reason.INSUFFICIENT_CPU,
    MEMORY: Reason.INSUFFICIENT_MEMORY,
    EPHEMERAL_STORAGE: Reason.INSUFFICIENT_EPHEMERAL_STORAGE,
}


#: (reason, slots) that something beside the class keeps a pod out of.
Bars = tuple[tuple[Reason, Mask], ...]


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
        self._keys = Keys(policy, self.table)
        self._views: OrderedDict[tuple[bytes, bytes], View] = OrderedDict()
        self._last: View | None = None

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
        self._keys.begin(seed)

    def choose(
        self, wish: Wish, closed: Collection[str] = (), promised: str = "", within: Mask | None = None
    ) -> tuple[str, int] | None:
        """The best node for a pod and its score; None where no node will do. Counts the pod there.

        Args:
            wish: what is asked for.
            closed: names of nodes whose room is kept for others.
            promised: the node that is taken if it will do at all.
            within: slots that the pod's volumes let it use.
        """
        view = self._view(wish)
        if not self.table.count:
            return None
        if closed or promised or within is not None:
            best, slot = self._best_of_some(view, closed, promised, within)
        else:
            best, slot = self._best(view)
        if best < 0:
            return None
        self.table.take(slot, view.takes, view.extras)
        self.columns.count(wish.profile, slot, 1)
        name = self.table.names[slot]
        assert name is not None
        return name, best >> TIE_BITS

    def can_run(self, wish: Wish, most: int = MAX_LEAVES) -> bool:
        """Whether up to so many pods can be chosen for by `choose_many`, if this one is among them."""
        return bool(self.table.count) and can_run(self._view(wish), most)

    def choose_many(self, wishes: Sequence[Wish]) -> list[tuple[str, int]]:
        """`choose` for several that `can_run` in order, up to the first for which no node will do.

        It may end earlier, where one can't run any more beside those before it. No pod may bring terms that are about
        others among them, unless pods of its profile are on nodes already.
        """
        views: dict[int, View] = {}
        for wish in wishes:
            # columns have to be there before anything is counted in them
            if id(wish) not in views:
                views[id(wish)] = self._view(wish)
        going, names = Run(self._keys, self.table, self.columns), self.table.names
        chosen: list[tuple[str, int]] = []
        for _, alike in groupby(wishes, key=id):
            run = list(alike)
            wish = run[0]
            view = views[id(wish)]
            if not going.knows(view):
                going.settle()
                self._view(wish)
                if not going.begin(view, len(wishes) - len(chosen), alike=len(run)):
                    break
            placed = going.place(view, wish.profile, len(run))
            chosen += [(names[slot] or "", score) for slot, score in placed]
            if len(placed) < len(run):
                break
        going.settle()
        return chosen

    def _best_of_some(self, view: View, closed: Collection[str], promised: str, within: Mask | None) -> tuple[int, int]:
        key, slot_of = self._final(view, within).copy(), self.table.slot_of
        for name in closed:
            if name in slot_of:
                key[slot_of[name]] = -1
        slot = slot_of.get(promised, -1)
        if slot < 0 or key.item(slot) < 0:
            slot = int(key.argmax())
        return key.item(slot), slot

    def _best(self, view: View) -> tuple[int, int]:
        """(key, slot) of the best node; the key is -1 where there is none."""
        if view.hard and len(view.hard) == 1 and not view.scored_late and len(view.hard[0].totals) <= FEW_DOMAINS:
            return view.lead()
        key = self._final(view)
        slot = int(key.argmax())
        return key.item(slot), slot

    def count(self, demand: Demand, profile: Profile | None, node: str, step: int) -> None:
        """Counts a pod on a node (1) or no longer (-1), beside what the state says."""
        slot, columns = self.table.slot_of[node], self.table.columns
        rows = {columns[name]: amount for name, amount in demand.requests if name in columns}
        used = rows.get(CPU_COLUMN, 0), rows.get(MEMORY_COLUMN, 0)
        takes = np.array((0, 0, -demand.score_cpu_milli, -demand.score_memory_bytes, *used, -1, 0), np.int64)
        extras = tuple((row, amount) for row, amount in rows.items() if row >= BUILT_IN)
        self.table.take(slot, takes, extras, step)
        if profile is not None:
            self.columns.count(profile, slot, step)

    def fits_at(self, wish: Wish, node: str) -> bool:
        """Whether one node would do now, volumes aside."""
        return bool(self._feasible(self._view(wish))[self.table.slot_of[node]])

    def is_open(self, wish: Wish, node: str) -> bool:
        """Whether nothing about a node itself keeps the class away, so that fewer pods on it could help."""
        slot = self.table.slot_of.get(node)
        return slot is not None and bool(self._view(wish).open[slot])

    def any_feasible(self, wish: Wish, within: Mask | None = None) -> bool:
        """Whether some node would do now, among those that the pod's volumes let it use."""
        mask = self._feasible(self._view(wish))
        return bool(mask.any() if within is None else (mask & within).any())

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

    def refusals(self, wish: Wish, bars: Bars = ()) -> dict[Reason, int]:
        """How many nodes each filter refuses; a node that lacks several things counts for each.

        Args:
            wish: what is asked for.
            bars: (reason, slots) that the pod's volumes keep it out of.
        """
        return self._refusals(self._view(wish), bars)

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
                least, balanced = self._keys.resource_scores(view, slot)
                result[name] = {
                    "least_allocated": policy.weight_least_allocated * least,
                    "balanced_allocation": policy.weight_balanced_allocation * balanced,
                    "image_locality": 0 if view.images is None else view.images.item(slot),
                    **{part: values if isinstance(values, int) else values.item(slot) for part, values in late.items()},
                }
        return result

    # --- what a choice is made of

    def _feasible(self, view: View) -> Mask:
        return view.feasible & view.spread_mask() if view.hard else view.feasible

    def _final(self, view: View, within: Mask | None = None) -> Ints:
        """The comparison key of every slot, -1 where the pod may not go."""
        if within is None and not view.hard and not view.scored_late:
            return view.key
        mask = self._feasible(view)
        if within is not None:
            mask = mask & within
        elif not view.scored_late:
            return np.where(mask, view.key, -1)
        if not mask.any():
            return np.full(len(mask), -1, np.int64)
        total = (view.key >> TIE_BITS) - view.static
        for part in self._late_scores(view, mask).values():
            total += part
        total <<= TIE_BITS
        total += self._keys.ties
        total[~mask] = -1
        return total

    def _late_scores(self, view: View, mask: Mask) -> dict[str, Ints | int]:
        """Weighted scores that depend on which nodes are feasible, right where `mask` holds."""
        policy = self._policy
        likes: Ints | int = 0
        spread: Ints | int = 0
        most_taints = 0 if view.taints is None else int(view.taints[mask].max())
        most_affinity = 0 if view.affinity is None else int(view.affinity[mask].max())
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
            "taint_toleration": self._keys.taint_score(view, most_taints),
            "node_affinity": self._keys.affinity_score(view, most_affinity),
            "inter_pod_affinity": likes,
            "topology_spread": spread,
        }

    def _refusals(self, view: View, bars: Bars = ()) -> dict[Reason, int]:
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
        fitting &= count(Reason.TOO_MANY_PODS, nodes & (table.free(PODS_COLUMN) < 1))
        for name, amount in view.pod_class.demand.requests:
            row = table.columns.get(name)
            short = nodes if row is None else nodes & (table.free(row) < amount)
            fitting &= count(_SHORT.get(name, Reason.INSUFFICIENT_EXTENDED_RESOURCE), short)
        nodes = fitting
        for reason, bar in bars:
            nodes &= count(reason, nodes & bar)
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
        table, columns = self.table, self.columns
        view = self._last
        if (
            view is None
            or view.pod_class is not wish.pod_class
            or view.coupling is not wish.coupling
            or view.generation != (table.generation, columns.generation)
        ):
            view = self._last = self._find(wish)
        if view.static_at != table.static_at:
            self._keys.refresh_static(view)
        self._keys.refresh(view, view.couple(table, columns) if view.coupling.key else _NOTHING)
        return view

    def _find(self, wish: Wish) -> View:
        """The view of a wish, made where it isn't kept."""
        at = (wish.pod_class.key, wish.coupling.key)
        view = self._views.get(at)
        generation = (self.table.generation, self.columns.generation)
        if view is None or view.generation != generation:
            view = self._views[at] = View(wish.pod_class, wish.coupling, self.table, self.columns, generation)
            limit = max(16, _CACHE_BYTES // (_BYTES_PER_SLOT * self.table.slots))
            while len(self._views) > limit:
                self._views.popitem(last=False)
        self._views.move_to_end(at)
        return view


_NOTHING: list[int] = []
