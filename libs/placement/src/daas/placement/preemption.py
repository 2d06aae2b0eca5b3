"""Preemption: which pods of lower priority have to go so that a pod that fits nowhere fits on one node.

The rules are those of kube-scheduler's DefaultPreemption, with two that are stricter: a pod can only make room among
pods of its own tenant, since priority orders nothing between tenants, and a plan that a PodDisruptionBudget forbids is
not made at all. Nothing is simulated by other rules than those that place pods: victims are taken out of the engine's
counts, the pod is tried, and the counts are put back.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from daas.placement.batch import Preemption, Victim
from daas.placement.engine import Engine, Wish
from daas.placement.plans import Budgets, never_preempts, planned_now, promised_before, started_at
from daas.placement.reasons import NONE, Reason
from daas.placement.records import PodRecord, PodState
from daas.placement.state import ClusterState

#: kube-scheduler looks until it has so many nodes that would do: a tenth of them, and at least a hundred.
CANDIDATES_MIN = 100
CANDIDATES_PART = 10
#: Plans in one decision, a group's counted once, and trials for all of them: a flood of pods that fit nowhere must not
#: hold up the log.
PLANS_MAX = 64
TRIALS_MAX = 4096
#: Room for the sum of priorities to grow with every victim: priorities are int32.
_PRIORITY_OFFSET = 2**31
#: Later than any time that is written: a pod that has not started is the least loss.
_NOT_STARTED = "~"


class Candidate(NamedTuple):
    """A node on which the pod would fit without these pods, most important first, and when each started."""

    node: str
    victims: tuple[PodRecord, ...]
    started: tuple[str, ...]


class Preemptor:
    """Makes plans for pods that were decided without a node, one decision at a time.

    Args:
        engine: counts what is tried.
        state: read, and put back after each trial.
        counted: the chooser's pods that the engine counts ahead of the state.
    """

    def __init__(self, engine: Engine, state: ClusterState, counted: set[str]) -> None:
        self._engine = engine
        self._state = state
        #: Pods that the engine counts on a node already, though the state does not know it yet.
        self._counted = counted
        #: Victims that an unfinished plan of a group has taken out of the counts.
        self.away: set[str] = set()
        self._seed = self._trials = self._plans = 0
        self._by_node: dict[str, dict[str, list[PodRecord]]] = {}
        #: Pods for whose like no plan was found, and how much had been decided by then.
        self._barren: dict[tuple[bytes, bytes, str, int], tuple[int, int]] = {}

    def begin(self, seed: int) -> None:
        """Starts a decision; `seed` says with which node the search begins."""
        self._seed = seed
        self._trials = self._plans = 0
        self._by_node = {}
        self._barren = {}

    def may_preempt(self, record: PodRecord) -> bool:
        """Whether making room can be thought of: cheap, and False for all pods where all are of one priority."""
        below = record.priority > self._state.lowest_priority(record.namespace)
        return record.plan is not None or (below and not never_preempts(record))

    def may_plan(self, record: PodRecord) -> bool:
        """Whether a pod that waits, and that no node would do for, may find a plan now: as cheap as `may_preempt`."""
        return self.may_preempt(record) and not self.under_way(record)

    def under_way(self, record: PodRecord) -> bool:
        """Whether an earlier plan still waits for its victims to go."""
        plan = record.plan
        return plan is not None and any(
            victim.node == plan.node for victim in map(self._state.pods.get, plan.victims) if victim is not None
        )

    def plan(self, record: PodRecord, wish: Wish) -> Preemption | Reason:
        """The node and victims of a new plan.

        Returns:
            NONE where there is no such plan, PREEMPTION_PUT_OFF where it was not looked for long enough to say.
        """
        if never_preempts(record) or wish.pod_class.unsupported:
            return NONE
        alike = (wish.pod_class.key, wish.coupling.key, record.namespace, record.priority)
        decided = (self._plans, len(self._state.assumed))
        alone = not record.claims and not record.nominated
        if alone and self._barren.get(alike) == decided:
            return NONE
        if self.exhausted:
            return Reason.PREEMPTION_PUT_OFF
        enough = max(CANDIDATES_MIN, self._engine.table.count // CANDIDATES_PART)
        best = self.best(record, wish, Budgets(self._state, record.namespace), enough)
        if not isinstance(best, Candidate):
            if alone and not best:
                self._barren[alike] = decided
            return best
        self.made()
        return preemption_of(record, best.node, best.victims)

    @property
    def exhausted(self) -> bool:
        """Whether this decision has looked for plans long enough."""
        return self._plans >= PLANS_MAX or self._trials >= TRIALS_MAX

    def made(self) -> None:
        """Counts a plan."""
        self._plans += 1

    def best(
        self, record: PodRecord, wish: Wish, budgets: Budgets, enough: int, barred: set[str] | None = None
    ) -> Candidate | Reason:
        """The least loss among the first nodes that would do; NONE or PREEMPTION_PUT_OFF as `plan`.

        Args:
            record: the pod.
            wish: what is asked for it.
            budgets: of its tenant.
            enough: so many nodes that would do are compared.
            barred: nodes that are passed over; those that would not do are added.
        """
        found: list[Candidate] = []
        for node in self._open_nodes(record, wish):
            if barred is not None and node in barred:
                continue
            if self._trials >= TRIALS_MAX:
                if not found:
                    return Reason.PREEMPTION_PUT_OFF
                break
            candidate = self._try(record, wish, node, budgets)
            if candidate is not None:
                found.append(candidate)
                if len(found) >= enough:
                    break
            elif barred is not None:
                barred.add(node)
        return pick(found) if found else NONE

    def outdone(self, record: PodRecord, node: str) -> list[PodRecord]:
        """Pods of the same tenant with less priority whose plans for a node are void now."""
        return [
            other
            for _, other in sorted(self._state.nominated.get(node, {}).items())
            if other.plan is not None
            and other.namespace == record.namespace
            and other.priority < record.priority
            and not is_mate(other, record)
            and not planned_now(self._state, other)
        ]

    # --- one node

    def _tenants_pods(self, namespace: str) -> dict[str, list[PodRecord]]:
        """Node to the tenant's pods that are bound there."""
        found = self._by_node.get(namespace)
        if found is None:
            found = self._by_node[namespace] = {}
            for node, pods in self._state.pods_on.items():
                mine = [p for p in pods.values() if p.namespace == namespace and p.state is PodState.BOUND]
                if mine:
                    found[node] = mine
        return found

    def _open_nodes(self, record: PodRecord, wish: Wish) -> Iterator[str]:
        """Nodes on which evictions could help, from the one on which the seed falls."""
        there = self._tenants_pods(record.namespace)
        names = sorted(node for node, pods in there.items() if any(p.priority < record.priority for p in pods))
        start = self._seed % max(len(names), 1)
        for node in (*names[start:], *names[:start]):
            if self._engine.is_open(wish, node):
                yield node

    def _try(self, record: PodRecord, wish: Wish, node: str, budgets: Budgets) -> Candidate | None:
        """The least that has to go from a node, kube-scheduler's way; None where it can't be done."""
        state = self._state
        below = [
            p
            for p in self._tenants_pods(record.namespace)[node]
            if p.priority < record.priority and p.uid not in self.away and not is_mate(p, record)
        ]
        leaving = [p for p in below if p.uid in state.victims or (p.profile is not None and p.profile.deleting)]
        gone = {p.uid for p in leaving}
        started = {p.uid: started_at(p) or _NOT_STARTED for p in below}
        ranked = sorted((p for p in below if p.uid not in gone), key=lambda p: (-p.priority, started[p.uid], p.uid))
        before = promised_before(state, record, node, self._counted)
        trial = _Trial(self._engine, state, record, wish, node)
        try:
            for other in before:
                trial.add_promised(other)
            for pod in (*leaving, *ranked):
                trial.remove(pod)
            self._trials += 1
            if not trial.fits():
                return None
            forbidden = budgets.violating(ranked)
            for pod in sorted(ranked, key=lambda p: p.uid not in forbidden):
                trial.put_back(pod)
                self._trials += 1
                if not trial.fits():
                    if pod.uid in forbidden:
                        return None
                    trial.remove(pod)
            victims = tuple(pod for pod in ranked if trial.is_out(pod))
        finally:
            trial.restore()
        return Candidate(node, victims, tuple(started[pod.uid] for pod in victims))


class _Trial:
    """The counts of one node with some pods taken out."""

    def __init__(self, engine: Engine, state: ClusterState, record: PodRecord, wish: Wish, node: str) -> None:
        self._engine = engine
        self._state = state
        self._record = record
        self._wish = wish
        self._node = node
        self._out: dict[str, tuple[PodRecord, tuple[tuple[tuple[str, str], str], ...]]] = {}
        self._promised: list[PodRecord] = []
        engine.fits_at(wish, node)  # so that everything that is counted for the pod is counted from before the trial

    def fits(self) -> bool:
        if not self._engine.fits_at(self._wish, self._node):
            return False
        record, state = self._record, self._state
        return not record.claims or not state.claims.refusal(record, state.nodes[self._node].node)

    def is_out(self, pod: PodRecord) -> bool:
        return pod.uid in self._out

    def add_promised(self, pod: PodRecord) -> None:
        self._engine.count(pod.demand, pod.profile, self._node, 1)
        self._promised.append(pod)

    def remove(self, pod: PodRecord) -> None:
        self._out[pod.uid] = (pod, pod.volumes)
        self._engine.count(pod.demand, pod.profile, self._node, -1)
        if pod.claims:
            self._state.claims.leave(pod)

    def put_back(self, pod: PodRecord) -> None:
        _, pod.volumes = self._out.pop(pod.uid)
        self._engine.count(pod.demand, pod.profile, self._node, 1)
        if pod.claims:
            self._state.claims.settle(pod)

    def restore(self) -> None:
        for pod, _ in list(self._out.values()):
            self.put_back(pod)
        for pod in self._promised:
            self._engine.count(pod.demand, pod.profile, self._node, -1)


def is_mate(one: PodRecord, other: PodRecord) -> bool:
    """Whether two pods are of one group."""
    return bool(one.gang) and (one.namespace, one.gang) == (other.namespace, other.gang)


def preemption_of(record: PodRecord, node: str, victims: Iterable[PodRecord]) -> Preemption:
    """The plan as it is signed."""
    gone = tuple(Victim(uid=v.uid, namespace=v.namespace, name=v.name) for v in victims)
    return Preemption(pod_uid=record.uid, node=node, victims=gone)


def pick(found: list[Candidate]) -> Candidate:
    """Of nodes that would do: the lowest highest priority of a victim, the lowest sum, the fewest, the latest start.

    Plans that violate budgets are not among them, so that rule of kube-scheduler comes first and never decides.
    """
    lowest = -_PRIORITY_OFFSET - 1
    best = min(c.victims[0].priority if c.victims else lowest for c in found)
    found = [c for c in found if (c.victims[0].priority if c.victims else lowest) == best]

    def total(candidate: Candidate) -> int:
        return sum(v.priority + _PRIORITY_OFFSET for v in candidate.victims)

    def earliest(candidate: Candidate) -> str:
        """When the first of the most important victims started."""
        times = [t for v, t in zip(candidate.victims, candidate.started, strict=True) if v.priority == best]
        return min(times, default=_NOT_STARTED)

    least = min(map(total, found))
    found = [c for c in found if total(c) == least]
    fewest = min(len(c.victims) for c in found)
    found = [c for c in found if len(c.victims) == fewest]
    latest = max(map(earliest, found))
    return next(c for c in found if earliest(c) == latest)
