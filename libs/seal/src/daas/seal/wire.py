"""Requests and answers between clients and key servers: JSON over HTTP, as MystenLabs/seal's key-server speaks it."""

import base64
import binascii
from collections.abc import Sequence
from typing import Final

import msgspec

from daas.common.errors import InvalidInput
from daas.seal.elgamal import Encryption
from daas.seal.errors import MalformedAnswer
from daas.seal.session import Certificate

FETCH_KEY: Final = "/v1/fetch_key"
SERVICE: Final = "/v1/service"
PARTIAL_PUBLIC_KEY: Final = "/v1/debug/committee_partial_pk"
REQUEST_BYTES_MAX: Final = 180 * 1024
#: 100 keys of about 350 bytes each with ids of some hundred bytes written as numbers: generous.
ANSWER_BYTES_MAX: Final = 256 * 1024

HEADER_SDK_VERSION: Final = "Client-Sdk-Version"
HEADER_SDK_TYPE: Final = "Client-Sdk-Type"
HEADER_REQUEST_ID: Final = "Request-Id"
HEADER_SERVER_VERSION: Final = "X-KeyServer-Version"
HEADER_SERVER_GIT: Final = "X-KeyServer-GitVersion"


class FetchKeyRequest(msgspec.Struct, frozen=True):
    """`POST /v1/fetch_key`; byte strings in base64."""

    ptb: str
    enc_key: str
    enc_verification_key: str
    request_signature: str
    certificate: Certificate


class DecryptionKey(msgspec.Struct, frozen=True):
    """One user secret key, encrypted to the session: the full id as numbers, two points in base64."""

    id: list[int]
    encrypted_key: tuple[str, str]


class FetchKeyAnswer(msgspec.Struct, frozen=True):
    """What a key server gives."""

    decryption_keys: list[DecryptionKey]


class ServiceAnswer(msgspec.Struct, frozen=True):
    """`GET /v1/service`: object id, and proof of possession in base64."""

    service_id: str
    pop: str


class ErrorAnswer(msgspec.Struct, frozen=True):
    """Every refusal has this form."""

    error: str
    message: str = ""


#: What the JSON decoder raises: it passes on what it meets in the bytes (no UTF-8, brackets without end) as it comes.
_NO_JSON: Final = (msgspec.DecodeError, ValueError, RecursionError)
_REQUESTS: Final = msgspec.json.Decoder(FetchKeyRequest)
_ANSWERS: Final = msgspec.json.Decoder(FetchKeyAnswer)
_ERRORS: Final = msgspec.json.Decoder(ErrorAnswer)
_SERVICES: Final = msgspec.json.Decoder(ServiceAnswer)


def decode_request(data: bytes) -> FetchKeyRequest:
    """Reads a request.

    Raises:
        InvalidInput: `request-json`.
    """
    try:
        return _REQUESTS.decode(data)
    except _NO_JSON:
        raise InvalidInput("the request is no JSON of the expected form", reason="request-json") from None


def encode_answer(keys: Sequence[tuple[bytes, Encryption]]) -> bytes:
    """JSON of encrypted keys by full id."""
    return msgspec.json.encode(
        FetchKeyAnswer(
            [
                DecryptionKey(list(identity), (to_base64(key.ephemeral), to_base64(key.blinded)))
                for identity, key in keys
            ]
        )
    )


def decode_answer(data: bytes) -> list[tuple[bytes, Encryption]]:
    """Reads encrypted keys by full id; whether they are keys the caller must verify.

    Raises:
        MalformedAnswer: `answer-json`.
    """
    try:
        keys = _ANSWERS.decode(data).decryption_keys
        return [
            (bytes(key.id), Encryption(_from_base64(key.encrypted_key[0]), _from_base64(key.encrypted_key[1])))
            for key in keys
        ]
    except _NO_JSON:
        raise MalformedAnswer("the key server's answer is no list of keys", reason="answer-json") from None


def decode_error(data: bytes) -> ErrorAnswer:
    """Reads a refusal.

    Raises:
        MalformedAnswer: `answer-json`.
    """
    try:
        return _ERRORS.decode(data)
    except _NO_JSON:
        raise MalformedAnswer("the key server's refusal has no reason", reason="answer-json") from None


def decode_service(data: bytes) -> ServiceAnswer:
    """Reads what `/v1/service` says.

    Raises:
        MalformedAnswer: `answer-json`.
    """
    try:
        return _SERVICES.decode(data)
    except _NO_JSON:
        raise MalformedAnswer("the key server does not say who it is", reason="answer-json") from None


def to_base64(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode()


def from_base64(text: str, field: str, length: int | None = None) -> bytes:
    """Strict base64, of `length` bytes where given.

    Raises:
        InvalidInput: `request-base64`.
    """
    try:
        data = _from_base64(text)
    except ValueError:
        raise InvalidInput("expected base64", reason="request-base64", field=field) from None
    if length is not None and len(data) != length:
        raise InvalidInput(f"expected {length} bytes, not {len(data)}", reason="request-base64", field=field)
    return data


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
