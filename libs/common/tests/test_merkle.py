"""Merkle trees: shape, proofs, and what must not verify."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas.common import merkle
from daas.common.errors import InvalidInput

LEAVES = st.lists(st.binary(max_size=40), min_size=1, max_size=40)


def test_the_shape_is_domain_separated_and_promotes_odd_nodes() -> None:
    a, b, c = (merkle.leaf_hash(leaf) for leaf in (b"a", b"b", b"c"))
    assert merkle.root([]) == bytes(32)
    assert merkle.root([b"a"]) == a == merkle.digest(b"\x00a")
    assert merkle.root([b"a", b"b"]) == merkle.digest(b"\x01" + a + b)
    assert merkle.root([b"a", b"b", b"c"]) == merkle.node_hash(merkle.node_hash(a, b), c)
    assert merkle.root([b"a", b"b", b"c"]) != merkle.root([b"a", b"b", b"c", b"c"])


def test_five_leaves_promote_the_last_through_two_levels() -> None:
    hashes = [merkle.leaf_hash(bytes([n])) for n in range(5)]
    left = merkle.node_hash(merkle.node_hash(*hashes[:2]), merkle.node_hash(*hashes[2:4]))
    assert merkle.root_of_hashes(hashes) == merkle.node_hash(left, hashes[4])
    assert merkle.proof([bytes([n]) for n in range(5)], 4) == (left,)


@given(LEAVES)
def test_every_leaf_is_proved_by_its_path(leaves: list[bytes]) -> None:
    tree = merkle.MerkleTree(leaves)
    assert tree.root == merkle.root(leaves)
    assert tree.count == len(leaves)
    for index, leaf in enumerate(leaves):
        path = tree.proof(index)
        assert path == merkle.proof(leaves, index)
        assert merkle.verify(tree.root, leaf, index, len(leaves), path)


@given(LEAVES, st.data())
def test_a_proof_holds_for_one_leaf_at_one_place_only(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    tree = merkle.MerkleTree(leaves)
    path, leaf, count = tree.proof(index), leaves[index], len(leaves)
    other = data.draw(st.binary(max_size=40).filter(lambda value: value != leaf))
    assert not merkle.verify(tree.root, other, index, count, path)
    assert not merkle.verify(tree.root, leaf, index, count, (*path, bytes(32)))
    assert not merkle.verify(tree.root, leaf, index, count, path[:-1]) or not path
    assert not merkle.verify(merkle.digest(tree.root), leaf, index, count, path)
    elsewhere = data.draw(st.integers(-2, count + 1).filter(lambda value: value != index))
    if not 0 <= elsewhere < count or leaves[elsewhere] != leaf:
        assert not merkle.verify(tree.root, leaf, elsewhere, count, path)
    if path:
        level, bit = data.draw(st.integers(0, len(path) - 1)), data.draw(st.integers(0, 255))
        flipped = bytearray(path[level])
        flipped[bit // 8] ^= 1 << bit % 8
        assert not merkle.verify(tree.root, leaf, index, count, (*path[:level], bytes(flipped), *path[level + 1 :]))


@given(LEAVES, st.data())
def test_an_inner_node_does_not_pass_for_a_leaf(leaves: list[bytes], data: st.DataObject) -> None:
    tree = merkle.MerkleTree(leaves)
    if tree.count < 2:
        return
    index = data.draw(st.integers(0, tree.count - 1))
    path = tree.proof(index)
    inner = merkle.node_hash(merkle.leaf_hash(leaves[index]), path[0])
    assert not merkle.verify(tree.root, inner, index // 2, (tree.count + 1) // 2, path[1:])


@given(
    st.binary(max_size=64),
    st.binary(max_size=8),
    st.integers(-5, 5),
    st.integers(-5, 5),
    st.lists(st.binary(max_size=40)),
)
def test_malformed_arguments_are_false_and_never_a_crash(
    root: bytes, leaf: bytes, index: int, count: int, path: list[bytes]
) -> None:
    assert not merkle.verify(root, leaf, index, count, path)


def test_there_is_no_proof_of_what_is_not_there() -> None:
    for index in (-1, 1):
        with pytest.raises(InvalidInput, match="merkle-index"):
            merkle.proof([b"a"], index)
    assert not merkle.verify(merkle.EMPTY_ROOT, b"", 0, 0, ())
