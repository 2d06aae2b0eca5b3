"""What etcd's gRPC status codes mean here: the same tree of errors as everywhere else."""

from typing import Final

import grpc

from daas.common.errors import Conflict, DaasError, InvalidInput, NotFound, Refused, Unavailable


class Compacted(Conflict):
    """The history that was asked for is gone: list again, then follow from that list's revision.

    Attributes:
        compact_revision: the oldest revision that is still there; 0 where the server did not say.
    """

    def __init__(self, message: str, *, compact_revision: int = 0) -> None:
        super().__init__(message, reason="etcd-compacted", field="revision")
        self.compact_revision = compact_revision


#: Codes after which another endpoint, or the same one later, may well answer.
TRANSIENT: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.CANCELLED,
    }
)


def from_status(code: grpc.StatusCode, details: str, what: str) -> DaasError:
    """The error that says who can do what about a status code.

    Args:
        code: the gRPC status.
        details: etcd's own sentence, such as `etcdserver: mvcc: required revision has been compacted`.
        what: the operation, for the message; never a value.
    """
    sentence = f"etcd {what}: {details or code.name.lower()}"
    if code is grpc.StatusCode.OUT_OF_RANGE:
        if "compacted" in details:
            return Compacted(sentence)
        return InvalidInput(sentence, reason="etcd-out-of-range", field="revision")
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidInput(sentence, reason="etcd-invalid-request")
    if code is grpc.StatusCode.NOT_FOUND:
        return NotFound(sentence, reason="etcd-not-found")
    if code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED):
        return Refused(sentence, reason="etcd-not-allowed")
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        return Conflict(sentence, reason="etcd-precondition")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if "larger than max" in details:
            return InvalidInput(sentence, reason="etcd-request-size")
        return Unavailable(sentence, reason="etcd-exhausted")
    return Unavailable(sentence, reason="etcd-unavailable")
