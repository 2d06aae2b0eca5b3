"""The test each backend passes before it is used: the constants that the official implementation asserts of itself."""

import hashlib
from typing import Final

from daas.common.errors import ConfigurationError
from daas.seal import tags
from daas.seal.backend.protocol import ORDER, Backend

_SCALAR: Final = 12345
_FULL_ID: Final = b"\x00"
_INDEX: Final = 42
#: MystenLabs/seal, crates/crypto/src/ibe.rs, regression test of the KDF.
_KEY: Final = bytes.fromhex("89befdfd6aecdce1305ddbca891d1c29f0507cfd5225cd6b11e52e60f088ea87")


def self_test(backend: Backend) -> None:
    """Hash, multiply, pair, serialise and compare once (about 3 ms).

    Raises:
        ConfigurationError: `seal-backend`: a result differs from the official one.
    """
    identity = backend.hash_to_g1(tags.IDENTITY + _FULL_ID)
    nonce = backend.encode(backend.multiply(backend.g2, _SCALAR))
    element = backend.pairing(backend.multiply(backend.g1, _SCALAR), backend.g2)
    parts = (tags.KDF, element, nonce, backend.encode(identity), bytes(32), bytes([_INDEX]))
    if hashlib.sha3_256(b"".join(parts)).digest() != _KEY:
        raise ConfigurationError(f"backend {backend.name} fails the official KDF constant", reason="seal-backend")
    high = ORDER - 2
    table = backend.encode(backend.multiply_g2(_SCALAR)) == nonce
    power = backend.pairing_power(backend.g1, backend.g2)(high) == backend.pairing(
        backend.negate(backend.add(backend.g1, backend.g1)), backend.g2
    )
    product = backend.equal_pairings(
        [(backend.multiply(backend.g1, 2), backend.g2), (backend.g1, backend.g2)],
        [(backend.g1, backend.multiply(backend.g2, 3))],
    )
    wrong = backend.equal_pairings([(backend.g1, backend.g2)], [(backend.multiply(backend.g1, 2), backend.g2)])
    if not (table and power and product) or wrong:
        raise ConfigurationError(f"backend {backend.name} fails its own consistency test", reason="seal-backend")
