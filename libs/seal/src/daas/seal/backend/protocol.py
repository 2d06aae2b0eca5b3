"""What Seal needs of a BLS12-381 library: opaque points, six operations on them, and canonical bytes of GT."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

#: Order of the groups G1, G2 and GT.
ORDER: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
#: Modulus of the base field.
FIELD: Final = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
G1_LENGTH: Final = 48
G2_LENGTH: Final = 96
GT_LENGTH: Final = 576
SCALAR_LENGTH: Final = 32
#: Hash-to-curve suite tag (RFC 9380); Seal's own tags are prepended to the message instead.
HASH_TO_CURVE_TAG: Final = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
#: Compressed standard generators (IETF draft-irtf-cfrg-pairing-friendly-curves).
G1_GENERATOR: Final = bytes.fromhex(
    "97f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb"
)
G2_GENERATOR: Final = bytes.fromhex(
    "93e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"
    "024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
)

#: Points are opaque: each backend has its own classes, and nothing outside a backend looks into them.
G1 = Any
G2 = Any
#: Raises an element of GT, fixed beforehand, to a scalar in 1..ORDER-1; canonical bytes.
GtPower = Callable[[int], bytes]


class Backend(Protocol):
    """One library, or two that complete each other. Scalars are integers in 1..ORDER-1; points are never the identity.

    `g1_decode` and `g2_decode` take the compressed form (48 and 96 bytes) and refuse, with `MalformedPoint`, wrong
    lengths, other encodings of a point, points outside the subgroup and the identity.
    """

    name: str
    g1: G1
    g2: G2

    def g1_decode(self, data: bytes) -> G1:
        """A point of G1 from its 48 bytes."""
        ...

    def g2_decode(self, data: bytes) -> G2:
        """A point of G2 from its 96 bytes."""
        ...

    def encode(self, point: G1 | G2) -> bytes:
        """Compressed form of a point of either group."""
        ...

    def hash_to_g1(self, message: bytes) -> G1:
        """RFC 9380 hash to G1 under `HASH_TO_CURVE_TAG`."""
        ...

    def multiply(self, point: G1 | G2, scalar: int) -> G1 | G2:
        """Scalar multiplication."""
        ...

    def multiply_g2(self, scalar: int) -> G2:
        """Scalar multiplication of the generator of G2, faster where tables help."""
        ...

    def add(self, left: G1 | G2, right: G1 | G2) -> G1 | G2:
        """Sum of two points of one group."""
        ...

    def negate(self, point: G1 | G2) -> G1 | G2:
        """The inverse."""
        ...

    def pairing(self, left: G1, right: G2) -> bytes:
        """e(left, right), canonical 576 bytes."""
        ...

    def pairings(self, left: G1, rights: Sequence[G2]) -> list[bytes]:
        """e(left, right) for each right, cheaper than one by one."""
        ...

    def pairing_power(self, left: G1, right: G2) -> GtPower:
        """A function that raises e(left, right) to scalars: dear to make, cheap to call."""
        ...

    def equal_pairings(self, left: Sequence[tuple[G1, G2]], right: Sequence[tuple[G1, G2]]) -> bool:
        """Whether the product of the pairings on the left equals that on the right."""
        ...
