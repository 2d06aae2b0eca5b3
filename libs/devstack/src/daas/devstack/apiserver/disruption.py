"""PodDisruptionBudgets: what an eviction takes of them, and a simulated stand-in for the controller that counts them.

Without kubelets no pod gets ready; a pod on a node that is not going away counts as healthy here.
"""

import math

from daas.devstack.apiserver import errors
from daas.devstack.apiserver.followers import Follower
from daas.devstack.apiserver.resources import BY_KEY, Object
from daas.devstack.apiserver.storage import Event, Storage
from daas.devstack.apiserver.writes import now

_BUDGETS, _PODS = BY_KEY["poddisruptionbudgets.policy"], BY_KEY["pods"]
_ENDED = ("Succeeded", "Failed")


def _selects(budget: Object, pod: Object) -> bool:
    selector = budget["spec"].get("selector")
    if selector is None:
        return False
    labels = pod["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for one in selector.get("matchExpressions") or ():
        there, values = labels.get(one["key"]), one.get("values") or ()
        holds = {
            "In": there in values,
            "NotIn": there not in values,
            "Exists": there is not None,
            "DoesNotExist": there is None,
        }
        if not holds[one["operator"]]:
            return False
    return True


def take_from_budget(storage: Storage, pod: Object, *, dry_run: bool) -> None:
    """Counts an eviction against the pod's budget, as kube-apiserver does before it deletes.

    Raises ApiError 429 where the budget is used up, 500 where several select the pod.
    """
    meta = pod["metadata"]
    if pod.get("status", {}).get("phase") in _ENDED or meta.get("deletionTimestamp") or not pod["spec"].get("nodeName"):
        return
    mine = [r.object() for r in storage.records(_BUDGETS, meta["namespace"]) if _selects(r.object(), pod)]
    if len(mine) > 1:
        text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise errors.ApiError(500, "InternalError", text)
    if not mine:
        return
    budget = mine[0]
    status = budget.setdefault("status", {})
    if status.get("disruptionsAllowed", 0) <= 0:
        healthy, needed = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
        raise errors.disruption(budget["metadata"]["name"], healthy, needed)
    if not dry_run:
        status["disruptionsAllowed"] -= 1
        status["disruptedPods"] = (status.get("disruptedPods") or {}) | {meta["name"]: now()}
        storage.update(_BUDGETS, budget)


def _share(value: int | str, of: int) -> int:
    """A number, or a percentage rounded up."""
    return math.ceil(of * int(value[:-1]) / 100) if isinstance(value, str) else value


class SimulatedBudgets(Follower):
    """Says what each budget allows."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage, (_BUDGETS, _PODS))

    def cares(self, event: Event) -> bool:
        """Pods matter where there are budgets."""
        return event.resource == _BUDGETS.key or self._storage.count(_BUDGETS) > 0

    def settle(self) -> None:
        """Counts all budgets again."""
        for record in list(self._storage.records(_BUDGETS, None)):
            budget = record.object()
            pods = [r.object() for r in self._storage.records(_PODS, record.namespace)]
            pods = [p for p in pods if _selects(budget, p) and p.get("status", {}).get("phase") not in _ENDED]
            before = budget.get("status") or {}
            going = {p["metadata"]["name"] for p in pods if not p["metadata"].get("deletionTimestamp")}
            disrupted = {name: at for name, at in (before.get("disruptedPods") or {}).items() if name in going}
            healthy = sum(
                bool(p["spec"].get("nodeName")) and p["metadata"]["name"] in going - disrupted.keys() for p in pods
            )
            spec, expected = budget["spec"], len(pods)
            if "maxUnavailable" in spec:
                needed = max(expected - _share(spec["maxUnavailable"], expected), 0)
            else:
                needed = _share(spec.get("minAvailable", 0), expected)
            status = {
                "observedGeneration": budget["metadata"].get("generation", 0),
                "disruptionsAllowed": max(healthy - needed, 0) if expected else 0,
                "currentHealthy": healthy,
                "desiredHealthy": needed,
                "expectedPods": expected,
                **({"disruptedPods": disrupted} if disrupted else {}),
            }
            if status != before:
                budget["status"] = status
                self._storage.update(_BUDGETS, budget)
