"""The state root, kept up to date leaf by leaf: only what changed is hashed again.

The state is five leaves: the counters, and trees of nodes, of pods, of tombstones and of other objects. The trees have
a fixed number of buckets; a record stands in the bucket that the hash of its name chooses, and a bucket's leaf is its
records' leaf hashes in the order of their names. A node above them has 16 children. So the root depends on what is in
the state, not on how it came there.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b

import msgspec

from daas.common import merkle

#: Few records a bucket at 15,000 nodes and 150,000 pods, and trees small enough to build at every start.
NODE_BUCKETS = 1024
POD_BUCKETS = 4096
TOMBSTONE_BUCKETS = 256
OBJECT_BUCKETS = 256
#: Children of a node: with many, few nodes lie between 512 changed records and the root, and each is one hash.
FAN_OUT = 16
_HASH = merkle.HASH_LENGTH
_NODE = FAN_OUT * _HASH


class Part(IntEnum):
    """The leaves of the state root, in order."""

    COUNTERS = 0
    NODES = 1
    PODS = 2
    TOMBSTONES = 3
    OBJECTS = 4


_BUCKETS = {
    Part.NODES: NODE_BUCKETS,
    Part.PODS: POD_BUCKETS,
    Part.TOMBSTONES: TOMBSTONE_BUCKETS,
    Part.OBJECTS: OBJECT_BUCKETS,
}


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """The way from a record's leaf to a state root.

    Attributes:
        bucket: leaf hashes of all records in the bucket, by name; position: which of them it is.
        path: from the bucket up to the tree's root, the other children of each node on the way, in order and joined.
        parts: siblings from there to the state root.
    """

    bucket: tuple[bytes, ...]
    position: int
    path: tuple[bytes, ...]
    parts: tuple[bytes, ...]


def bucket_of(name: str, buckets: int) -> int:
    """The bucket that a record stands in."""
    return int.from_bytes(merkle.digest(name.encode())[:2], "little") & (buckets - 1)


def _widths(buckets: int) -> list[int]:
    """How many nodes each level has, from the buckets up to the root."""
    widths = [buckets]
    while widths[-1] > 1:
        widths.append(-(-widths[-1] // FAN_OUT))
    return widths


def opened(root: bytes, part: Part, name: str, leaf: bytes, opening: Opening) -> bool:
    """Whether the record of this name has these leaf bytes in the state under `root`."""
    if not 0 <= opening.position < len(opening.bucket):
        return False
    widths = _widths(_BUCKETS[part])
    if opening.bucket[opening.position] != merkle.leaf_hash(leaf) or len(opening.path) != len(widths) - 1:
        return False
    index = bucket_of(name, widths[0])
    level = merkle.leaf_hash(b"".join(opening.bucket))
    for width, others in zip(widths, opening.path, strict=False):
        place = index % FAN_OUT
        if len(others) != _HASH * (min(FAN_OUT, width) - 1):
            return False
        level = merkle.digest(b"".join((b"\x01", others[: _HASH * place], level, others[_HASH * place :])))
        index //= FAN_OUT
    return merkle.verify(root, level, part, len(Part), opening.parts)


@lru_cache(maxsize=8)
def _empty_levels(buckets: int) -> tuple[bytes, ...]:
    """The levels of a tree without records, from the buckets up."""
    one = merkle.leaf_hash(b"")
    levels = [one * buckets]
    for width in _widths(buckets)[1:]:
        one = merkle.digest(b"\x01" + levels[-1][:_NODE])
        levels.append(one * width)
    return tuple(levels)


class BucketTree:
    """A Merkle tree over a fixed number of buckets of named leaf hashes.

    Args:
        buckets: a power of two, at most 65536; where it is no power of 16, the root has fewer children.
        remember: whether the places of its names are kept, for names that change again and again.
    """

    def __init__(self, buckets: int, *, remember: bool = False) -> None:
        assert buckets & (buckets - 1) == 0
        assert 1 <= buckets <= 1 << 16
        self._mask = buckets - 1
        self._places: dict[str, int] | None = {} if remember else None
        self._names: dict[int, list[str]] = {}
        self._hashes: dict[int, bytes] = {}
        #: Hashes side by side, so that the children of a node are one piece.
        self._levels: list[bytearray] = [bytearray(level) for level in _empty_levels(buckets)]

    @property
    def root(self) -> bytes:
        """32 bytes."""
        return bytes(self._levels[-1])

    def open(self, name: str) -> tuple[tuple[bytes, ...], int, tuple[bytes, ...]]:
        """(the bucket's leaf hashes, the name's place among them, the path as `Opening` has it).

        Raises:
            KeyError: there is no such name.
        """
        bucket = index = bucket_of(name, self._mask + 1)
        names, hashes = self._names.get(index, []), self._hashes.get(index, b"")
        if name not in names:
            raise KeyError(name)
        path = []
        for level in self._levels[:-1]:
            start = index // FAN_OUT * _NODE
            place = index * _HASH - start
            children = bytes(level[start : start + _NODE])
            path.append(children[:place] + children[place + _HASH :])
            index //= FAN_OUT
        inside = tuple(hashes[start : start + _HASH] for start in range(0, len(hashes), _HASH))
        return inside, self._names[bucket].index(name), tuple(path)

    def _place(self, name: str) -> int:
        places = self._places
        if places is None:
            return int.from_bytes(blake2b(name.encode(), digest_size=_HASH).digest()[:2], "little") & self._mask
        index = places.get(name)
        if index is None:
            index = places[name] = bucket_of(name, self._mask + 1)
        return index

    def update(self, changes: Mapping[str, bytes | None]) -> None:
        """Sets the leaf bytes of some names; None takes a name out."""
        touched: set[int] = set()
        all_names, all_hashes, place = self._names, self._hashes, self._place
        for name, leaf in changes.items():
            index = place(name)
            touched.add(index)
            names = all_names.get(index)
            if names is None:
                names, all_hashes[index] = all_names.setdefault(index, []), b""
            hashes = all_hashes[index]
            position = bisect_left(names, name)
            known = position < len(names) and names[position] == name
            start = _HASH * position
            end = start + _HASH if known else start
            if leaf is None:
                if known:
                    del names[position]
                    all_hashes[index] = hashes[:start] + hashes[end:]
                if self._places is not None:
                    del self._places[name]
                continue
            if not known:
                names.insert(position, name)
            made = blake2b(b"\x00" + leaf, digest_size=_HASH).digest()
            all_hashes[index] = b"".join((hashes[:start], made, hashes[end:])) if hashes else made
        self._rehash(touched)

    def _rehash(self, touched: Iterable[int]) -> None:
        level, hashes = self._levels[0], self._hashes
        for index in touched:
            made = blake2b(b"\x00" + hashes[index], digest_size=_HASH).digest()
            level[_HASH * index : _HASH * index + _HASH] = made
        for above in self._levels[1:]:
            touched = {index // FAN_OUT for index in touched}
            for index in touched:
                made = blake2b(b"\x01" + level[_NODE * index : _NODE * index + _NODE], digest_size=_HASH).digest()
                above[_HASH * index : _HASH * index + _HASH] = made
            level = above


def state_root(counters: bytes, nodes: bytes, pods: bytes, tombstones: bytes, objects: bytes) -> bytes:
    """The root over the five parts of the state."""
    return merkle.root((counters, nodes, pods, tombstones, objects))
