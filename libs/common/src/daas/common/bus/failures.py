"""What the NATS client's errors mean in our error tree."""

from collections.abc import Iterator
from contextlib import contextmanager

import nats.errors
import nats.js.errors

from daas.common.errors import Conflict, DaasError, NotFound, Refused, Unavailable

#: A JetStream API error of this code or above is the server's trouble, below it is ours.
_SERVER_TROUBLE = 500
#: What JetStream calls "wrong last sequence": alone, and in a cluster where another write is on its way.
_NOT_AFTER = frozenset({10071, 10164})


def translate(error: Exception, what: str) -> DaasError:
    """The error of ours that says the same; `what` names the operation and its object."""
    if isinstance(error, DaasError):
        return error
    if isinstance(error, nats.js.errors.NotFoundError):
        return NotFound(f"{what}: {error.description or 'not found'}", reason="not-found")
    if isinstance(error, nats.js.errors.NoStreamResponseError | nats.errors.NoRespondersError):
        return Unavailable(f"{what}: JetStream does not answer, or the stream does not exist", reason="no-responders")
    if isinstance(error, nats.js.errors.APIError):
        text = f"{what}: {error.description} (JetStream error {error.err_code})"
        if error.err_code in _NOT_AFTER:
            return Conflict(text, reason="not-after")
        if error.code is None or error.code >= _SERVER_TROUBLE:
            return Unavailable(text, reason="jetstream-unavailable")
        return Refused(text, reason="jetstream-refused")
    if isinstance(error, TimeoutError):
        return Unavailable(f"{what}: no answer in time", reason="nats-timeout")
    if isinstance(error, nats.errors.Error | OSError):
        return Unavailable(f"{what}: {error}", reason="nats-unavailable")
    raise error


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raises the client's errors as ours."""
    try:
        yield
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise translate(error, what) from error
