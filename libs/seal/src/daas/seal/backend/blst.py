"""BLS12-381 by two wheels over blst: pyblst (points, hashing, comparisons) and chia_rs (elements of GT).

pyblst has no way to take bytes out of GT, chia_rs no scalar multiplication: points go from the one to the other in
compressed form (about 20 µs for G1, 35 µs for G2). chia_rs writes GT as it lies in memory: twelve field elements in
Montgomery form, little-endian.
"""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache, reduce
from typing import Any, Final

import chia_rs
import pyblst  # type: ignore[import-untyped]  # the wheel has no type information

from daas.seal.backend.protocol import (
    FIELD,
    G1,
    G1_GENERATOR,
    G1_LENGTH,
    G2,
    G2_GENERATOR,
    G2_LENGTH,
    HASH_TO_CURVE_TAG,
    GtPower,
)
from daas.seal.errors import MalformedPoint

_INFINITY_BIT: Final = 0x40
_FIELD_BYTES: Final = 48
_MONTGOMERY_INVERSE: Final = pow(1 << 384, -1, FIELD)
#: Canonical order of the twelve field elements (blst's big-endian form): six elements of Fp2, w fastest.
_CANONICAL: Final = tuple(2 * place + part for place in (0, 3, 1, 4, 2, 5) for part in (0, 1))
#: Width in bits of the windows of fixed-base tables: 8 for the one generator (8,160 points, 2 MB, made once in about
#: 20 ms), 4 for each cached identity (960 products, 3 ms, 0.6 MB).
_GENERATOR_WINDOW: Final = 8
_GT_WINDOW: Final = 4


class Blst:
    """pyblst and chia_rs as one backend."""

    name = "pyblst+chia_rs"

    def __init__(self) -> None:
        self.g1: G1 = self.g1_decode(G1_GENERATOR)
        self.g2: G2 = self.g2_decode(G2_GENERATOR)

    def g1_decode(self, data: bytes) -> G1:
        """A point of G1 from its 48 bytes."""
        if len(data) != G1_LENGTH or data[0] & _INFINITY_BIT:
            raise MalformedPoint(f"expected a compressed point of G1 other than the identity ({G1_LENGTH} bytes)",
                                 reason="seal-point-g1")  # fmt: skip
        try:
            return pyblst.BlstP1Element().uncompress(data)
        except ValueError:
            raise MalformedPoint("the bytes are no point of G1", reason="seal-point-g1") from None

    def g2_decode(self, data: bytes) -> G2:
        """A point of G2 from its 96 bytes."""
        if len(data) != G2_LENGTH or data[0] & _INFINITY_BIT:
            raise MalformedPoint(f"expected a compressed point of G2 other than the identity ({G2_LENGTH} bytes)",
                                 reason="seal-point-g2")  # fmt: skip
        try:
            return pyblst.BlstP2Element().uncompress(data)
        except ValueError:
            raise MalformedPoint("the bytes are no point of G2", reason="seal-point-g2") from None

    def encode(self, point: G1 | G2) -> bytes:
        """Compressed form of a point of either group."""
        return bytes(point.compress())

    def hash_to_g1(self, message: bytes) -> G1:
        """RFC 9380 hash to G1."""
        return pyblst.BlstP1Element.hash_to_group(message, HASH_TO_CURVE_TAG)

    def multiply(self, point: G1 | G2, scalar: int) -> G1 | G2:
        """Scalar multiplication."""
        return point.scalar_mul(scalar)

    def multiply_g2(self, scalar: int) -> G2:
        """The generator of G2 times a scalar, from a table: a third of the time of `multiply`."""
        digits = scalar.to_bytes(32, "little")
        return reduce(
            lambda left, right: left + right, (row[d] for row, d in zip(_g2_table(), digits, strict=True) if d)
        )

    def add(self, left: G1 | G2, right: G1 | G2) -> G1 | G2:
        """Sum of two points of one group."""
        return left + right

    def negate(self, point: G1 | G2) -> G1 | G2:
        """The inverse."""
        return -point

    def pairing(self, left: G1, right: G2) -> bytes:
        """e(left, right), canonical 576 bytes."""
        return self.pairings(left, (right,))[0]

    def pairings(self, left: G1, rights: Sequence[G2]) -> list[bytes]:
        """e(left, right) for each right."""
        # Unchecked, here and below: the points come from pyblst, which has checked them or made them.
        p = chia_rs.G1Element.from_bytes_unchecked(bytes(left.compress()))
        return [_canonical(p.pair(_chia_g2(bytes(right.compress())))) for right in rights]

    def pairing_power(self, left: G1, right: G2) -> GtPower:
        """A table of e(left, right) to the digits of a scalar."""
        p = chia_rs.G1Element.from_bytes_unchecked(bytes(left.compress()))
        rows = _table(p.pair(_chia_g2(bytes(right.compress()))), 256 // _GT_WINDOW, _GT_WINDOW, lambda a, b: a * b)

        def power(scalar: int) -> bytes:
            digits = (digit for byte in scalar.to_bytes(32, "little") for digit in (byte & 15, byte >> 4))
            product = reduce(lambda a, b: a * b, (row[d] for row, d in zip(rows, digits, strict=True) if d))
            return _canonical(product)

        return power

    def equal_pairings(self, left: Sequence[tuple[G1, G2]], right: Sequence[tuple[G1, G2]]) -> bool:
        """Whether the products of the pairings are equal."""
        return bool(pyblst.final_verify(_miller(left), _miller(right)))


def _miller(pairs: Sequence[tuple[G1, G2]]) -> pyblst.BlstFP12Element:
    return reduce(lambda a, b: a * b, (pyblst.miller_loop(p, q) for p, q in pairs))


@lru_cache(maxsize=256)
def _chia_g2(data: bytes) -> chia_rs.G2Element:
    # Points of G2 are public keys and nonces, the same ones again and again; nothing of G1, where secrets lie, is kept.
    return chia_rs.G2Element.from_bytes_unchecked(data)


def _canonical(element: chia_rs.GTElement) -> bytes:
    raw = element.to_bytes()
    return b"".join(
        [
            (int.from_bytes(raw[at : at + _FIELD_BYTES], "little") * _MONTGOMERY_INVERSE % FIELD).to_bytes(48, "big")
            for at in (_FIELD_BYTES * place for place in _CANONICAL)
        ]
    )


@cache
def _g2_table() -> list[list[G2]]:
    generator = pyblst.BlstP2Element().uncompress(G2_GENERATOR)
    return _table(generator, 256 // _GENERATOR_WINDOW, _GENERATOR_WINDOW, lambda a, b: a + b)


def _table(base: Any, rows: int, bits: int, combine: Callable[[Any, Any], Any]) -> list[list[Any]]:
    """Row i, column d: base combined with itself d * 2^(bits*i) times; column 0 is unused."""
    table = []
    for _ in range(rows):
        row = [None, base]
        for _ in range((1 << bits) - 2):
            row.append(combine(row[-1], base))
        table.append(row)
        base = combine(row[-1], base)
    return table
