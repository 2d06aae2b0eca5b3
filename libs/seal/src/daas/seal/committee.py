"""Committees: several members that answer as one key server, each with a share of its master key.

Member p holds f(p+1) of a polynomial over the scalar field with f(0) the committee's master key; an aggregator asks
members and interpolates their ElGamal answers in the exponent. Encrypted objects know nothing of it: a committee is one
server there. Source: MystenLabs/seal, crates/crypto/src/elgamal.rs (`aggregate_encrypted`).
"""

from collections.abc import Mapping
from functools import reduce

from daas.common.errors import InvalidInput
from daas.seal.backend import BACKEND
from daas.seal.backend.protocol import G1, G2, ORDER
from daas.seal.elgamal import Encryption


def aggregate(parts: Mapping[int, Encryption], threshold: int) -> Encryption:
    """The committee's answer from exactly `threshold` members' verified answers, by party id (0, 1, ...).

    Raises:
        InvalidInput: `seal-members`.
        MalformedPoint: a component is no point.
    """
    _check(parts, threshold)
    factors = _lagrange_at_zero(sorted(parts))

    def interpolate(points: Mapping[int, G1]) -> bytes:
        return BACKEND.encode(_combine(points, factors))

    return Encryption(
        interpolate({party: BACKEND.g1_decode(part.ephemeral) for party, part in parts.items()}),
        interpolate({party: BACKEND.g1_decode(part.blinded) for party, part in parts.items()}),
    )


def public_key(partial_keys: Mapping[int, bytes], threshold: int) -> bytes:
    """The committee's public key from exactly `threshold` members' partial public keys, by party id.

    Raises:
        InvalidInput: `seal-members`.
        MalformedPoint: a key is no point.
    """
    _check(partial_keys, threshold)
    points = {party: BACKEND.g2_decode(key) for party, key in partial_keys.items()}
    return BACKEND.encode(_combine(points, _lagrange_at_zero(sorted(points))))


def _check(parts: Mapping[int, object], threshold: int) -> None:
    if threshold < 1 or len(parts) != threshold or any(not 0 <= party <= 0xFFFF for party in parts):
        raise InvalidInput(f"expected the answers of exactly {threshold} members, not {len(parts)}",
                           reason="seal-members")  # fmt: skip


def _lagrange_at_zero(parties: list[int]) -> dict[int, int]:
    factors = {}
    for party in parties:
        numerator = denominator = 1
        for other in parties:
            if other != party:
                numerator = numerator * (other + 1) % ORDER
                denominator = denominator * (other - party) % ORDER
        factors[party] = numerator * pow(denominator, -1, ORDER) % ORDER
    return factors


def _combine(points: Mapping[int, G1 | G2], factors: Mapping[int, int]) -> G1 | G2:
    return reduce(BACKEND.add, (BACKEND.multiply(point, factors[party]) for party, point in points.items()))
