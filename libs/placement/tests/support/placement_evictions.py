"""A naive reference of preemption, written to be read: every subset of rules in the order kube-scheduler has them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from daas.placement.model import Pod

Fits = Callable[[str, list[Pod]], bool]


class Plan(NamedTuple):
    node: str
    victims: list[str]


def priority(pod: Pod) -> int:
    return pod.spec.priority or 0


def started(pod: Pod) -> str:
    return pod.status.start_time or "9999"


def forbidden_by(budgets: list[dict[str, Any]], pods: list[Pod]) -> set[str]:
    """Names of pods that a budget forbids to evict, where they are evicted in this order."""
    left = [budget["allowed"] for budget in budgets]
    found = set()
    for pod in pods:
        labels = pod.metadata.labels or {}
        mine = [i for i, b in enumerate(budgets) if all(labels.get(k) == v for k, v in b["labels"].items())]
        for i in mine:
            left[i] -= 1
        if len(mine) > 1 or any(left[i] < 0 for i in mine):
            found.add(pod.metadata.name)
    return found


def plan_on(pod: Pod, node: str, there: list[Pod], budgets: list[dict[str, Any]], fits: Fits) -> list[Pod] | None:
    """The pods that have to leave a node; None where that is not enough or not allowed."""
    mine = [p for p in there if p.metadata.namespace == pod.metadata.namespace and priority(p) < priority(pod)]
    mine.sort(key=lambda p: (-priority(p), started(p), p.metadata.uid))
    staying = [p for p in there if p not in mine]
    if not mine or not fits(node, staying):
        return None
    forbidden = forbidden_by(budgets, mine)
    victims = []
    for candidate in [p for p in mine if p.metadata.name in forbidden] + [
        p for p in mine if p.metadata.name not in forbidden
    ]:
        if fits(node, [*staying, candidate]):
            staying.append(candidate)
        elif candidate.metadata.name in forbidden:
            return None
        else:
            victims.append(candidate)
    return [p for p in mine if p in victims]


def best_plans(pod: Pod, on: Mapping[str, list[Pod]], budgets: list[dict[str, Any]], fits: Fits) -> list[Plan]:
    """All plans that nothing but the node's name sets apart; none where there is none."""
    found = {
        node: victims for node, there in on.items() if (victims := plan_on(pod, node, there, budgets, fits)) is not None
    }

    def rank(victims: list[Pod]) -> tuple[Any, ...]:
        most = priority(victims[0])
        return most, sum(priority(p) + 2**31 for p in victims), len(victims)

    if not found:
        return []
    least = min(map(rank, found.values()))
    equal = {node: victims for node, victims in found.items() if rank(victims) == least}
    first = {
        node: min(started(p) for p in victims if priority(p) == priority(victims[0])) for node, victims in equal.items()
    }
    latest = max(first.values())
    return [Plan(node, [p.metadata.name for p in v]) for node, v in equal.items() if first[node] == latest]
