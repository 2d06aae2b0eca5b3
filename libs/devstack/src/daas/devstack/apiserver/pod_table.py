"""The row of a pod in `kubectl get pods`: readiness, status word and restarts, as the real server derives them."""

from collections.abc import Callable
from typing import Any

Object = dict[str, Any]


def _init_reason(pod: Object, reason: str) -> tuple[str, bool]:
    statuses = (pod.get("status") or {}).get("initContainerStatuses") or []
    total = len((pod.get("spec") or {}).get("initContainers") or ())
    for index, one in enumerate(statuses):
        state = one.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting")
        if ended is not None and ended.get("exitCode") == 0:
            continue
        if ended is not None:
            why = ended.get("reason") or (
                f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode')}"
            )
            return f"Init:{why}", True
        if waiting and waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}", True
        return f"Init:{index}/{total}", True
    return reason, False


def _container_reason(statuses: list[Object], reason: str) -> tuple[str, bool]:
    running = False
    for one in reversed(statuses):
        state = one.get("state") or {}
        if (waiting := state.get("waiting")) and waiting.get("reason"):
            reason = waiting["reason"]
        elif (ended := state.get("terminated")) is not None:
            reason = ended.get("reason") or (
                f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode')}"
            )
        elif one.get("ready") and "running" in state:
            running = True
    return reason, running


def _status_word(pod: Object) -> str:
    status = pod.get("status") or {}
    conditions = status.get("conditions") or ()
    reason: str = status.get("reason") or status.get("phase", "")
    if any(one.get("type") == "PodScheduled" and one.get("reason") == "SchedulingGated" for one in conditions):
        reason = "SchedulingGated"
    reason, initializing = _init_reason(pod, reason)
    if not initializing:
        reason, running = _container_reason(status.get("containerStatuses") or [], reason)
        if reason == "Completed" and running:
            ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
            reason = "Running" if ready else "NotReady"
    if pod["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return reason


def pod_cells(pod: Object, age: Callable[[str | None], str]) -> list[Any]:
    """The nine cells of a pod's row; `age` prints the time since a timestamp."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    statuses = status.get("containerStatuses") or []
    ready = sum(1 for one in statuses if one.get("ready") and "running" in (one.get("state") or {}))
    restarts = sum(one.get("restartCount", 0) for one in statuses)
    gates = spec.get("readinessGates") or ()
    passed = {one.get("type") for one in status.get("conditions") or () if one.get("status") == "True"}
    gate_count = sum(1 for gate in gates if gate.get("conditionType") in passed)
    return [
        pod["metadata"]["name"],
        f"{ready}/{len(spec.get('containers') or ())}",
        _status_word(pod),
        str(restarts),
        age(pod["metadata"].get("creationTimestamp")),
        status.get("podIP") or "<none>",
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        f"{gate_count}/{len(gates)}" if gates else "<none>",
    ]
