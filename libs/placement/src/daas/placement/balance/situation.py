"""The committed input of a rebalance: the cluster, disruption budgets, what was moved lately, and the rules."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated

import msgspec

from daas.common import merkle
from daas.placement.allocation.cluster import Cluster
from daas.placement.allocation.errors import ClusterError
from daas.placement.model import LabelSelector, Model, Name, Pod
from daas.placement.resources import CPU, MEMORY
from daas.placement.storage import PodDisruptionBudget

MAX_BUDGETS = 4096
MAX_PAST_MOVES = 4096
MAX_MOVES = 10_000
MAX_RESOURCES = 8
#: A day: pods moved longer ago may move again under any policy.
MAX_COOLDOWN_MS = 86_400_000

_DOMAIN = b"k3s-daas/situation/1\x00"


class RebalancePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of a plan.

    Attributes:
        resources: whose load is balanced; each counts the same, in shares of capacity.
        max_moves: of a plan (the migration budget). max_per_node: from a node, and onto a node.
        max_per_owner: pods of one owner that a plan may disrupt.
        start_ppm: a plan may only begin where the potential lies more than this above its floor, in millionths.
        min_gain_ppb: a move has to gain at least this much of the potential before the plan, in billionths; and more
            than nothing in any case.
        cooldown_ms: for this long, an owner's pods don't return to a node that one of them was moved from, and don't
            leave a node that one of them was moved to.
    """

    resources: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_RESOURCES)] = (CPU, MEMORY)
    max_moves: int = 100
    max_per_node: int = 5
    max_per_owner: int = 1
    start_ppm: int = 50_000
    min_gain_ppb: int = 1_000
    cooldown_ms: int = 3_600_000

    def check(self) -> None:
        """Refuses values outside their range.

        Raises:
            ClusterError: `policy-range`, naming the field.
        """
        for field, value, most in (
            ("max_moves", self.max_moves, MAX_MOVES),
            ("max_per_node", self.max_per_node, MAX_MOVES),
            ("max_per_owner", self.max_per_owner, MAX_MOVES),
            ("start_ppm", self.start_ppm, 1_000_000_000),
            ("min_gain_ppb", self.min_gain_ppb, 1_000_000_000),
            ("cooldown_ms", self.cooldown_ms, MAX_COOLDOWN_MS),
        ):
            if not 0 <= value <= most:
                raise ClusterError(f"{field} is 0..{most}, not {value}", reason="policy-range", field=field)
        if not 1 <= len(set(self.resources)) == len(self.resources) <= MAX_RESOURCES:
            raise ClusterError(
                f"1 to {MAX_RESOURCES} distinct resources, not {self.resources}",
                reason="policy-range",
                field="resources",
            )


class Budget(Model, frozen=True, kw_only=True):
    """A PodDisruptionBudget: what it selects in its namespace, and how many of that may be disrupted now.

    `selector` and `disruptions_allowed` are the budget's spec.selector and status.disruptionsAllowed.
    """

    namespace: Name
    name: Name
    selector: LabelSelector | None = None
    disruptions_allowed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0


def committed_budgets(rules: Iterable[tuple[PodDisruptionBudget, int]]) -> tuple[Budget, ...]:
    """The budgets of a committed state, in order, with what each allows."""
    found = (
        Budget(
            namespace=budget.metadata.namespace,
            name=budget.metadata.name,
            selector=budget.spec.selector,
            disruptions_allowed=left,
        )
        for budget, left in rules
    )
    return tuple(sorted(found, key=lambda budget: (budget.namespace, budget.name)))


class PastMove(msgspec.Struct, frozen=True, kw_only=True):
    """That a pod of an owner was moved: the pod that was evicted is gone, its owner made another."""

    owner: str
    source: Name
    target: Name
    at_ms: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a plan is made from and checked against.

    Attributes:
        cluster: nodes and running pods; pending ones don't matter.
        budgets: by namespace and name.
        past: what was moved lately, in the order of time; older than the cooldown doesn't matter.
        now_ms: the time of the log that the cluster was folded from.
    """

    cluster: Cluster
    policy: RebalancePolicy = RebalancePolicy()
    budgets: Annotated[tuple[Budget, ...], msgspec.Meta(max_length=MAX_BUDGETS)] = ()
    past: Annotated[tuple[PastMove, ...], msgspec.Meta(max_length=MAX_PAST_MOVES)] = ()
    now_ms: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0

    def check(self) -> None:
        """Asserts order and bounds.

        Raises:
            ClusterError: `cluster-*`, `policy-range` or `situation-*`, naming the field.
        """
        self.cluster.check()
        self.policy.check()
        for field, count, most in (
            ("budgets", len(self.budgets), MAX_BUDGETS),
            ("past", len(self.past), MAX_PAST_MOVES),
        ):
            if count > most:
                raise ClusterError(f"at most {most} {field}, not {count}", reason="situation-size", field=field)
        keys = [(budget.namespace, budget.name) for budget in self.budgets]
        if any(before >= after for before, after in pairwise(keys)):
            raise ClusterError("budgets stand by namespace and name, once", reason="situation-order", field="budgets")

    def digest(self) -> bytes:
        """blake2b-256 over the domain tag and the JSON with sorted map keys, 32 bytes."""
        return merkle.digest(_DOMAIN + msgspec.json.encode(self, order="deterministic"))


def owner_of(pod: Pod) -> str | None:
    """namespace/kind/name of the controller that makes the pod anew when it is evicted; None where nothing does."""
    for reference in pod.metadata.owner_references or ():
        if reference.controller:
            return f"{pod.metadata.namespace}/{reference.kind}/{reference.name}"
    return None
