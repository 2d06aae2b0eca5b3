"""BLS12-381 by the one wheel py-arkworks-bls12381: half as fast as blst, for platforms that its wheels miss."""

from collections.abc import Sequence
from typing import Final

import py_arkworks_bls12381 as arkworks

from daas.seal.backend.protocol import (
    FIELD,
    G1,
    G1_LENGTH,
    G2,
    G2_LENGTH,
    HASH_TO_CURVE_TAG,
    GtPower,
)
from daas.seal.errors import MalformedPoint

_FLAGS: Final = 0xE0
_COMPRESSED: Final = 0x80
_INFINITY_BIT: Final = 0x40
#: Canonical order of the six elements of Fp2: see blst.py.
_CANONICAL: Final = (0, 3, 1, 4, 2, 5)


class Arkworks:
    """py-arkworks-bls12381 as a backend."""

    name = "py-arkworks-bls12381"

    def __init__(self) -> None:
        self.g1: G1 = arkworks.G1Point()
        self.g2: G2 = arkworks.G2Point()

    def g1_decode(self, data: bytes) -> G1:
        """A point of G1 from its 48 bytes."""
        return _decode(arkworks.G1Point, data, G1_LENGTH, "G1")

    def g2_decode(self, data: bytes) -> G2:
        """A point of G2 from its 96 bytes."""
        return _decode(arkworks.G2Point, data, G2_LENGTH, "G2")

    def encode(self, point: G1 | G2) -> bytes:
        """Compressed form of a point of either group."""
        return bytes(point.to_compressed_bytes())

    def hash_to_g1(self, message: bytes) -> G1:
        """RFC 9380 hash to G1."""
        return arkworks.G1Point.hash_to_curve(message, HASH_TO_CURVE_TAG)

    def multiply(self, point: G1 | G2, scalar: int) -> G1 | G2:
        """Scalar multiplication."""
        return point * arkworks.Scalar.from_be_bytes(scalar.to_bytes(32, "big"))

    def multiply_g2(self, scalar: int) -> G2:
        """The generator of G2 times a scalar."""
        return self.multiply(self.g2, scalar)

    def add(self, left: G1 | G2, right: G1 | G2) -> G1 | G2:
        """Sum of two points of one group."""
        return left + right

    def negate(self, point: G1 | G2) -> G1 | G2:
        """The inverse."""
        return -point

    def pairing(self, left: G1, right: G2) -> bytes:
        """e(left, right), canonical 576 bytes."""
        return _canonical(arkworks.GT.pairing(left, right))

    def pairings(self, left: G1, rights: Sequence[G2]) -> list[bytes]:
        """e(left, right) for each right."""
        return [self.pairing(left, right) for right in rights]

    def pairing_power(self, left: G1, right: G2) -> GtPower:
        """Through G1: this library raises elements of GT no faster than it pairs."""
        return lambda scalar: self.pairing(self.multiply(left, scalar), right)

    def equal_pairings(self, left: Sequence[tuple[G1, G2]], right: Sequence[tuple[G1, G2]]) -> bool:
        """Whether the products of the pairings are equal."""
        firsts = [p for p, _ in left] + [-p for p, _ in right]
        return bool(arkworks.GT.pairing_check(firsts, [q for _, q in (*left, *right)]))


def _decode(kind: type[G1] | type[G2], data: bytes, length: int, group: str) -> G1 | G2:
    if len(data) != length or data[0] & (_COMPRESSED | _INFINITY_BIT) != _COMPRESSED:
        raise MalformedPoint(
            f"expected a compressed point of {group} other than the identity ({length} bytes)",
            reason=f"seal-point-{group.lower()}",
        )
    # The library reduces coordinates above the modulus in silence: one point would have several encodings.
    coordinates = [bytes([data[0] & ~_FLAGS]) + data[1:48], data[48:]]
    if any(int.from_bytes(coordinate, "big") >= FIELD for coordinate in coordinates):
        raise MalformedPoint(
            f"a coordinate of the point of {group} is not reduced", reason=f"seal-point-{group.lower()}"
        )
    try:
        return kind.from_compressed_bytes(data)
    except ValueError:
        raise MalformedPoint(f"the bytes are no point of {group}", reason=f"seal-point-{group.lower()}") from None


def _canonical(element: arkworks.GT) -> bytes:
    # The text form is the only way out: hexadecimal of twelve little-endian field elements in the tower's order.
    raw = bytes.fromhex(str(element))
    parts = [raw[at : at + 48][::-1] for place in _CANONICAL for at in (96 * place, 96 * place + 48)]
    return b"".join(parts)
