"""Session keys: the user signs once that a short-lived key may ask for the user secret keys of one package.

Times are milliseconds since the epoch. Key servers refuse a creation time in their future by a single millisecond: it
is set some seconds back. Source: MystenLabs/seal, crates/key-server/src/signed_message.rs.
"""

import base64
import binascii
import datetime as dt
import time
from collections.abc import Callable
from typing import Final, Never

import msgspec
from cryptography.exceptions import InvalidSignature as WrongSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from daas.common import bcs
from daas.common.errors import InvalidInput
from daas.seal.address import format_address, parse_address
from daas.seal.errors import InvalidSignature, SessionExpired
from daas.seal.signatures import PersonalMessageSigner

TTL_MIN_MAX: Final = 30
#: How far the creation time is set back: clocks of well-kept machines differ by less.
BACKDATE_MS: Final = 5_000
#: A session counts as expired this long before its time: requests need time to arrive.
EXPIRY_MARGIN_MS: Final = 10_000
_MINUTE_MS: Final = 60_000
#: Last moment that the signed text can name (year 9999).
_TIME_MAX_MS: Final = 253_402_300_799_000

Clock = Callable[[], int]


def system_clock_ms() -> int:
    """Milliseconds since the epoch by this machine's clock."""
    return time.time_ns() // 1_000_000


class Certificate(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user's permission for a session key, as key servers read it (JSON).

    Attributes:
        user: address, `0x` and digits.
        session_vk: base64 of the session's Ed25519 public key, 32 bytes.
        creation_time: ms since the epoch.
        ttl_min: minutes it is good for, 1..30.
        signature: base64 of the user's serialized Sui signature over `certificate_message`.
        mvr_name: name of the package in the Move registry, where the user signed that instead of its id.
    """

    user: str
    session_vk: str
    creation_time: int
    ttl_min: int
    signature: str
    mvr_name: str | None = None


def certificate_message(package: str, ttl_min: int, creation_ms: int, session_key: bytes) -> bytes:
    """The text that a user signs.

    Args:
        package: `0x` and 64 digits of the FIRST version's id, or the MVR name.
        ttl_min: minutes.
        creation_ms: ms since the epoch; the text shows whole seconds.
        session_key: Ed25519 public key, 32 bytes.
    """
    if not 0 <= creation_ms <= _TIME_MAX_MS:
        raise InvalidInput("the creation time is no time", reason="certificate-time")
    moment = dt.datetime.fromtimestamp(creation_ms // 1000, dt.UTC)
    return (
        f"Accessing keys of package {package} for {ttl_min} mins from {moment:%Y-%m-%d %H:%M:%S} UTC, "
        f"session key {base64.b64encode(session_key).decode()}"
    ).encode()


def request_message(ptb: bytes, encryption_key: bytes, verification_key: bytes) -> bytes:
    """What a session key signs for one request: BCS of the transaction and the two ElGamal keys."""
    return bcs.bytes_(ptb) + bcs.bytes_(encryption_key) + bcs.bytes_(verification_key)


def session_key_of(certificate: Certificate) -> bytes:
    """The session's Ed25519 public key, 32 bytes.

    Raises:
        InvalidInput: `certificate-session-key`.
    """
    try:
        key = base64.b64decode(certificate.session_vk, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        raise InvalidInput("the session key is not base64 of 32 bytes", reason="certificate-session-key")
    return key


def verify_request(session_key: bytes, signature: bytes, message: bytes) -> None:
    """Checks the session key's signature over a request.

    Raises:
        InvalidSignature: `session-signature`.
    """
    try:
        Ed25519PublicKey.from_public_bytes(session_key).verify(signature, message)
    except (WrongSignature, ValueError):
        raise InvalidSignature("the session key's signature does not hold", reason="session-signature") from None


class SessionKey:
    """A key that may ask key servers for one package's keys, for a while. Use `create`.

    Nothing here prints or pickles the secret; `export_secret` gives it to those who must keep a session.
    """

    __slots__ = ("_clock", "_key", "certificate", "package_id", "verification_key")

    def __init__(self, key: bytes, package_id: bytes, certificate: Certificate, clock: Clock = system_clock_ms) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(key)
        self._clock = clock
        self.verification_key = self._key.public_key().public_bytes_raw()
        self.package_id = package_id
        self.certificate = certificate
        if session_key_of(certificate) != self.verification_key:
            raise InvalidInput("the certificate is for another session key", reason="certificate-session-key")

    def __repr__(self) -> str:
        return f"SessionKey(user={self.certificate.user}, package={format_address(self.package_id)})"

    def __reduce__(self) -> Never:
        raise TypeError("a session key does not leave its process by accident: see export_secret")

    @classmethod
    async def create(
        cls,
        signer: PersonalMessageSigner,
        package_id: bytes,
        *,
        ttl_min: int = 10,
        mvr_name: str | None = None,
        clock: Clock = system_clock_ms,
        backdate_ms: int = BACKDATE_MS,
    ) -> "SessionKey":
        """A new session key, signed for by the user.

        Args:
            signer: the user's account.
            package_id: 32 bytes, of the FIRST version of the package.
            ttl_min: 1..30 minutes.
            mvr_name: what the user signs instead of the package's id.
            clock: ms since the epoch.
            backdate_ms: how far the creation time is set back.

        Raises:
            InvalidInput: `session-ttl`.
        """
        if not 1 <= ttl_min <= TTL_MIN_MAX:
            raise InvalidInput(f"expected 1 to {TTL_MIN_MAX} minutes, not {ttl_min}", reason="session-ttl")
        key = Ed25519PrivateKey.generate()
        public_key = key.public_key().public_bytes_raw()
        creation_ms = clock() - backdate_ms
        message = certificate_message(mvr_name or format_address(package_id), ttl_min, creation_ms, public_key)
        certificate = Certificate(
            user=format_address(parse_address(signer.address)),
            session_vk=base64.b64encode(public_key).decode(),
            creation_time=creation_ms,
            ttl_min=ttl_min,
            signature=await signer.sign_personal_message(message),
            mvr_name=mvr_name,
        )
        return cls(key.private_bytes_raw(), package_id, certificate, clock)

    @property
    def expires_ms(self) -> int:
        """When servers stop to take it, ms since the epoch."""
        return self.certificate.creation_time + self.certificate.ttl_min * _MINUTE_MS

    @property
    def expired(self) -> bool:
        """Whether it is over, or will be within `EXPIRY_MARGIN_MS`."""
        return self._clock() > self.expires_ms - EXPIRY_MARGIN_MS

    def check(self) -> None:
        """Asserts that the session still runs.

        Raises:
            SessionExpired: `session-expired`.
        """
        if self.expired:
            raise SessionExpired("the session key's time is over: create a new one", reason="session-expired")

    def sign_request(self, ptb: bytes, encryption_key: bytes, verification_key: bytes) -> bytes:
        """Signature over one request, 64 bytes."""
        return self._key.sign(request_message(ptb, encryption_key, verification_key))

    def export_secret(self) -> bytes:
        """The secret half (32 bytes), for `SessionKey(secret, package_id, certificate)` in another process.

        Whoever has it and the certificate gets the user's keys until the session ends: keep it as a password.
        """
        return self._key.private_bytes_raw()
