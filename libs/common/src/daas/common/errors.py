"""The error tree: every refusal carries a machine-readable reason, one human sentence and the offending field.

DaasError
├── InvalidInput          what was sent is malformed, oversized or contradictory; sending it again can't help
│   └── DecodeError       bytes that are not the encoding they claim to be (BCS, JSON, CBOR)
├── Refused               well-formed, but a rule says no (a signature, a policy, a predecessor)
├── Conflict              the state has moved on; the caller holds a stale view
├── NotFound              no such object
├── Unavailable           a server is away or slow; the same request may succeed later
└── ConfigurationError    a setting is missing, unknown or contradictory: the process must not start

Libraries subclass these; the class says who can do what about it, the reason says what happened.
"""

from typing import Any

import msgspec


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A refusal as it crosses the bus or HTTP: the same three fields everywhere."""

    reason: str
    message: str
    field: str | None = None


class DaasError(Exception):
    """Base of all errors of this project.

    Args:
        message: one human sentence: what was expected, what came, where. Never a secret or a key.
        reason: machine-readable, kebab-case, stable across releases.
        field: path of the offending field, if one is to blame.
    """

    http_status = 500
    #: The input holds what must not be copied anywhere: whoever keeps the refusal keeps a digest instead.
    redacted = False

    def __init__(self, message: str, *, reason: str, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.field = field

    def __str__(self) -> str:
        """The sentence, with the reason and field that programs look for."""
        where = f" (field {self.field})" if self.field else ""
        return f"{self.message} [{self.reason}]{where}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross process borders in tests and pools with their reason intact."""
        return _rebuild, (type(self), self.message, self.reason, self.field)

    def problem(self) -> Problem:
        """The error as a value for messages and HTTP bodies."""
        return Problem(reason=self.reason, message=self.message, field=self.field)


def _rebuild(cls: type[DaasError], message: str, reason: str, field: str | None) -> DaasError:
    error = cls.__new__(cls)
    DaasError.__init__(error, message, reason=reason, field=field)
    return error


class InvalidInput(DaasError):
    """Malformed, oversized or contradictory input: final, goes to the dead-letter stream."""

    http_status = 400


class DecodeError(InvalidInput):
    """Bytes that are not the encoding they claim to be."""


class Refused(DaasError):
    """Well-formed, but a rule says no: final."""

    http_status = 403


class Conflict(DaasError):
    """The state has moved on: the caller must look again before it tries again."""

    http_status = 409


class NotFound(DaasError):
    """No such object."""

    http_status = 404


class Unavailable(DaasError):
    """A server is away or slow: the same request may succeed later."""

    http_status = 503


class ConfigurationError(DaasError):
    """A setting is missing, unknown or contradictory: the process must not start."""
