"""Shamir's secret sharing, byte by byte over GF(2^8) with the polynomial x^8+x^4+x^3+x+1 (0x11b) and generator 3.

Whole shares are multiplied by a constant with one `bytes.translate`: no loop over bytes in Python.
Source: MystenLabs/seal, crates/crypto/src/{gf256,tss}.rs.
"""

import secrets
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from daas.common.errors import InvalidInput

#: Indices are bytes other than zero, where the secret is.
MAX_SHARES: Final = 255


def _tables() -> tuple[list[int], list[int]]:
    powers, logarithms, value = [0] * 510, [0] * 256, 1
    for exponent in range(255):
        powers[exponent] = powers[exponent + 255] = value
        logarithms[value] = exponent
        value ^= value << 1
        if value & 0x100:
            value ^= 0x11B
    return powers, logarithms


_POWERS, _LOGARITHMS = _tables()


def multiply(left: int, right: int) -> int:
    """Product of two elements, 0..255."""
    return _POWERS[_LOGARITHMS[left] + _LOGARITHMS[right]] if left and right else 0


def divide(left: int, right: int) -> int:
    """Quotient of two elements, 0..255.

    Raises:
        ZeroDivisionError: `right` is zero.
    """
    if not right:
        raise ZeroDivisionError("division by zero in GF(256)")
    return _POWERS[_LOGARITHMS[left] - _LOGARITHMS[right] + 255] if left else 0


#: For each constant the table that multiplies each byte of a string by it.
_TIMES: Final = tuple(bytes(multiply(value, constant) for value in range(256)) for constant in range(256))


def xor(left: bytes, right: bytes) -> bytes:
    """Sum of two strings of the same length."""
    if len(left) != len(right):
        raise InvalidInput(
            f"expected two strings of one length, not {len(left)} and {len(right)}", reason="seal-length"
        )
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")


class Share(msgspec.Struct, frozen=True):
    """The value of the sharing polynomials at one index (1..255). Secret: never shown."""

    index: int
    value: bytes

    def __repr__(self) -> str:
        return f"Share(index={self.index})"

    def __rich_repr__(self) -> Iterator[tuple[str, int]]:  # type: ignore[override]  # narrower than msgspec's: no value
        yield "index", self.index


def split(
    secret: bytes,
    threshold: int,
    count: int,
    *,
    indices: Sequence[int] | None = None,
    coefficients: Sequence[bytes] | None = None,
) -> list[Share]:
    """Shares of a secret, any `threshold` of which give it back.

    Args:
        secret: what is shared.
        threshold: 1..count.
        count: at most 255.
        indices: where the polynomials are taken, `count` different ones of 1..255; 1..count by default.
        coefficients: of x^1 .. x^(threshold-1), each as long as the secret; random unless a test gives them.

    Raises:
        InvalidInput: `seal-threshold`, `seal-indices`, `seal-coefficients`.
    """
    if not 1 <= threshold <= count <= MAX_SHARES:
        raise InvalidInput(f"expected 1 <= threshold <= shares <= {MAX_SHARES}, not {threshold} of {count}",
                           reason="seal-threshold")  # fmt: skip
    if coefficients is None:
        coefficients = [secrets.token_bytes(len(secret)) for _ in range(threshold - 1)]
    if len(coefficients) != threshold - 1 or any(len(each) != len(secret) for each in coefficients):
        raise InvalidInput(f"expected {threshold - 1} coefficients as long as the secret", reason="seal-coefficients")
    if indices is None:
        indices = range(1, count + 1)
    if len(indices) != count or len(set(indices)) != count or not all(0 < each <= MAX_SHARES for each in indices):
        raise InvalidInput(f"expected {count} different indices from 1 to {MAX_SHARES}", reason="seal-indices")
    shares = []
    for index in indices:
        table, value = _TIMES[index], bytes(len(secret))
        for coefficient in reversed(coefficients):
            value = xor(value, coefficient).translate(table)
        shares.append(Share(index, xor(value, secret)))
    return shares


def evaluate(shares: Sequence[Share], at: int) -> bytes:
    """The polynomials of lowest degree through the shares, at one index; at 0 they give the secret.

    Raises:
        InvalidInput: `seal-shares`: none, of different lengths, with an index twice or outside 1..255.
    """
    indices = [share.index for share in shares]
    if not indices or len(set(indices)) != len(indices) or not all(0 < index <= MAX_SHARES for index in indices):
        raise InvalidInput("expected one or more shares with different indices from 1 to 255", reason="seal-shares")
    total = bytes(len(shares[0].value))
    for share in shares:
        numerator = denominator = 1
        for other in indices:
            if other != share.index:
                numerator = multiply(numerator, at ^ other)
                denominator = multiply(denominator, share.index ^ other)
        total = xor(total, share.value.translate(_TIMES[divide(numerator, denominator)]))
    return total


def combine(shares: Sequence[Share]) -> bytes:
    """The secret of these shares, if they are at least as many as the threshold; otherwise some other string."""
    return evaluate(shares, 0)
