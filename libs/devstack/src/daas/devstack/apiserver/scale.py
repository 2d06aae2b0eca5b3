"""The scale subresource of deployments and replica sets."""

from typing import Any

from daas.devstack.apiserver import errors, patch
from daas.devstack.apiserver.resources import Object


def read_scale(obj: Object) -> Object:
    """The Scale of a stored workload."""
    meta, spec = obj["metadata"], obj["spec"]
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    labels = (spec.get("selector") or {}).get("matchLabels") or {}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: meta[name] for name in names if name in meta},
        "spec": {"replicas": spec.get("replicas", 1)},
        "status": {
            "replicas": (obj.get("status") or {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        },
    }


def write_scale(obj: Object, body: Any, content_type: str, *, patch: bool) -> Object:
    """The workload with the replicas of a Scale, or of a patch to it. Raises ApiError 400 and 422."""
    scale: Any = _patched(read_scale(obj), body, content_type) if patch else body
    replicas = (scale.get("spec") or {}).get("replicas", 0) if isinstance(scale, dict) else None
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise errors.bad_request(f"Scale: spec.replicas must be a number, got {replicas!r}")
    if replicas < 0:
        cause = errors.invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")
        raise errors.invalid("Scale", "autoscaling", obj["metadata"]["name"], [cause])
    meta = dict(obj["metadata"])
    meta["resourceVersion"] = (scale.get("metadata") or {}).get("resourceVersion") or meta["resourceVersion"]
    return {**obj, "metadata": meta, "spec": {**obj["spec"], "replicas": replicas}}


def _patched(scale: Object, body: Any, content_type: str) -> Any:
    if content_type.startswith(patch.JSON_PATCH):
        return patch.json_patch(scale, body)
    return patch.merge_patch(scale, body)
