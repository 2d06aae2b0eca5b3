"""What is asked of a keeper over the bus, and its answers, such that nobody on the way reads either.

HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. A request is encrypted to the keeper's
attested public key; the public key of its answer, made for this one request, travels inside it. So nobody but the
keeper can make an answer that opens, and an answer says by its `info` to which request it belongs:

    request  info = BCS {"k3s-daas/secret-request/1", cluster, subject}
    answer   info = BCS {"k3s-daas/secret-answer/1", cluster, subject, blake2b-256 of the encrypted request}

A request that is sent again by somebody else is answered to the key of whoever made it.
"""

import base64
import binascii
from typing import Annotated, Final, Never, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from daas.common import bcs, merkle
from daas.common.errors import DecodeError
from daas.common.messages import Message
from daas.common.subjects import Subject
from daas.secrets.errors import NotAuthentic

T = TypeVar("T", bound=msgspec.Struct)

KEY_LENGTH: Final = 32
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
#: A Secret of 1 MiB in base64 inside a request, itself in base64 outside, stays below.
SEALED_CHARACTERS_MAX: Final = 3 * 1024 * 1024

SealedText = Annotated[str, msgspec.Meta(max_length=SEALED_CHARACTERS_MAX)]


class SecretRequest(Message, frozen=True, kw_only=True):
    """The body of `secret.seal` and `secret.open`.

    Attributes:
        keeper: the keeper's public key that it is encrypted to, hex: a keeper that was restarted has another.
        sealed: base64 of HPKE's encapsulated key and ciphertext of a `SealQuestion` or `OpenQuestion`.
    """

    keeper: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$", description="X25519 public key, 32 bytes hex")]
    sealed: SealedText


class SecretReply(Message, frozen=True, kw_only=True):
    """The answer to a SecretRequest: `sealed` is base64 of HPKE's encapsulated key and ciphertext."""

    sealed: SealedText


class ReplyKey:
    """Opens the one answer to one request."""

    __slots__ = ("_info", "_key", "public_key")

    def __init__(self) -> None:
        self._key = X25519PrivateKey.generate()
        self._info = b""
        self.public_key = self._key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return "ReplyKey(...)"

    def __reduce__(self) -> Never:
        raise TypeError("a reply key does not leave its process")

    def seal_request(self, keeper: bytes, cluster: str, subject: Subject, question: msgspec.Struct) -> SecretRequest:
        """Encrypts a question whose `reply_key` is this one; once.

        Args:
            keeper: the keeper's public key, 32 bytes, its attestation verified.
            cluster: part of what is authenticated.
            subject: where it will be sent.
            question: what is asked.
        """
        if self._info:
            raise TypeError("a reply key is for one request")
        plaintext = msgspec.json.encode(question)
        sealed = _SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(keeper), _request_info(cluster, subject))
        self._info = _answer_info(cluster, subject, sealed)
        return SecretRequest(keeper=keeper.hex(), sealed=base64.b64encode(sealed).decode())

    def open(self, reply: SecretReply, kind: type[T]) -> T:
        """Reads the answer.

        Raises:
            NotAuthentic: `reply-changed`: it is not the keeper's answer to this request.
            DecodeError: `reply-content`.
        """
        try:
            plaintext = _SUITE.decrypt(_raw(reply.sealed, "reply-content"), self._key, self._info)
        except (InvalidTag, ValueError):
            raise NotAuthentic("the answer is not the keeper's to this request", reason="reply-changed") from None
        return _decode(plaintext, kind, "reply-content")


class KeeperKey:
    """A keeper's key: made at start, kept in memory. Nothing here prints or pickles it.

    Args:
        seed: 32 bytes.
    """

    __slots__ = ("_key", "public_key")

    def __init__(self, seed: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"KeeperKey({self.public_key.hex()})"

    def __reduce__(self) -> Never:
        raise TypeError("a keeper's key does not leave its process")

    def open(self, request: SecretRequest, cluster: str, subject: Subject, kind: type[T]) -> T:
        """Reads a request.

        Raises:
            NotAuthentic: `keeper-key`: it is for another key; ask for the present one. `request-changed`.
            DecodeError: `request-content`.
        """
        if request.keeper != self.public_key.hex():
            raise NotAuthentic("the request is encrypted to another keeper's key", reason="keeper-key", field="keeper")
        sealed = _raw(request.sealed, "request-content")
        try:
            plaintext = _SUITE.decrypt(sealed, self._key, _request_info(cluster, subject))
        except (InvalidTag, ValueError):
            raise NotAuthentic("the request does not open: it was changed, or is for another subject",
                               reason="request-changed", field="sealed") from None  # fmt: skip
        return _decode(plaintext, kind, "request-content")


def seal_reply(
    request: SecretRequest, reply_key: bytes, cluster: str, subject: Subject, answer: msgspec.Struct
) -> SecretReply:
    """Encrypts the answer to a request to the key (32 bytes) that was inside it.

    Raises:
        DecodeError: `request-content`: there is no such key.
    """
    info = _answer_info(cluster, subject, _raw(request.sealed, "request-content"))
    try:
        sealed = _SUITE.encrypt(msgspec.json.encode(answer), X25519PublicKey.from_public_bytes(reply_key), info)
    except ValueError:
        raise DecodeError("the request names no key for its answer", reason="request-content") from None
    return SecretReply(sealed=base64.b64encode(sealed).decode())


def _request_info(cluster: str, subject: Subject) -> bytes:
    return bcs.string("k3s-daas/secret-request/1") + bcs.string(cluster) + bcs.string(subject.name)


def _answer_info(cluster: str, subject: Subject, sealed: bytes) -> bytes:
    head = bcs.string("k3s-daas/secret-answer/1") + bcs.string(cluster) + bcs.string(subject.name)
    return head + merkle.digest(sealed)


def _raw(text: str, reason: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DecodeError("the sealed message is not base64", reason=reason) from None


def _decode(data: bytes, kind: type[T], reason: str) -> T:
    """JSON whose errors say where, and never quote what was there."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError):
        raise DecodeError(f"what was sealed is no {kind.__name__}", reason=reason) from None
