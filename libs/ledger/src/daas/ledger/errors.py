"""What can go wrong with a ledger: the node is away, the node refuses, the Move package refuses.

LedgerError
├── RpcError              the full node did not do what was asked; `retryable` says whether asking again can help
│   ├── RpcUnavailable    away, slow or overloaded: the fate of a sent transaction is unknown, send the same bytes again
│   ├── RpcRefused        the node will never take this request
│   └── StaleObject       an input has moved on: look up the transaction, and build it anew only if it is unknown
├── ExecutionError        the transaction was executed and failed; it paid gas and changed nothing
│   └── MoveAbortError    the Move package refused, with a named code
├── NoGas                 the signer's coins don't cover the budget
├── NoSuchObject          the object does not exist, or is not of the type asked for
├── MissingSigner         a transaction was asked of a client that can only read
└── MissingPackage        a call was asked of a client that was not told which package to call
"""

import re
from typing import TYPE_CHECKING

from daas.common.errors import ConfigurationError, Conflict, DaasError, NotFound, Refused, Unavailable

if TYPE_CHECKING:
    from daas.ledger.models import Effects


def _kebab(constant: str) -> str:
    """ESequenceTaken as sequence-taken: the reason that the rest of the project uses for the same refusal."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", constant.removeprefix("E")).lower()


class LedgerError(DaasError):
    """Base of this library's errors."""


class RpcError(LedgerError):
    """The full node did not answer, or answered with an error. `status` is the gRPC status, or the failure's class."""

    retryable = False

    def __init__(self, message: str, *, reason: str, status: str, field: str | None = None) -> None:
        super().__init__(message, reason=reason, field=field)
        self.status = status


class RpcUnavailable(RpcError, Unavailable):
    """Away, slow or overloaded."""

    retryable = True


class RpcRefused(RpcError, Refused):
    """Well-formed or not, the node will never take it."""


class StaleObject(RpcError, Conflict):
    """An object version in the transaction is not the current one."""


class ExecutionError(LedgerError, Refused):
    """Executed and failed: `effects` is what it left behind (the gas it paid)."""

    effects: "Effects | None" = None


class MoveAbortError(ExecutionError):
    """A Move function refused.

    Attributes:
        module, function: where, as the bytecode names them.
        code: the abort code.
        name: the constant's name in the sources (`ESequenceTaken`); None for codes of packages we don't know.
        command: which command of the transaction, from 0.
    """

    def __init__(self, *, module: str, function: str, code: int, name: str | None, command: int) -> None:
        label = name or f"code {code}"
        super().__init__(
            f"{module}::{function} refused command {command} with {label} ({code})",
            reason=_kebab(name) if name else "move-abort",
        )
        self.module = module
        self.function = function
        self.code = code
        self.name = name
        self.command = command


class NoGas(LedgerError, Unavailable):
    """The signer has no coins that cover the gas budget."""


class NoSuchObject(LedgerError, NotFound):
    """No such object, or one of another type."""


class MissingSigner(LedgerError, ConfigurationError):
    """The client was connected without a signer."""


class MissingPackage(LedgerError, ConfigurationError):
    """The client does not know the address of the Move package yet."""
