"""The state root, kept up to date leaf by leaf: only what changed is hashed again.

The state is five leaves: the counters, and trees of nodes, of pods, of tombstones and of other objects. The trees have
a fixed number of buckets; a record stands in the bucket that the hash of its name chooses, and a bucket's leaf is its
records' leaf hashes in the order of their names. So the root depends on what is in the state, not on how it came there.
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
_HASH = merkle.HASH_LENGTH


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
        path: siblings from the bucket up to the tree's root.
        parts: siblings from there to the state root.
    """

    bucket: tuple[bytes, ...]
    position: int
    path: tuple[bytes, ...]
    parts: tuple[bytes, ...]


def bucket_of(name: str, buckets: int) -> int:
    """The bucket that a record stands in."""
    return int.from_bytes(merkle.digest(name.encode())[:2], "little") & (buckets - 1)


def opened(root: bytes, part: Part, name: str, leaf: bytes, opening: Opening) -> bool:
    """Whether the record of this name has these leaf bytes in the state under `root`."""
    buckets = _BUCKETS[part]
    if not 0 <= opening.position < len(opening.bucket):
        return False
    if opening.bucket[opening.position] != merkle.leaf_hash(leaf) or len(opening.path) != buckets.bit_length() - 1:
        return False
    index = bucket_of(name, buckets)
    level = merkle.leaf_hash(b"".join(opening.bucket))
    for sibling in opening.path:
        level = merkle.node_hash(sibling, level) if index & 1 else merkle.node_hash(level, sibling)
        index >>= 1
    return merkle.verify(root, level, part, len(Part), opening.parts)


@lru_cache(maxsize=8)
def _empty_levels(buckets: int) -> tuple[list[bytes], ...]:
    """The levels of a tree without records, from the buckets up."""
    made = [merkle.leaf_hash(b"")]
    while len(made) < buckets.bit_length():
        made.append(merkle.node_hash(made[-1], made[-1]))
    return tuple([level] * (buckets >> depth) for depth, level in enumerate(made))


class BucketTree:
    """A Merkle tree over a fixed number of buckets of named leaf hashes.

    Args:
        buckets: a power of two, at most 65536.
    """

    def __init__(self, buckets: int) -> None:
        assert buckets & (buckets - 1) == 0
        assert 1 <= buckets <= 1 << 16
        self._mask = buckets - 1
        self._names: dict[int, list[str]] = {}
        self._hashes: dict[int, bytes] = {}
        self._levels: list[list[bytes]] = [level.copy() for level in _empty_levels(buckets)]

    @property
    def root(self) -> bytes:
        """32 bytes."""
        return self._levels[-1][0]

    def open(self, name: str) -> tuple[tuple[bytes, ...], int, tuple[bytes, ...]]:
        """(the bucket's leaf hashes, the name's place among them, siblings up to the root).

        Raises:
            KeyError: there is no such name.
        """
        index = bucket_of(name, self._mask + 1)
        names, hashes = self._names.get(index, []), self._hashes.get(index, b"")
        if name not in names:
            raise KeyError(name)
        path = tuple(level[(index >> depth) ^ 1] for depth, level in enumerate(self._levels[:-1]))
        bucket = tuple(hashes[start : start + _HASH] for start in range(0, len(hashes), _HASH))
        return bucket, names.index(name), path

    def update(self, changes: Mapping[str, bytes | None]) -> None:
        """Sets the leaf bytes of some names; None takes a name out."""
        touched: set[int] = set()
        mask, all_names, all_hashes = self._mask, self._names, self._hashes
        for name, leaf in changes.items():
            index = int.from_bytes(blake2b(name.encode(), digest_size=_HASH).digest()[:2], "little") & mask
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
                continue
            if not known:
                names.insert(position, name)
            made = blake2b(b"\x00" + leaf, digest_size=_HASH).digest()
            all_hashes[index] = b"".join((hashes[:start], made, hashes[end:])) if hashes else made
        self._rehash(touched)

    def _rehash(self, touched: Iterable[int]) -> None:
        level = self._levels[0]
        for index in touched:
            level[index] = blake2b(b"\x00" + self._hashes[index], digest_size=_HASH).digest()
        for above in self._levels[1:]:
            touched = {index >> 1 for index in touched}
            for index in touched:
                pair = b"".join((b"\x01", level[2 * index], level[2 * index + 1]))
                above[index] = blake2b(pair, digest_size=_HASH).digest()
            level = above


def state_root(counters: bytes, nodes: bytes, pods: bytes, tombstones: bytes, objects: bytes) -> bytes:
    """The root over the five parts of the state."""
    return merkle.root((counters, nodes, pods, tombstones, objects))
