"""Keys, comparisons and operations of etcd's v3 API as small values, and their wire form."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from daas.common.errors import InvalidInput
from daas.etcd import rpc_pb2 as rpc

#: etcd refuses requests above 1.5 MiB; a value of this size leaves room for its key and the transaction around it.
MAX_VALUE_BYTES: Final = 1024 * 1024
#: etcd's default for --max-txn-ops.
MAX_TXN_OPERATIONS: Final = 128


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key with its value and the revisions at which it was created and last written; version counts its writes."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a range. `next_key` is where the next page starts, None at the end; `revision` makes pages consistent."""

    items: tuple[KeyValue, ...]
    revision: int
    next_key: str | None
    count: int


class Change(StrEnum):
    """What happened to a key."""

    PUT = "put"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change of one key. For a deletion the value is empty and `kv.mod_revision` is that of the deletion."""

    change: Change
    kv: KeyValue


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys of a prefix at one revision: what `EtcdClient.follow` starts from, and again after a compaction."""

    items: tuple[KeyValue, ...]
    revision: int


class Target(StrEnum):
    """What a comparison looks at."""

    VERSION = "version"
    CREATE_REVISION = "create_revision"
    MOD_REVISION = "mod_revision"
    VALUE = "value"


class Relation(StrEnum):
    """How it compares."""

    EQUAL = "="
    GREATER = ">"
    LESS = "<"
    NOT_EQUAL = "!="


@dataclass(frozen=True, slots=True)
class Compare:
    """One guard of a transaction: `target of key` stands in `relation` to `operand`.

    A key that does not exist has create_revision, mod_revision and version 0.
    """

    key: str
    target: Target
    operand: int | bytes
    relation: Relation = Relation.EQUAL

    @staticmethod
    def absent(key: str) -> "Compare":
        """The key does not exist."""
        return Compare(key, Target.CREATE_REVISION, 0)

    @staticmethod
    def unchanged(kv: KeyValue) -> "Compare":
        """Nobody has written the key since it was read."""
        return Compare(kv.key, Target.MOD_REVISION, kv.mod_revision)


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key, with an optional lease id."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Get:
    """Read a key."""

    key: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key, or all keys of a prefix."""

    key: str
    prefix: bool = False


Operation = Put | Get | Delete


@dataclass(frozen=True, slots=True)
class TxnResult:
    """Whether the guards held, the revision, and what each operation that ran answered.

    `reads` holds, for each Get in order, the key-value or None.
    """

    succeeded: bool
    revision: int
    reads: tuple[KeyValue | None, ...]


def prefix_end(prefix: bytes) -> bytes:
    r"""The first key after all keys with a prefix; b"\x00" (no end) where there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b"\x00"


def key_bytes(key: str) -> bytes:
    """UTF-8 of a key, which must not be empty."""
    if not key:
        raise InvalidInput("an etcd key is not empty", reason="etcd-empty-key", field="key")
    return key.encode()


def from_wire(kv: rpc.KeyValue) -> KeyValue:
    """A key-value as etcd sent it. Keys are UTF-8 here; a foreign key that is not stays readable by escapes."""
    return KeyValue(
        kv.key.decode(errors="backslashreplace"),
        kv.value,
        kv.create_revision,
        kv.mod_revision,
        kv.version,
        kv.lease,
    )


_RESULTS: Final = {
    Relation.EQUAL: rpc.Compare.EQUAL,
    Relation.GREATER: rpc.Compare.GREATER,
    Relation.LESS: rpc.Compare.LESS,
    Relation.NOT_EQUAL: rpc.Compare.NOT_EQUAL,
}


def compare_to_wire(compare: Compare) -> rpc.Compare:
    """The guard in wire form.

    Raises:
        InvalidInput: `etcd-compare-operand` where the operand's type does not fit the target.
    """
    wire = rpc.Compare(key=key_bytes(compare.key), result=_RESULTS[compare.relation])
    operand = compare.operand
    if compare.target is Target.VALUE:
        if isinstance(operand, bytes):
            wire.target, wire.value = rpc.Compare.VALUE, operand
            return wire
    elif isinstance(operand, int):
        if compare.target is Target.VERSION:
            wire.target, wire.version = rpc.Compare.VERSION, operand
        elif compare.target is Target.CREATE_REVISION:
            wire.target, wire.create_revision = rpc.Compare.CREATE, operand
        else:
            wire.target, wire.mod_revision = rpc.Compare.MOD, operand
        return wire
    raise InvalidInput(
        f"{compare.target} of {compare.key!r} can't be compared with {type(operand).__name__}",
        reason="etcd-compare-operand",
        field="operand",
    )


def operation_to_wire(operation: Operation) -> rpc.RequestOp:
    """The operation in wire form."""
    key = key_bytes(operation.key)
    match operation:
        case Put(value=value, lease=lease):
            return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, lease=lease))
        case Get():
            return rpc.RequestOp(request_range=rpc.RangeRequest(key=key))
        case Delete(prefix=prefix):
            end = prefix_end(key) if prefix else b""
            return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, range_end=end))
