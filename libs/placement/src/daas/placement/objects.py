"""What the log tells beside nodes and pods: small objects by kind and name, each committed to as one leaf.

Nothing is remembered of objects that were deleted: their writer says what is, in order.
"""

from typing import Any

import msgspec

from daas.common import bcs, merkle

#: All kinds together; the larger clusters have a few thousand services and controllers.
MAX_OBJECTS = 100_000

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
