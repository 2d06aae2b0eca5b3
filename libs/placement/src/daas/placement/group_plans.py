"""Room for a whole group of pods: one plan for as many of them as are placed together, or none.

The pods are taken in their order, each where it fits by itself, else where the least has to go for it; all of them and
all that goes is counted while the next one is looked at. At the end each must still stand beside all others. Nothing
of this stays: whatever was counted is put back, and the group is placed by a later decision, by the rules for all.
"""

from collections.abc import Callable
from functools import partial

from daas.placement.batch import Preemption
from daas.placement.choosing import Chooser
from daas.placement.engine import Engine
from daas.placement.plans import Budgets
from daas.placement.preemption import CANDIDATES_MIN, Candidate, Preemptor, preemption_of
from daas.placement.reasons import NONE, Reason
from daas.placement.records import PodRecord
from daas.placement.state import ClusterState

#: A larger plan would make the signed message larger than the bus takes.
VICTIMS_MAX = 4096


class GroupPlanner:
    """Makes plans for groups, one at a time.

    Args:
        state: read, and put back after each attempt.
        engine: counts what is tried.
        chooser: finds room that is there.
        preemptor: finds room that can be made.
    """

    def __init__(self, state: ClusterState, engine: Engine, chooser: Chooser, preemptor: Preemptor) -> None:
        self._state = state
        self._engine = engine
        self._chooser = chooser
        self._preemptor = preemptor
        self._undo: list[Callable[[], None]] = []

    def plan(self, records: list[PodRecord], needed: int) -> tuple[Preemption, ...] | Reason:
        """Nodes for `needed` pods of a group, with who has to go for each.

        Args:
            records: the pods of the group that are due, in their order.
            needed: how many of them are placed together.

        Returns:
            NONE where there is no such plan, PREEMPTION_PUT_OFF where it was not looked for long enough to say.
        """
        if self._preemptor.exhausted:
            return Reason.PREEMPTION_PUT_OFF
        try:
            found = self._fill(records, needed)
            if isinstance(found, Reason):
                return found
            if not any(victims for _, _, victims in found) or not self._all_stand([pair[:2] for pair in found]):
                return NONE
        finally:
            while self._undo:
                self._undo.pop()()
            self._preemptor.away.clear()
        self._preemptor.made()
        return tuple(preemption_of(record, node, victims) for record, node, victims in found)

    def _fill(
        self, records: list[PodRecord], needed: int
    ) -> list[tuple[PodRecord, str, tuple[PodRecord, ...]]] | Reason:
        """Pods with their nodes and victims, all counted as if it were so."""
        found: list[tuple[PodRecord, str, tuple[PodRecord, ...]]] = []
        budgets = Budgets(self._state, records[0].namespace)
        barred: dict[tuple[bytes, bytes, int], set[str]] = {}
        enough = max(CANDIDATES_MIN // needed, 1)
        for position, record in enumerate(records):
            if len(found) + len(records) - position < needed:
                return NONE
            victims: tuple[PodRecord, ...] = ()
            node = self._chooser.seek(record).node
            if node is None:
                wish = self._chooser.wish(record)
                if wish.pod_class.unsupported or not self._preemptor.may_preempt(record):
                    continue
                out = barred.setdefault((wish.pod_class.key, wish.coupling.key, record.priority), set())
                best = self._preemptor.best(record, wish, budgets, enough, out)
                if isinstance(best, Reason):
                    if best:
                        return best
                    continue
                node, victims = best.node, best.victims
                self._take_out(best, budgets)
                self._engine.count(record.demand, record.profile, node, 1)
            self._hold(record, node)
            found.append((record, node, victims))
            if sum(len(gone) for _, _, gone in found) > VICTIMS_MAX:
                return NONE
            if len(found) == needed:
                return found
        return NONE

    def _take_out(self, best: Candidate, budgets: Budgets) -> None:
        budgets.spend(best.victims)
        for victim in best.victims:
            self._preemptor.away.add(victim.uid)
            self._uncount(victim, best.node)
            self._undo.append(partial(self._recount, victim, best.node, victim.volumes))
            if victim.claims:
                self._state.claims.leave(victim)

    def _hold(self, record: PodRecord, node: str) -> None:
        """A pod of the group, which the engine counts on a node, is there for all others too."""
        state = self._state
        assert record.profile is not None, "a due pod has a profile"
        state.neighbours.add(record.profile, node, tell=False)
        if record.claims:
            state.claims.lend(record, state.nodes[node].node)
        self._chooser.counted.add(record.uid)
        self._undo.append(partial(self._release, record, node))

    def _release(self, record: PodRecord, node: str) -> None:
        self._chooser.counted.discard(record.uid)
        if record.claims:
            self._state.claims.give_back(record)
        self._uncount(record, node)

    def _uncount(self, record: PodRecord, node: str) -> None:
        assert record.profile is not None, "a pod on a node has a profile"
        self._state.neighbours.remove(record.profile, node, tell=False)
        self._engine.count(record.demand, record.profile, node, -1)

    def _recount(self, record: PodRecord, node: str, volumes: tuple[tuple[tuple[str, str], str], ...]) -> None:
        assert record.profile is not None, "a pod on a node has a profile"
        self._state.neighbours.add(record.profile, node, tell=False)
        self._engine.count(record.demand, record.profile, node, 1)
        if record.claims:
            record.volumes = volumes
            self._state.claims.settle(record)

    def _all_stand(self, held: list[tuple[PodRecord, str]]) -> bool:
        """Whether each pod has its place beside all others, who has to go being gone."""
        state = self._state
        for record, node in held:
            self._release(record, node)
            fits = self._engine.fits_at(self._chooser.wish(record), node)
            if fits and record.claims:
                fits = not state.claims.refusal(record, state.nodes[node].node)
            self._engine.count(record.demand, record.profile, node, 1)
            assert record.profile is not None, "a due pod has a profile"
            state.neighbours.add(record.profile, node, tell=False)
            if record.claims:
                state.claims.lend(record, state.nodes[node].node)
            self._chooser.counted.add(record.uid)
            if not fits:
                return False
        return True
