"""Login tokens: short-lived claims that a Sui account signed as a personal message.

    daas1.<base64url of the claims>.<base64url of the Sui signature>

The claims are JSON. What is signed is a line that names the purpose, then the very bytes of the claims: so a wallet
shows what it signs, and a signature made for anything else (a Seal session, say) is never a login.
"""

import base64
import binascii
import secrets
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from daas.common.errors import DaasError, InvalidInput, Refused
from daas.seal.address import format_address, parse_address
from daas.seal.signatures import PersonalMessageSigner, verify_personal_message

PREFIX: Final = "daas1"
PURPOSE: Final = b"K3s-DaaS login. Whoever holds this signature can act as you in this cluster until it expires.\n"
#: A multisig of ten members has 1.1 KiB of signature; the API server accepts headers of 1 MiB and more.
TOKEN_LENGTH_MAX: Final = 8192
#: A stolen token is good for this long at most.
LIFETIME_MAX_MS: Final = 3_600_000
LIFETIME_DEFAULT_MS: Final = 600_000
#: Clocks of two machines differ.
SKEW_MS: Final = 60_000
NONCE_LENGTH: Final = 16

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
Nonce = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$")]
Time = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class InvalidToken(Refused):
    """A token that proves nothing here; the reason says why."""


class Claims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a token says.

    Attributes:
        account: the Sui address that signed, `0x` and 64 digits.
        cluster: the one cluster it is for.
        audience: the API server's audience.
        issued_ms, expires_ms: Unix time in milliseconds.
        nonce: 16 random bytes, hex: no two tokens are alike.
    """

    version: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    account: Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{64}$")]
    cluster: Text
    audience: Text
    issued_ms: Time
    expires_ms: Time
    nonce: Nonce


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token must be for.

    Attributes:
        cluster: our name.
        audiences: any of these.
        now_ms: the time.
    """

    cluster: str
    audiences: tuple[str, ...]
    now_ms: int
    lifetime_ms_max: int = LIFETIME_MAX_MS
    skew_ms: int = SKEW_MS


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    # Only the one canonical spelling: a token that is refused must not come back in another coat.
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encode(raw) != text:
        raise ValueError("not canonical")
    return raw


async def issue(
    signer: PersonalMessageSigner, *, cluster: str, audience: str, now_ms: int, lifetime_ms: int = LIFETIME_DEFAULT_MS
) -> str:
    """A token of this account.

    Raises:
        InvalidInput: `token-lifetime`.
    """
    if not 0 < lifetime_ms <= LIFETIME_MAX_MS:
        text = f"a token lives 1 to {LIFETIME_MAX_MS} ms, not {lifetime_ms}"
        raise InvalidInput(text, reason="token-lifetime", field="lifetime_ms")
    claims = Claims(
        account=format_address(parse_address(signer.address)),
        cluster=cluster,
        audience=audience,
        issued_ms=now_ms,
        expires_ms=now_ms + lifetime_ms,
        nonce=secrets.token_hex(NONCE_LENGTH),
    )
    raw = msgspec.json.encode(claims)
    signature = await signer.sign_personal_message(PURPOSE + raw)
    return f"{PREFIX}.{_encode(raw)}.{_encode(base64.b64decode(signature))}"


def read_claims(token: str) -> tuple[Claims, bytes, bytes]:
    """The claims with their bytes and the signature's, nothing of it verified.

    Raises:
        InvalidToken: `token-size`, `token-format`.
    """
    if len(token) > TOKEN_LENGTH_MAX:
        raise InvalidToken(f"the token has more than {TOKEN_LENGTH_MAX} characters", reason="token-size")
    parts = token.split(".")
    if len(parts) != 3 or parts[0] != PREFIX:
        raise InvalidToken("not a login token: expected daas1.CLAIMS.SIGNATURE", reason="token-format")
    try:
        raw, signature = _decode(parts[1]), _decode(parts[2])
        claims = msgspec.json.decode(raw, type=Claims)
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
        raise InvalidToken("not a login token: its claims or signature can't be read", reason="token-format") from None
    return claims, raw, signature


def verify(token: str, expected: Expected) -> Claims:
    """The claims of a token that holds here and now. The cheap checks come first, the signature last.

    Raises:
        InvalidToken: `token-size`, `token-format`, `token-cluster`, `token-audience`, `token-not-yet-valid`,
            `token-expired`, `token-lifetime`, `token-signature`.
    """
    claims, raw, signature = read_claims(token)
    if claims.cluster != expected.cluster:
        text = f"the token is for cluster {claims.cluster}, this is {expected.cluster}"
        raise InvalidToken(text, reason="token-cluster", field="cluster")
    if claims.audience not in expected.audiences:
        text = f"the token is for {claims.audience}, asked was {', '.join(expected.audiences)}"
        raise InvalidToken(text, reason="token-audience", field="audience")
    lifetime_ms = claims.expires_ms - claims.issued_ms
    if not 0 < lifetime_ms <= expected.lifetime_ms_max:
        text = f"the token lives {lifetime_ms} ms, allowed are 1 to {expected.lifetime_ms_max}"
        raise InvalidToken(text, reason="token-lifetime", field="expires_ms")
    if claims.issued_ms > expected.now_ms + expected.skew_ms:
        text = f"the token is valid from {claims.issued_ms} ms, it is {expected.now_ms}"
        raise InvalidToken(text, reason="token-not-yet-valid", field="issued_ms")
    if claims.expires_ms <= expected.now_ms:
        text = f"the token expired at {claims.expires_ms} ms, it is {expected.now_ms}"
        raise InvalidToken(text, reason="token-expired", field="expires_ms")
    try:
        signed = base64.b64encode(signature).decode()
        verify_personal_message(PURPOSE + raw, signed, parse_address(claims.account))
    except DaasError as error:
        raise InvalidToken(f"the signature: {error.message}", reason="token-signature", field="signature") from None
    return claims
