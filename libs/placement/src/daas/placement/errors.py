"""What this library raises: refusals of quantities, log entries out of turn, snapshots and genesis values."""

from daas.common.errors import Conflict, InvalidInput


class QuantityError(InvalidInput):
    """Text that is no Kubernetes quantity, or a negative one."""


class EventError(InvalidInput):
    """A log event that can't be folded; the rest of its entry goes on."""


class LogSequenceError(Conflict):
    """A log entry that isn't the next one: a gap, or one that was folded already."""


class SnapshotError(InvalidInput):
    """Snapshot bytes that are malformed, of another genesis, or not the state that was anchored."""


class GenesisError(InvalidInput):
    """A genesis or policy value outside its range."""
