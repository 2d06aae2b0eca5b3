"""Who runs where while a plan is followed move by move: loads, room, budgets, and why a move may not be made.

Planner and verifier keep the same book; it is exact, in Python's integers.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from daas.placement.allocation.eligibility import Repulsion, accepts, coupling, needs_of
from daas.placement.balance import potential as measure
from daas.placement.balance.situation import Budget, Situation, owner_of
from daas.placement.model import Node, Pod
from daas.placement.resources import allocatable, pod_requests
from daas.placement.selectors import Selector, selector_of


class Refusal(StrEnum):
    """Why a move may not be made."""

    UNKNOWN_POD = "unknown-pod"
    UNKNOWN_NODE = "unknown-node"
    NOT_AT_SOURCE = "not-at-source"
    NOT_A_MOVE = "not-a-move"
    ENDING = "pod-is-ending"
    NO_OWNER = "pod-has-no-owner"
    PINNED = "pod-belongs-to-its-node"
    COUPLED = "pod-is-coupled-to-others"
    MOVED_ALREADY = "moved-already"
    MOVE_BUDGET = "move-budget"
    NODE_BUDGET = "node-budget"
    OWNER_BUDGET = "owner-budget"
    DISRUPTION_BUDGET = "disruption-budget"
    SEVERAL_BUDGETS = "several-disruption-budgets"
    RETURNING = "owner-left-target-lately"
    RESTLESS = "owner-came-to-source-lately"
    NOT_ACCEPTED = "target-does-not-accept"
    NO_ROOM = "target-has-no-room"
    GAIN_TOO_SMALL = "gain-too-small"


#: Controllers whose pods are tied to one node each: they come back to where they were.
_PINNING = frozenset({"DaemonSet", "Node"})


class Entry(NamedTuple):
    """A running pod as the book has it.

    Attributes:
        requests: resource to amount, exact. units: per balanced resource, in units.
        budgets: indices of the disruption budgets that select it.
        never: why it can't be moved whatever the target is, or None.
    """

    pod: Pod
    requests: dict[str, int]
    units: tuple[int, ...]
    owner: str
    budgets: tuple[int, ...]
    never: Refusal | None


class Book:
    """The state of a plan in progress.

    Args:
        situation: checked here.

    Raises:
        ClusterError: the situation is out of bounds.
        QuantityError: naming the field.
    """

    def __init__(self, situation: Situation) -> None:
        situation.check()
        self.situation = situation
        self.policy = situation.policy
        cluster = situation.cluster
        self.nodes: dict[str, Node] = {node.metadata.name: node for node in cluster.nodes}
        self.index = {name: n for n, name in enumerate(self.nodes)}
        capacity = [dict(allocatable(node)) for node in cluster.nodes]
        self.unit = [
            measure.unit_of([offered.get(resource, 0) for offered in capacity]) for resource in self.policy.resources
        ]
        self.weights = [
            [measure.weight(offered.get(r, 0), u) for r, u in zip(self.policy.resources, self.unit, strict=True)]
            for offered in capacity
        ]
        self.loads = [[0] * len(self.policy.resources) for _ in capacity]
        self.free = capacity
        self.pods: dict[str, Entry] = {}
        self.place: dict[str, str] = {}
        self._budgets = _Budgets(situation.budgets)
        for running in cluster.running:
            self._enter(running.node, running.pod)
        self._repulsion = Repulsion(cluster.running, self.nodes)
        self._accepts: dict[tuple[str, str], bool] = {}
        self.before = measure.potential(self.loads, self.weights)
        self.floor = measure.floor(self.loads, self.weights)
        self.gained = 0
        self.moved: set[str] = set()
        self._left: dict[str, int] = {}
        self._entered: dict[str, int] = {}
        self._disrupted: dict[str, int] = {}
        recent = [m for m in situation.past if m.at_ms + self.policy.cooldown_ms > situation.now_ms]
        self._no_return = {(m.owner, m.source) for m in recent}
        self._no_departure = {(m.owner, m.target) for m in recent}

    def _enter(self, node: str, pod: Pod) -> None:
        requests = dict(pod_requests(pod))
        owner = owner_of(pod)
        budgets = self._budgets.of(pod)
        units = tuple(
            measure.units(requests.get(r, 0), u) for r, u in zip(self.policy.resources, self.unit, strict=True)
        )
        uid = pod.metadata.uid
        self.pods[uid] = Entry(pod, requests, units, owner or "", budgets, _never(pod, owner, budgets))
        self.place[uid] = node
        if node in self.index:
            self._count(self.index[node], self.pods[uid], 1)

    def _count(self, n: int, entry: Entry, sign: int) -> None:
        free, loads = self.free[n], self.loads[n]
        for resource, amount in entry.requests.items():
            free[resource] = free.get(resource, 0) - sign * amount
        for d, amount in enumerate(entry.units):
            loads[d] += sign * amount

    @property
    def after(self) -> int:
        """The potential with all moves made so far."""
        return self.before - self.gained

    @property
    def may_start(self) -> bool:
        """Whether the cluster is unbalanced enough for any plan at all."""
        return (self.before - self.floor) * 1_000_000 > self.policy.start_ppm * self.floor

    def gain(self, uid: str, target: str) -> int:
        """What moving a pod that runs on a known node would gain now."""
        s, t = self.index[self.place[uid]], self.index[target]
        return measure.gain(self.pods[uid].units, (self.loads[s], self.weights[s]), (self.loads[t], self.weights[t]))

    def gains_enough(self, gain: int) -> bool:
        """Whether a move's gain is worth a disruption."""
        return gain > 0 and gain * 1_000_000_000 >= self.policy.min_gain_ppb * self.before

    def source_refusal(self, uid: str) -> Refusal | None:
        """Why a pod may not be moved now, wherever to; None where it may."""
        entry = self.pods.get(uid)
        if entry is None:
            return Refusal.UNKNOWN_POD
        source = self.place[uid]
        if source not in self.index:
            return Refusal.UNKNOWN_NODE
        if entry.never is not None:
            return entry.never
        if uid in self.moved:
            return Refusal.MOVED_ALREADY
        if len(self.moved) >= self.policy.max_moves:
            return Refusal.MOVE_BUDGET
        if self._left.get(source, 0) >= self.policy.max_per_node:
            return Refusal.NODE_BUDGET
        if self._disrupted.get(entry.owner, 0) >= self.policy.max_per_owner:
            return Refusal.OWNER_BUDGET
        if any(self._budgets.left[b] < 1 for b in entry.budgets):
            return Refusal.DISRUPTION_BUDGET
        if (entry.owner, source) in self._no_departure:
            return Refusal.RESTLESS
        return None

    def target_refusal(self, uid: str, target: str) -> Refusal | None:
        """Why a pod may not be moved to this node now, its gain apart; None where it may."""
        entry = self.pods[uid]
        if target not in self.index:
            return Refusal.UNKNOWN_NODE
        if target == self.place[uid]:
            return Refusal.NOT_A_MOVE
        if self._entered.get(target, 0) >= self.policy.max_per_node:
            return Refusal.NODE_BUDGET
        if (entry.owner, target) in self._no_return:
            return Refusal.RETURNING
        free = self.free[self.index[target]]
        if any(amount > free.get(resource, 0) for resource, amount in entry.requests.items()):
            return Refusal.NO_ROOM
        if (uid, target) not in self._accepts:
            needs = needs_of(entry.pod, self._repulsion.domains(entry.pod))
            self._accepts[uid, target] = accepts(self.nodes[target], needs)
        return None if self._accepts[uid, target] else Refusal.NOT_ACCEPTED

    def move(self, uid: str, target: str) -> int:
        """Makes a move that was looked at, and returns its gain."""
        entry, source = self.pods[uid], self.place[uid]
        gained = self.gain(uid, target)
        self._count(self.index[source], entry, -1)
        self._count(self.index[target], entry, 1)
        self.place[uid] = target
        self.moved.add(uid)
        self._left[source] = self._left.get(source, 0) + 1
        self._entered[target] = self._entered.get(target, 0) + 1
        self._disrupted[entry.owner] = self._disrupted.get(entry.owner, 0) + 1
        for budget in entry.budgets:
            self._budgets.left[budget] -= 1
        self._no_return.add((entry.owner, source))
        self._no_departure.add((entry.owner, target))
        self.gained += gained
        return gained


def _never(pod: Pod, owner: str | None, budgets: tuple[int, ...]) -> Refusal | None:
    if pod.metadata.deletion_timestamp:
        return Refusal.ENDING
    if owner is None:
        return Refusal.NO_OWNER
    if owner.split("/")[1] in _PINNING:
        return Refusal.PINNED
    if coupling(pod) is not None:
        return Refusal.COUPLED
    # the eviction API refuses a pod that more than one budget selects
    return Refusal.SEVERAL_BUDGETS if len(budgets) > 1 else None


class _Budgets:
    """Disruption budgets, and what is left of them."""

    def __init__(self, budgets: Iterable[Budget]) -> None:
        self.left: list[int] = []
        self._in: dict[str, list[tuple[int, Selector]]] = {}
        for index, budget in enumerate(budgets):
            self.left.append(budget.disruptions_allowed)
            self._in.setdefault(budget.namespace, []).append((index, selector_of(budget.selector)))

    def of(self, pod: Pod) -> tuple[int, ...]:
        """Which budgets select a pod; unknown operators count as selecting."""
        labels = pod.metadata.labels or {}
        return tuple(i for i, selector in self._in.get(pod.metadata.namespace, ()) if selector.selects(labels))
