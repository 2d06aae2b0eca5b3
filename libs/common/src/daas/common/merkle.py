"""Merkle trees over blake2b-256, exactly as the Move package and the verifiers compute them.

leaf hash = h(0x00 || leaf), inner hash = h(0x01 || left || right); the last node of an odd level is promoted, never
duplicated (the duplication shape is CVE-2012-2459), and whoever commits to a root commits to the leaf count too.
The root of no leaves is 32 zero bytes.
"""

from collections.abc import Sequence
from hashlib import blake2b

from daas.common.errors import InvalidInput

HASH_LENGTH = 32
EMPTY_ROOT = bytes(HASH_LENGTH)


def digest(data: bytes) -> bytes:
    """blake2b-256, the hash of every chain-checked path."""
    return blake2b(data, digest_size=HASH_LENGTH).digest()


def leaf_hash(leaf: bytes) -> bytes:
    """h(0x00 || leaf)."""
    return blake2b(b"\x00" + leaf, digest_size=HASH_LENGTH).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """h(0x01 || left || right)."""
    return blake2b(b"\x01" + left + right, digest_size=HASH_LENGTH).digest()


def _next_level(level: Sequence[bytes]) -> list[bytes]:
    pairs = zip(level[::2], level[1::2], strict=False)
    above = [blake2b(b"\x01" + left + right, digest_size=HASH_LENGTH).digest() for left, right in pairs]
    if len(level) % 2:
        above.append(level[-1])
    return above


def root_of_hashes(hashes: Sequence[bytes]) -> bytes:
    """The root over leaf hashes (32 bytes each)."""
    if not hashes:
        return EMPTY_ROOT
    level: Sequence[bytes] = hashes
    while len(level) > 1:
        level = _next_level(level)
    return level[0]


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over raw leaves."""
    return root_of_hashes([blake2b(b"\x00" + leaf, digest_size=HASH_LENGTH).digest() for leaf in leaves])


class MerkleTree:
    """A tree over raw leaves that keeps its levels, for many proofs over one batch."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._levels: list[Sequence[bytes]] = [[leaf_hash(leaf) for leaf in leaves]]
        while len(self._levels[-1]) > 1:
            self._levels.append(_next_level(self._levels[-1]))

    @property
    def count(self) -> int:
        """How many leaves there are."""
        return len(self._levels[0])

    @property
    def root(self) -> bytes:
        """32 bytes; zero bytes where there are no leaves."""
        return self._levels[-1][0] if self.count else EMPTY_ROOT

    def proof(self, index: int) -> tuple[bytes, ...]:
        """The siblings from the leaf up; levels at which the node is promoted contribute none.

        Raises:
            InvalidInput: `merkle-index` when there is no such leaf.
        """
        if not 0 <= index < self.count:
            raise InvalidInput(f"leaf {index} of a tree of {self.count}", reason="merkle-index")
        path = []
        for level in self._levels[:-1]:
            sibling = index ^ 1
            if sibling < len(level):
                path.append(level[sibling])
            index //= 2
        return tuple(path)


def proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The inclusion path of one leaf; see `MerkleTree.proof`."""
    return MerkleTree(leaves).proof(index)


def verify(root: bytes, leaf: bytes, index: int, count: int, path: Sequence[bytes]) -> bool:
    """Whether `leaf` stands at `index` of the `count` leaves under `root`. False for any malformed argument."""
    if not 0 <= index < count or len(root) != HASH_LENGTH:
        return False
    current, width, used = leaf_hash(leaf), count, 0
    while width > 1:
        if index ^ 1 < width:
            if used == len(path) or len(path[used]) != HASH_LENGTH:
                return False
            sibling = path[used]
            used += 1
            current = node_hash(current, sibling) if index % 2 == 0 else node_hash(sibling, current)
        index //= 2
        width = (width + 1) // 2
    return used == len(path) and current == root
