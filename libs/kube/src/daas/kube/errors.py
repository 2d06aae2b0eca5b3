"""What an API server's refusal means to us: its Status answers as errors of the one tree.

KubeInvalid      400, 405, 413, 415, 422  the request itself is wrong
KubeRefused      401, 403                 credentials or RBAC say no
KubeNotFound     404                      no such object
KubeConflict     409                      the object has moved on, or exists already
└── Gone         410                      the resource version or continue token is too old: list again
KubeUnavailable  429, 5xx, no connection  the same request may succeed later; `retry_after_s` where the server says when
"""

import math

import msgspec

from daas.common.errors import Conflict, DaasError, InvalidInput, NotFound, Refused, Unavailable

#: A server that asks for more than this is treated as away: waiting longer is for the caller's own backoff to decide.
RETRY_AFTER_S_MAX = 60.0
#: A Status message goes into errors and logs: long ones (a whole object in a validation error) are cut.
MESSAGE_LENGTH_MAX = 1024


class KubeInvalid(InvalidInput):
    """The API server says the request itself is wrong."""


class KubeRefused(Refused):
    """Credentials or RBAC say no."""


class KubeNotFound(NotFound):
    """No such object, or no such resource type."""


class KubeConflict(Conflict):
    """The object has moved on (resource version, uid, already bound) or exists already."""


class Gone(KubeConflict):
    """A resource version or a continue token is too old: the caller must list again."""


class KubeUnavailable(Unavailable):
    """The API server is away, overloaded or slow.

    Attributes:
        retry_after_s: seconds the server asked for (Retry-After), None where it did not say.
    """

    retry_after_s: float | None = None


class StatusDetails(msgspec.Struct, frozen=True, rename="camel"):
    """`details` of a Status: which object, and when to come back."""

    name: str = ""
    kind: str = ""
    retry_after_seconds: int | None = None


class Status(msgspec.Struct, frozen=True):
    """metav1.Status: how an API server refuses, and how it answers a binding."""

    status: str = ""
    reason: str = ""
    message: str = ""
    code: int = 0
    details: StatusDetails | None = None


_STATUS = msgspec.json.Decoder(Status)


def decode_status(body: bytes) -> Status:
    """The Status in a body; an empty one where the body is something else (a proxy's page, say)."""
    try:
        return _STATUS.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return Status(message=body[:200].decode(errors="replace"))


def error_of(code: int, status: Status, what: str, retry_after: str | None = None) -> DaasError:
    """The error for a refusal.

    Args:
        code: HTTP status, or the code inside a watch's ERROR event.
        status: the decoded body.
        what: method and path of the request.
        retry_after: the Retry-After header, in seconds; dates are ignored.
    """
    text = f"{what}: {code} {status.reason}: {status.message}"[:MESSAGE_LENGTH_MAX]
    if code == 404:
        return KubeNotFound(text, reason="kube-not-found")
    if code == 410 or status.reason in {"Expired", "Gone"}:
        return Gone(text, reason="kube-gone")
    if code == 409:
        return KubeConflict(text, reason="kube-already-exists" if status.reason == "AlreadyExists" else "kube-conflict")
    if code in {401, 403}:
        return KubeRefused(text, reason="kube-unauthorized" if code == 401 else "kube-forbidden")
    if code == 429 or code >= 500:
        error = KubeUnavailable(text, reason="kube-overloaded" if code == 429 else "kube-server-error")
        error.retry_after_s = _seconds(retry_after, status)
        return error
    return KubeInvalid(text, reason="kube-invalid")


def _seconds(header: str | None, status: Status) -> float | None:
    try:
        seconds = float(header) if header else None
    except ValueError:
        seconds = None
    if seconds is None and status.details and status.details.retry_after_seconds:
        seconds = float(status.details.retry_after_seconds)
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return None
    return min(seconds, RETRY_AFTER_S_MAX)
