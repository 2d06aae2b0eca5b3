"""Plans of preemption: what disruption budgets leave, and what is wrong with a plan that was published.

Nothing here looks for a plan.
"""

from collections.abc import Collection, Iterable

import msgspec

from daas.placement.batch import Preemption
from daas.placement.model import Text
from daas.placement.records import PENDING, TAKES_CAPACITY, PodRecord, PodState
from daas.placement.selectors import selector_of
from daas.placement.state import ClusterState
from daas.placement.storage import PodDisruptionBudget


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    start_time: Text = ""


class _Standing(msgspec.Struct, frozen=True):
    """What preemption reads of a pod beside its record and kind."""

    status: _Status = _Status()


_STANDING = msgspec.json.Decoder(_Standing)


def started_at(record: PodRecord) -> str:
    """When a pod started; "" where it has not."""
    return _STANDING.decode(record.encoded).status.start_time


def never_preempts(record: PodRecord) -> bool:
    """Whether nobody is evicted for a pod."""
    return record.kind is not None and record.kind.never


class Budgets:
    """What the budgets of one namespace allow, less what plans have promised to evict."""

    def __init__(self, state: ClusterState, namespace: str) -> None:
        self._rules = [(budget, selector_of(budget.spec.selector)) for budget in state.budgets().get(namespace, ())]
        self._left = [
            budget.status.disruptions_allowed
            - sum(
                record is not None and record.state is PodState.BOUND and i in self._of(record)
                for record in map(state.pods.get, state.victims)
            )
            for i, (budget, _) in enumerate(self._rules)
        ]

    @property
    def left(self) -> list[tuple[PodDisruptionBudget, int]]:
        """Each budget with what it still allows, never below 0."""
        return [(budget, max(left, 0)) for (budget, _), left in zip(self._rules, self._left, strict=True)]

    def overdrawn_by(self, pods: Iterable[PodRecord]) -> bool:
        """Whether plans promise more evictions than a budget allows that speaks of one of these pods."""
        return any(self._left[i] < 0 for record in pods for i in self._of(record))

    def _of(self, record: PodRecord) -> list[int]:
        """The budgets that still count a pod's eviction."""
        if record.profile is None or record.profile.deleting:
            return []
        labels = record.profile.labels
        return [
            i
            for i, (budget, selector) in enumerate(self._rules)
            if not selector.nothing
            and record.namespace == budget.metadata.namespace
            and selector.selects(labels)
            and record.name not in (budget.status.disrupted_pods or {})
        ]

    def spend(self, pods: Iterable[PodRecord]) -> None:
        """Counts evictions that are promised from now on."""
        for record in pods:
            for i in self._of(record):
                self._left[i] -= 1

    def violating(self, pods: Iterable[PodRecord]) -> set[str]:
        """Of pods that would be evicted in this order: those that a budget forbids. Two budgets forbid together."""
        left, found = list(self._left), set()
        for record in pods:
            mine = self._of(record)
            for i in mine:
                left[i] -= 1
            if len(mine) > 1 or any(left[i] < 0 for i in mine):
                found.add(record.uid)
        return found


def promised_before(
    state: ClusterState, record: PodRecord, node: str, counted: Collection[str] = ()
) -> list[PodRecord]:
    """The pods whose promise of a node comes before another pod: of no less priority, or of another tenant.

    Those that are `counted` on a node already need no promise. What the decision that is being made has promised
    stands: it is signed with the rest of it.
    """
    return [
        other
        for _, other in sorted(state.nominated.get(node, {}).items())
        if other is not record
        and not other.node
        and other.uid not in counted
        and (other.priority >= record.priority or other.namespace != record.namespace or planned_now(state, other))
    ]


def planned_now(state: ClusterState, record: PodRecord) -> bool:
    """Whether the decision that is being made promised the pod its node."""
    return record.plan is not None and record.plan.sequence == state.deciding


def short_of_plans(state: ClusterState, record: PodRecord, sequence: int) -> bool:
    """Whether fewer pods of a group are placed or planned for by a decision than are placed together."""
    key = (record.namespace, record.gang)
    ready = sum(
        mate.state in TAKES_CAPACITY or (mate.plan is not None and mate.plan.sequence == sequence)
        for mate in state.gangs[key].values()
    )
    return ready < (state.gang_size(key) or ready + 1)


def broken_plan(state: ClusterState, preemption: Preemption, sequence: int) -> str | None:
    """What is wrong with a plan in the state after its decision, as one phrase; None where nothing is.

    That it was needed, and the best, is for a replay to say.
    """
    record = state.pods.get(preemption.pod_uid)
    if record is None or record.state not in PENDING or record.plan is None:
        return "the pod has no plan"
    if (record.plan.sequence, record.plan.node) != (sequence, preemption.node):
        return "the pod has another plan"
    if record.plan.victims != tuple(victim.uid for victim in preemption.victims):
        return "the pod has other victims"
    if never_preempts(record):
        return "the pod never preempts"
    for victim in preemption.victims:
        found = state.pods.get(victim.uid)
        if found is None or (found.namespace, found.name) != (victim.namespace, victim.name):
            return f"{victim.name} is not there"
        if found.namespace != record.namespace:
            return f"{victim.name} is of another tenant"
        if found.state is not PodState.BOUND or found.node != preemption.node:
            return f"{victim.name} is not on {preemption.node}"
        if found.priority >= record.priority:
            return f"{victim.name} has no less priority"
    if record.gang and short_of_plans(state, record, sequence):
        return "the rest of its group has no plan"
    # a budget that allows less than it did when an earlier plan was made says nothing about this one
    victims = [state.pods[victim.uid] for victim in preemption.victims]
    return "a budget forbids it" if Budgets(state, record.namespace).overdrawn_by(victims) else None
