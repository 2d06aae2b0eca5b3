"""Tokens for publishers that ask for one: a JWT for each request, since a publisher takes a token id only once.

Claims as the publisher reads them: `iat`, `exp`, `jti`, and what it is to hold the request against: `epochs`, `size`.
"""

import secrets
import time
from collections.abc import Callable
from typing import Final, Literal

import jwt

from daas.common.errors import ConfigurationError

Algorithm = Literal["HS256", "HS384", "HS512", "ES256", "ES384", "RS256", "PS256", "EdDSA"]
#: Shorter than any publisher's `--jwt-expiring-sec` in use; long enough for clocks that differ.
LIFETIME_S: Final = 60
_HMAC_SECRET_BYTES_MIN: Final = 32


class PublisherKey:
    """Signs tokens.

    Args:
        secret: the shared secret (HS*) or the private key as PEM (others).
        algorithm: what the publisher verifies with; HS256 is its default.
        clock_s: seconds since 1970.
    """

    def __init__(
        self, secret: bytes, *, algorithm: Algorithm = "HS256", clock_s: Callable[[], float] = time.time
    ) -> None:
        if algorithm.startswith("HS") and len(secret) < _HMAC_SECRET_BYTES_MIN:
            raise ConfigurationError(
                f"the publisher's secret has {len(secret)} bytes; expected {_HMAC_SECRET_BYTES_MIN} or more",
                reason="walrus-secret",
                field="secret",
            )
        self._secret = secret
        self._algorithm = algorithm
        self._clock_s = clock_s
        try:
            self.token(epochs=1, size=1)
        except (jwt.PyJWTError, ValueError, TypeError):
            raise ConfigurationError(
                f"the publisher's key is none for {algorithm}", reason="walrus-secret", field="secret"
            ) from None

    def __repr__(self) -> str:
        """Without the secret."""
        return f"PublisherKey({self._algorithm})"

    def token(self, *, epochs: int, size: int | None) -> str:
        """A token for one request.

        Args:
            epochs: for which the upload is to be stored, exactly.
            size: bytes of a blob's body, exactly; None for a quilt, whose body is a form.
        """
        now = int(self._clock_s())
        claims = {"iat": now, "exp": now + LIFETIME_S, "jti": secrets.token_hex(16), "epochs": epochs}
        if size is not None:
            claims["size"] = size
        return jwt.encode(claims, self._secret, algorithm=self._algorithm)
