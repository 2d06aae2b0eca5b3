"""What can go wrong in the ledger: refusals before execution, failures during it, and misuse of the process."""

from collections.abc import Sequence

from daas.common.errors import DaasError


class LedgerError(DaasError):
    """Base of all errors of the simulated ledger."""


class BytecodeError(LedgerError):
    """A module's bytes are not what this ledger can load; nothing was executed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="bytecode-refused")


class TransactionRefusedError(LedgerError):
    """A transaction was refused before execution: nothing is charged, nothing is recorded."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message, reason="transaction-refused", field=field)


class ExecutionFailedError(LedgerError):
    """A transaction failed while executing: gas is charged, every other effect is undone.

    `kind` is a name of `sui.rpc.v2.ExecutionError.ExecutionErrorKind`.
    """

    def __init__(
        self, kind: str, message: str, *, argument: int | None = None, argument_kind: str | None = None
    ) -> None:
        super().__init__(message, reason=kind.lower().replace("_", "-"))
        self.kind = kind
        self.argument = argument
        self.argument_kind = argument_kind
        self.location: MoveLocation | None = None


class MoveLocation:
    """Where in which module a Move function stopped."""

    __slots__ = ("address", "function", "function_index", "instruction", "module")

    def __init__(
        self, address: bytes, module: str, function: str, function_index: int = 0, instruction: int = 0
    ) -> None:
        self.address = address
        self.module = module
        self.function = function
        self.function_index = function_index
        self.instruction = instruction

    def __str__(self) -> str:
        return f"0x{self.address.hex()}::{self.module}::{self.function} at instruction {self.instruction}"


class MoveAbortError(ExecutionFailedError):
    """A Move `abort`, with its code and location."""

    def __init__(self, code: int, location: MoveLocation) -> None:
        super().__init__("MOVE_ABORT", f"MoveAbort with code {code} in {location}")
        self.code = code
        self.location = location


class RuntimeFailedError(ExecutionFailedError):
    """A primitive operation of the Move machine failed: overflow, division by zero, vector index."""

    def __init__(self, status: str, location: MoveLocation) -> None:
        super().__init__("MOVE_PRIMITIVE_RUNTIME_ERROR", f"{status} in {location}")
        self.status = status
        self.location = location


class CongestionError(ExecutionFailedError):
    """A transaction was put off for the moment: too many change the same objects. It is over, and paid for."""

    def __init__(self, objects: Sequence[bytes]) -> None:
        super().__init__(
            "EXECUTION_CANCELED_DUE_TO_CONSENSUS_OBJECT_CONGESTION", f"{len(objects)} objects are congested"
        )
        self.objects = tuple(objects)


def argument_error(index: int, kind: str, detail: str) -> ExecutionFailedError:
    """A command's argument `index` was unusable; `kind` names a CommandArgumentErrorKind."""
    return ExecutionFailedError(
        "COMMAND_ARGUMENT_ERROR", f"argument {index}: {kind}: {detail}", argument=index, argument_kind=kind
    )
