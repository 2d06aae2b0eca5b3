"""What only pods have: binding to a node and eviction."""

from typing import Any

from daas.devstack.apiserver import errors
from daas.devstack.apiserver.admission import Chain
from daas.devstack.apiserver.deletes import Deleter
from daas.devstack.apiserver.disruption import take_from_budget
from daas.devstack.apiserver.request import Call, typed
from daas.devstack.apiserver.resources import BY_KEY, Object
from daas.devstack.apiserver.schema import message
from daas.devstack.apiserver.storage import Record, Storage
from daas.devstack.apiserver.writes import current, now, operation_of

PODS = BY_KEY["pods"]


def _refuse(name: str, why: str) -> errors.ApiError:
    return errors.conflict("pods/binding", "", name, why)


async def bind(storage: Storage, admission: Chain, call: Call, body: Any) -> None:
    """POST pods/NAME/binding, or bindings: give a pending pod its node, once.

    Annotations of the Binding go to the pod, a uid or resourceVersion in it must be the pod's.
    Raises ApiError 400, 404, 409, and 500 for a binding without a proper target, as the real server does.
    """
    binding = typed(body, "Binding", "v1", message("Binding"), validation=call.field_validation, warnings=call.warnings)
    meta, target = binding.get("metadata") or {}, binding.get("target") or {}
    name = call.target.name or meta.get("name", "")
    if meta.get("name", "") != name:
        raise errors.bad_request("name in URL does not match name in Binding object")
    namespace = call.target.namespace or ""
    if meta.get("namespace", namespace) != namespace:
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if target.get("kind", "Node") not in ("", "Node"):
        text = f'target.kind: Unsupported value: "{target["kind"]}": supported values: "Node", "<empty>"'
        raise errors.ApiError(500, "", text)
    if not target.get("name"):
        raise errors.ApiError(500, "", "target.name: Required value")
    operation = operation_of(call, "CREATE", name, resource=PODS, subresource="binding")
    binding = await admission.mutate(operation, binding)
    await admission.validate(operation, binding)
    meta, target = binding.get("metadata") or {}, binding.get("target") or {}
    record = storage.get(PODS, namespace, name)
    if record is None:
        raise errors.not_found("pods", "", name)
    pod = record.object()
    _check(record, pod, meta)
    if not call.dry_run:
        storage.update(PODS, _bound(pod, target["name"], meta.get("annotations") or {}))


def _check(record: Record, pod: Object, meta: Object) -> None:
    name = record.name
    if (uid := meta.get("uid")) and uid != pod["metadata"]["uid"]:
        failed = f"UID in precondition: {uid}, UID in object meta: {pod['metadata']['uid']}"
        raise errors.precondition("pods", "", record.namespace, name, failed)
    if (version := meta.get("resourceVersion")) and version != str(record.version):
        failed = f"ResourceVersion in precondition: {version}, ResourceVersion in object meta: {record.version}"
        raise errors.precondition("pods", "", record.namespace, name, failed)
    if pod["metadata"].get("deletionTimestamp"):
        raise _refuse(name, f"pod {name} is being deleted, cannot be assigned to a host")
    if node := pod["spec"].get("nodeName"):
        raise _refuse(name, f'pod {name} is already assigned to node "{node}"')
    if pod["spec"].get("schedulingGates"):
        raise _refuse(name, f"pod {name} has non-empty .spec.schedulingGates")


def _bound(pod: Object, node: str, annotations: Object) -> Object:
    pod["spec"]["nodeName"] = node
    if annotations:
        pod["metadata"]["annotations"] = (pod["metadata"].get("annotations") or {}) | annotations
    status = pod.setdefault("status", {})
    conditions = [one for one in status.get("conditions") or () if one.get("type") != "PodScheduled"]
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now()}
    status["conditions"] = [*conditions, scheduled]
    return pod


async def evict(storage: Storage, deleter: Deleter, call: Call, body: Any) -> None:
    """POST pods/NAME/eviction: delete with the options inside, where the pod's budget allows it.

    Raises ApiError 404, 409, 429 for a budget that is used up, and 500 where several budgets select the pod.
    """
    eviction = typed(
        body, "Eviction", "policy/v1", message("Eviction"), validation=call.field_validation, warnings=call.warnings
    )
    name = (eviction.get("metadata") or {}).get("name", call.target.name)
    if name != call.target.name:
        raise errors.bad_request("name in URL does not match name in Eviction object")
    record = current(storage, call)
    options = eviction.get("deleteOptions") or {}
    pod = record.object()
    uid = (options.get("preconditions") or {}).get("uid")
    if not uid or uid == pod["metadata"]["uid"]:
        take_from_budget(storage, pod, dry_run=call.dry_run)
    await deleter.delete(call, record, options)
