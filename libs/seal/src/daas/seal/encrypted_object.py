"""The EncryptedObject: what Seal stores and sends, byte for byte, and the rules that each one keeps.

BCS: version u8 = 0 | package id 32 | inner id vector | services vector<(object id 32, share index u8)> | threshold u8 |
enum {0 Boneh-Franklin on BLS12-381: nonce 96, shares vector<32>, encrypted randomness 32} | enum {0 AES-256-GCM: blob,
option aad; 1 HMAC-256-CTR: blob, option aad, mac 32; 2 plain}. Source: MystenLabs/seal, crates/crypto/src/lib.rs.

Decoding is as strict as the strictest of the official readers (Move) in the header, and refuses what the TypeScript one
lets pass: other versions and trailing bytes.
"""

from typing import Final

import msgspec

from daas.common import bcs
from daas.seal.backend.protocol import G2_LENGTH
from daas.seal.dem import MAC_LENGTH
from daas.seal.errors import MalformedObject
from daas.seal.gf256 import MAX_SHARES
from daas.seal.ibe import decode_g2

VERSION: Final = 0
ID_LENGTH: Final = 32
SHARE_LENGTH: Final = 32
RANDOMNESS_LENGTH: Final = 32
#: Flags of a point's first byte: compressed, and the identity.
_COMPRESSED, _POINT_FLAGS = 0x80, 0xC0
#: The one kind of key encapsulation there is.
_BONEH_FRANKLIN: Final = 0


class Service(msgspec.Struct, frozen=True):
    """One share's key server (32-byte object id) and index (1..255). A server of weight 2 stands there twice."""

    object_id: bytes
    index: int


class Aes256Gcm(msgspec.Struct, frozen=True):
    """Ciphertext with its 16-byte tag; `aad` None and empty mean the same but are written differently."""

    blob: bytes
    aad: bytes | None


class Hmac256Ctr(msgspec.Struct, frozen=True):
    """Ciphertext, additional data and 32-byte MAC."""

    blob: bytes
    aad: bytes | None
    mac: bytes


class Plain(msgspec.Struct, frozen=True):
    """No ciphertext: the derived key itself is the secret."""


Ciphertext = Aes256Gcm | Hmac256Ctr | Plain


class EncryptedObject(msgspec.Struct, frozen=True, kw_only=True):
    """A Seal object as a value. One that was made by `decode` keeps every rule; `check` holds others to them.

    Attributes:
        package_id: 32 bytes, of the FIRST version of the package that decides about access.
        inner_id: the identity within that package.
        nonce: point of G2, 96 bytes.
        encrypted_shares: 32 bytes each, one for each service.
        encrypted_randomness: 32 bytes.
    """

    package_id: bytes
    inner_id: bytes
    services: tuple[Service, ...]
    threshold: int
    nonce: bytes
    encrypted_shares: tuple[bytes, ...]
    encrypted_randomness: bytes
    ciphertext: Ciphertext

    @property
    def full_id(self) -> bytes:
        """What user secret keys are made for: package id and inner id."""
        return self.package_id + self.inner_id

    @property
    def aad(self) -> bytes:
        """The additional data; empty where there is none. It lies in clear."""
        return getattr(self.ciphertext, "aad", None) or b""

    @property
    def weights(self) -> dict[bytes, int]:
        """How many shares each key server holds, by object id."""
        weights: dict[bytes, int] = {}
        for service in self.services:
            weights[service.object_id] = weights.get(service.object_id, 0) + 1
        return weights

    def check(self) -> None:
        """Holds the object to the rules of the format.

        Raises:
            MalformedObject: `seal-services`, `seal-threshold`, `seal-shares`, `seal-nonce`, `seal-length`.
            MalformedPoint: the nonce.
        """
        self.check_structure()
        decode_g2(self.nonce)

    def check_structure(self) -> None:
        """As `check`, for callers that decode the nonce themselves."""
        indices = [service.index for service in self.services]
        if len(set(indices)) != len(indices) or not all(0 < index <= MAX_SHARES for index in indices):
            raise MalformedObject("share indices must be different and from 1 to 255", reason="seal-services")
        if not 1 <= self.threshold <= len(indices):
            raise MalformedObject(f"threshold {self.threshold} of {len(indices)} shares", reason="seal-threshold")
        if len(self.encrypted_shares) != len(indices):
            raise MalformedObject(f"{len(self.encrypted_shares)} shares for {len(indices)} services",
                                  reason="seal-shares")  # fmt: skip
        lengths = {len(self.package_id), *(len(service.object_id) for service in self.services)} | {
            *map(len, self.encrypted_shares),
            len(self.encrypted_randomness),
        }
        mac = self.ciphertext.mac if isinstance(self.ciphertext, Hmac256Ctr) else bytes(MAC_LENGTH)
        if len(self.nonce) != G2_LENGTH or self.nonce[0] & _POINT_FLAGS != _COMPRESSED:
            raise MalformedObject("the nonce is no compressed point other than the identity", reason="seal-nonce")
        if lengths != {ID_LENGTH} or len(mac) != MAC_LENGTH:
            raise MalformedObject("ids, shares, randomness and MAC have 32 bytes each", reason="seal-length")

    def encode(self) -> bytes:
        """BCS. Whether the nonce lies on the curve is judged by those who read it.

        Raises:
            MalformedObject: the object breaks a rule of the format.
        """
        self.check_structure()
        return b"".join(
            (
                bcs.u8(VERSION),
                self.package_id,
                bcs.bytes_(self.inner_id),
                bcs.vector(lambda service: service.object_id + bcs.u8(service.index), self.services),
                bcs.u8(self.threshold),
                bcs.uleb128(_BONEH_FRANKLIN),
                self.nonce,
                bcs.vector(bytes, self.encrypted_shares),
                self.encrypted_randomness,
                _encode_ciphertext(self.ciphertext),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> "EncryptedObject":
        """Reads and checks an object.

        Raises:
            DecodeError: MalformedObject or MalformedPoint where a rule is broken, `bcs-*` where the bytes are no BCS.
        """
        reader = bcs.Reader(data)
        version = reader.u8()
        if version != VERSION:
            raise MalformedObject(f"expected version {VERSION}, not {version}", reason="seal-version")
        package_id = reader.address()
        inner_id = reader.bytes_()
        services = reader.vector(lambda: Service(reader.take(ID_LENGTH), reader.u8()))
        threshold = reader.u8()
        kind = reader.uleb128()
        if kind != _BONEH_FRANKLIN:
            raise MalformedObject(f"unknown key encapsulation {kind}", reason="seal-kem")
        nonce = reader.take(G2_LENGTH)
        shares = reader.vector(lambda: reader.take(SHARE_LENGTH))
        randomness = reader.take(RANDOMNESS_LENGTH)
        ciphertext = _decode_ciphertext(reader)
        reader.end()
        value = cls(
            package_id=package_id,
            inner_id=inner_id,
            services=tuple(services),
            threshold=threshold,
            nonce=nonce,
            encrypted_shares=tuple(shares),
            encrypted_randomness=randomness,
            ciphertext=ciphertext,
        )
        value.check()
        return value


def _encode_ciphertext(ciphertext: Ciphertext) -> bytes:
    match ciphertext:
        case Aes256Gcm(blob=blob, aad=aad):
            return bcs.uleb128(0) + bcs.bytes_(blob) + bcs.option(bcs.bytes_, aad)
        case Hmac256Ctr(blob=blob, aad=aad, mac=mac):
            return bcs.uleb128(1) + bcs.bytes_(blob) + bcs.option(bcs.bytes_, aad) + mac
        case Plain():
            return bcs.uleb128(2)


def _decode_ciphertext(reader: bcs.Reader) -> Ciphertext:
    kind = reader.uleb128()
    match kind:
        case 0:
            return Aes256Gcm(reader.bytes_(), reader.option(reader.bytes_))
        case 1:
            return Hmac256Ctr(reader.bytes_(), reader.option(reader.bytes_), reader.take(MAC_LENGTH))
        case 2:
            return Plain()
        case _:
            raise MalformedObject(f"unknown data encapsulation {kind}", reason="seal-dem")
