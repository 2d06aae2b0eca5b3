"""Refusals of the API server as Kubernetes `Status` objects, worded as kube-apiserver words them."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from daas.common.errors import DaasError


class Cause(NamedTuple):
    """One field error: `reason` as in metav1.CauseType, `message` without the field, `field` as a path."""

    reason: str
    message: str
    field: str


class ApiError(DaasError):
    """A request the API server refuses.

    Args:
        code: HTTP status.
        reason: metav1.StatusReason.
        message: what a client prints.
        details: `Status.details`, if any.
    """

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message, reason=reason)
        self.code = code
        self.text = message
        self.details = details

    def status(self) -> dict[str, Any]:
        """The `Status` object that goes into the body."""
        out: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.text,
        }
        if self.reason:
            out["reason"] = self.reason
        if self.details:
            out["details"] = self.details
        out["code"] = self.code
        return out


def qualified(resource: str, group: str) -> str:
    """`pods`, or `leases.coordination.k8s.io`: how messages name a resource."""
    return f"{resource}.{group}" if group else resource


def _details(resource: str, group: str, name: str) -> dict[str, Any]:
    out: dict[str, Any] = {"name": name} if name else {}
    if group:
        out["group"] = group
    out["kind"] = resource
    return out


def not_found(resource: str, group: str, name: str) -> ApiError:
    """404 for an object that does not exist."""
    text = f'{qualified(resource, group)} "{name}" not found'
    return ApiError(404, "NotFound", text, _details(resource, group, name))


def path_not_found() -> ApiError:
    """404 for a path or resource this server does not serve."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(resource: str, group: str, name: str) -> ApiError:
    """409 on creating a name that is taken."""
    text = f'{qualified(resource, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", text, _details(resource, group, name))


def conflict(resource: str, group: str, name: str, why: str) -> ApiError:
    """409 where the caller's view is stale."""
    text = f'Operation cannot be fulfilled on {qualified(resource, group)} "{name}": {why}'
    return ApiError(409, "Conflict", text, _details(resource, group, name))


def modified(resource: str, group: str, name: str) -> ApiError:
    """409 for a resourceVersion that is not the current one."""
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(resource, group, name, why)


def precondition(resource: str, group: str, namespace: str, name: str, failed: str) -> ApiError:
    """409 for a uid or resourceVersion precondition; `failed` says which."""
    where = f"{namespace}/{name}" if namespace else name
    why = (
        f"StorageError: invalid object, Code: 4, Key: /registry/{resource}/{where}, ResourceVersion: 0, "
        f"AdditionalErrorMsg: Precondition failed: {failed}"
    )
    return conflict(resource, group, name, why)


def precondition_of_delete(kind: str, group: str, name: str, failed: str) -> ApiError:
    """409 for a precondition of a delete: the kind is named, since storage is not asked; `failed` says which."""
    return conflict(kind, group, name, failed)


def unreadable_version(parameter: str, text: str) -> ApiError:
    """500, and no reason: what kube-apiserver says of a resource version that is no number."""
    why = f'{parameter}: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
    return ApiError(500, "", why)


def bad_request(text: str) -> ApiError:
    """400."""
    return ApiError(400, "BadRequest", text)


def forbidden(resource: str, group: str, name: str, why: str, causes: Iterable[Cause] = ()) -> ApiError:
    """403 by authorization or admission."""
    subject = f'{qualified(resource, group)} "{name}"' if name else qualified(resource, group)
    details = _details(resource, group, name)
    if listed := [cause._asdict() for cause in causes]:
        details["causes"] = listed
    return ApiError(403, "Forbidden", f"{subject} is forbidden: {why}", details)


def unauthorized() -> ApiError:
    """401 for a missing or unknown credential."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def invalid(kind: str, group: str, name: str, causes: list[Cause]) -> ApiError:
    """422 with every field error."""
    each = [f"{cause.field}: {cause.message}" for cause in causes]
    text = each[0] if len(each) == 1 else "[" + ", ".join(each) + "]"
    details = _details(kind, group, name)
    details["causes"] = [{"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes]
    return ApiError(422, "Invalid", f'{qualified(kind, group)} "{name}" is invalid: {text}', details)


def disruption(budget: str, healthy: int, needed: int) -> ApiError:
    """429: an eviction that a PodDisruptionBudget forbids."""
    cause = {
        "reason": "DisruptionBudget",
        "message": f"The disruption budget {budget} needs {needed} healthy pods and has {healthy} currently",
    }
    text = "Cannot evict pod as it would violate the pod's disruption budget."
    return ApiError(429, "TooManyRequests", text, {"causes": [cause]})


def expired(text: str) -> ApiError:
    """410: the resource version asked for has been compacted."""
    return ApiError(410, "Expired", text)


def too_large_version(asked: int, current: int) -> ApiError:
    """504: the resource version asked for has not happened yet."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    text = f"Timeout: Too large resource version: {asked}, current: {current}"
    return ApiError(504, "Timeout", text, {"causes": [cause], "retryAfterSeconds": 1})


def method_not_allowed() -> ApiError:
    """405."""
    text = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", text, {})


def unsupported_media_type(got: str, supported: Iterable[str]) -> ApiError:
    """415."""
    listed = ", ".join(supported)
    text = (
        f"the body of the request was in an unknown format ({got or 'none'}) - accepted media types include: {listed}"
    )
    return ApiError(415, "UnsupportedMediaType", text)


def required(field: str, detail: str = "") -> Cause:
    """field.Required."""
    return Cause("FieldValueRequired", f"Required value: {detail}" if detail else "Required value", field)


def invalid_value(field: str, value: object, detail: str) -> Cause:
    """field.Invalid."""
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return Cause("FieldValueInvalid", f"Invalid value: {shown}: {detail}", field)


def unsupported_value(field: str, value: str, allowed: Iterable[str]) -> Cause:
    """field.NotSupported."""
    listed = ", ".join(f'"{one}"' for one in sorted(allowed))
    return Cause("FieldValueNotSupported", f'Unsupported value: "{value}": supported values: {listed}', field)


def duplicate(field: str, value: str) -> Cause:
    """field.Duplicate."""
    return Cause("FieldValueDuplicate", f'Duplicate value: "{value}"', field)


def forbidden_field(field: str, detail: str) -> Cause:
    """field.Forbidden."""
    return Cause("FieldValueForbidden", f"Forbidden: {detail}", field)
