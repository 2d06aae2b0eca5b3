"""What the log tells beside nodes and pods: small objects by kind and name, each committed to as one leaf.

Nothing is remembered of objects that were deleted: their writer says what is, in order.
"""

from typing import Any

import msgspec

from daas.common import bcs, merkle

#: All kinds together; the larger clusters have a few thousand services and controllers.
MAX_OBJECTS = 100_000

#: Accounts whose stake is kept. Anybody can open one for the price of a transaction: they must not crowd the rest out.
MAX_STAKES = 10_000
#: The kind of what the ledger says of an account: no full list of the API server names it.
STAKE = "Stake"
MIST_PER_SUI = 1_000_000_000

#: (kind, namespace, name); cluster-wide objects have the namespace "".
ObjectKey = tuple[str, str, str]


class ObjectRecord:
    """One object.

    Attributes:
        value: the event that last told of it.
        encoded: the same as bytes, with map keys sorted.
        epoch: number of the resync that last named it.
    """

    __slots__ = ("digest", "encoded", "epoch", "key", "value")

    def __init__(self, key: ObjectKey, value: msgspec.Struct, epoch: int) -> None:
        self.key = key
        self.value: Any = value
        self.encoded = msgspec.json.encode(value, order="deterministic")
        self.digest = merkle.digest(self.encoded)
        self.epoch = epoch

    def to_bcs(self) -> bytes:
        """The leaf of this object in the state."""
        return b"".join((*map(bcs.string, self.key), bcs.u64(self.epoch), self.digest))


def leaf_name(key: ObjectKey) -> str:
    """The name of an object's leaf: no part of a key can hold the separator."""
    return "\0".join(key)
