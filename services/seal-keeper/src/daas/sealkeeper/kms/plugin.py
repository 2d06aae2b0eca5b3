"""What the plugin answers: Status, Encrypt and Decrypt over the seeds that are open; pure but for random bytes."""

import os
from collections.abc import Mapping
from typing import Final, Protocol, TypeVar

from google.protobuf.message import DecodeError as WireError
from google.protobuf.message import Message

from daas.common.errors import DecodeError, InvalidInput, Refused
from daas.kms import api_pb2 as api
from daas.kms import envelope
from daas.kms.stored import KEY_ID_BYTES_MAX

VERSION: Final = "v2"
#: A call's name in logs; API servers send a UUID.
_UID_BYTES_MAX: Final = 256

M = TypeVar("M", bound=Message)


class OpenSeed(Protocol):
    """One open generation."""

    @property
    def key_id(self) -> str:
        """Its name."""
        ...

    @property
    def sealed(self) -> bytes:
        """The Seal object it came from."""
        ...

    @property
    def seed(self) -> bytes:
        """32 bytes."""
        ...


class Seeds(Protocol):
    """The seeds at hand."""

    def current(self) -> OpenSeed:
        """What to encrypt with.

        Raises:
            Unavailable: none is open yet, and why.
        """
        ...

    def named(self, key_id: str) -> OpenSeed:
        """The generation of a key id.

        Raises:
            NotFound: `kms-unknown-key`. Unavailable: it is not open yet, and why.
        """
        ...


class Plugin:
    """Answers calls; all three raise DaasError with the reason."""

    def __init__(self, seeds: Seeds) -> None:
        self._seeds = seeds

    def status(self, raw: bytes) -> bytes:
        """StatusResponse, after a round trip with the key it names.

        Raises:
            Unavailable: no seed is open.
        """
        _parse(api.StatusRequest, raw)
        current = self._seeds.current()
        probe = os.urandom(envelope.SEED_BYTES)
        opened = envelope.unwrap(current.seed, current.key_id, envelope.wrap(current.seed, current.key_id, probe))
        if opened != probe:
            raise Refused("what was encrypted opens to something else", reason="kms-round-trip")
        return api.StatusResponse(version=VERSION, healthz="ok", key_id=current.key_id).SerializeToString()

    def encrypt(self, raw: bytes) -> bytes:
        """EncryptResponse: under the key that Status names.

        Raises:
            Unavailable: no seed is open. InvalidInput: `kms-request`, `kms-plaintext`.
        """
        request = _parse(api.EncryptRequest, raw)
        _check_uid(request.uid)
        current = self._seeds.current()
        return api.EncryptResponse(
            ciphertext=envelope.wrap(current.seed, current.key_id, request.plaintext),
            key_id=current.key_id,
            annotations={envelope.ANNOTATION: current.sealed},
        ).SerializeToString()

    def decrypt(self, raw: bytes) -> bytes:
        """DecryptResponse, also for older generations.

        Raises:
            NotFound, Unavailable: see Seeds. InvalidInput: `kms-request`, `kms-ciphertext`, `kms-annotations`. Refused:
                `kms-tag`.
        """
        request = _parse(api.DecryptRequest, raw)
        _check_uid(request.uid)
        if not 0 < len(request.key_id.encode()) < KEY_ID_BYTES_MAX:
            raise InvalidInput("the key id is empty or too long", reason="kms-request", field="key_id")
        seed = self._seeds.named(request.key_id)
        annotations: Mapping[str, bytes] = request.annotations
        envelope.check_annotations(annotations, seed.sealed)
        plaintext = envelope.unwrap(seed.seed, seed.key_id, request.ciphertext)
        return api.DecryptResponse(plaintext=plaintext).SerializeToString()


def _parse(kind: type[M], raw: bytes) -> M:
    try:
        return kind.FromString(raw)
    except (WireError, UnicodeDecodeError):
        raise DecodeError(f"the bytes are no {kind.__name__}", reason="kms-request") from None


def _check_uid(uid: str) -> None:
    if len(uid.encode()) > _UID_BYTES_MAX:
        raise InvalidInput(f"a uid has at most {_UID_BYTES_MAX} bytes", reason="kms-request", field="uid")
