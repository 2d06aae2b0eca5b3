"""The state root, kept up to date leaf by leaf: only what changed is hashed again.

The state is five leaves: the counters, and trees of nodes, of pods, of tombstones and of other objects. The trees have
a fixed number of buckets; a record stands in the bucket that the hash of its name chooses, and a bucket's leaf is its
records' leaf hashes in the order of their names. So the root depends on what is in the state, not on how it came there.
"""

from collections.abc import Iterable, Mapping

from daas.common import merkle

#: Few records a bucket at 15,000 nodes and 150,000 pods, and trees small enough to build at every start.
NODE_BUCKETS = 1024
POD_BUCKETS = 4096
TOMBSTONE_BUCKETS = 256
OBJECT_BUCKETS = 256


class BucketTree:
    """A Merkle tree over a fixed number of buckets of named leaf hashes.

    Args:
        buckets: a power of two, at most 65536.
    """

    def __init__(self, buckets: int) -> None:
        assert buckets & (buckets - 1) == 0
        assert 1 <= buckets <= 1 << 16
        self._mask = buckets - 1
        self._buckets: dict[int, dict[str, bytes]] = {}
        level = merkle.leaf_hash(b"")
        self._levels: list[list[bytes]] = [[level] * buckets]
        while len(self._levels[-1]) > 1:
            level = merkle.node_hash(level, level)
            self._levels.append([level] * (len(self._levels[-1]) // 2))

    @property
    def root(self) -> bytes:
        """32 bytes."""
        return self._levels[-1][0]

    def update(self, changes: Mapping[str, bytes | None]) -> None:
        """Sets the leaf bytes of some names; None takes a name out."""
        touched: set[int] = set()
        for name, leaf in changes.items():
            index = int.from_bytes(merkle.digest(name.encode())[:2], "little") & self._mask
            bucket = self._buckets.setdefault(index, {})
            touched.add(index)
            if leaf is None:
                bucket.pop(name, None)
            else:
                bucket[name] = merkle.leaf_hash(leaf)
        self._rehash(touched)

    def _rehash(self, touched: Iterable[int]) -> None:
        level = self._levels[0]
        for index in touched:
            bucket = self._buckets[index]
            level[index] = merkle.leaf_hash(b"".join([bucket[name] for name in sorted(bucket)]))
        node_hash = merkle.node_hash
        for above in self._levels[1:]:
            touched = {index >> 1 for index in touched}
            for index in touched:
                above[index] = node_hash(level[2 * index], level[2 * index + 1])
            level = above


def state_root(counters: bytes, nodes: bytes, pods: bytes, tombstones: bytes, objects: bytes) -> bytes:
    """The root over the five parts of the state."""
    return merkle.root((counters, nodes, pods, tombstones, objects))
