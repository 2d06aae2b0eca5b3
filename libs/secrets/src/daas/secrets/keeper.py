"""Asking a keeper over the bus: its key is believed for its attestation, and nothing leaves unencrypted.

keeper = Keeper(bus, KeeperTrust(...))
sealed = await keeper.seal(manifest, policy_name="default")
"""

import base64
import time
from collections.abc import Callable
from typing import Annotated, Final, TypeVar

import msgspec

from daas.attestation import UNCHECKED, AttestationPolicy, Measurement, verify
from daas.common import merkle
from daas.common.bus import Bus
from daas.common.errors import DecodeError, Refused, Unavailable
from daas.common.facts import fact_of
from daas.common.messages import Digest, ObjectId
from daas.common.secret_facts import KeeperAttested
from daas.common.subjects import SECRET_KEEPER_ATTESTED, SECRET_OPEN, SECRET_SEAL, Subject
from daas.seal import SessionKey, parse_address
from daas.secrets.approval import Right
from daas.secrets.channel import ReplyKey, SecretReply
from daas.secrets.manifest import Manifest
from daas.secrets.questions import OpenAnswer, OpenQuestion, SealAnswer, SealQuestion

A = TypeVar("A", SealAnswer, OpenAnswer)

#: What a keeper attests to in place of a placement policy, so that no other enclave's document passes for a keeper's.
_PURPOSE: Final = merkle.digest(b"k3s-daas/seal-keeper/1")
_KEY_LENGTH: Final = 32
#: A document is renewed every half hour by default; one that is older than this is of a keeper that is gone.
_AGE_MS_MAX: Final = 3 * 3_600_000
_TIMEOUT_S: Final = 20.0
_NEW_KEY: Final = "keeper-key"


def keeper_user_data(chain: bytes, registry: str) -> bytes:
    """What binds a keeper's document to one cluster: blake2b-256 of genesis digest, registry (32 bytes) and purpose."""
    return merkle.digest(chain + parse_address(registry) + _PURPOSE)


class _Registers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pcr0: str = msgspec.field(name="0")
    pcr1: str = msgspec.field(name="1")
    pcr2: str = msgspec.field(name="2")


class _TrustFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    measurements: Annotated[tuple[_Registers, ...], msgspec.Meta(min_length=1, max_length=8)]
    chain: Digest
    registry: ObjectId
    development_root_sha256: Digest | None = None


class KeeperTrust(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold of a keeper's attestation.

    Attributes:
        measurements: the images that may be keepers.
        chain, registry: genesis digest (32 bytes) and Registry object of the cluster.
        development_root_sha256: trust this root instead of AWS's; only for a cluster that is marked simulated.
    """

    measurements: tuple[Measurement, ...]
    chain: bytes
    registry: str
    development_root_sha256: bytes | None = None

    @classmethod
    def decode(cls, data: bytes) -> "KeeperTrust":
        """Reads the file in which an administrator pins it, JSON with bytes in hex:

            {"measurements": [{"0": "...", "1": "...", "2": "..."}], "chain": "...", "registry": "0x...",
             "development_root_sha256": "..."}

        Raises:
            DecodeError: `keeper-trust`. ConfigurationError: a measurement that admits any image.
        """
        try:
            read = msgspec.json.decode(data, type=_TrustFile)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DecodeError(f"this does not say what a keeper must attest: {error}", reason="keeper-trust") from None
        root = read.development_root_sha256
        return cls(
            measurements=tuple(Measurement.from_hex(one.pcr0, one.pcr1, one.pcr2) for one in read.measurements),
            chain=bytes.fromhex(read.chain),
            registry=read.registry,
            development_root_sha256=None if root is None else bytes.fromhex(root),
        )

    def check(self, attested: KeeperAttested, now_ms: int) -> bytes:
        """The keeper's public key, 32 bytes.

        Raises:
            AttestationError: the document is refused. Refused: `keeper-key`: it vouches for another key.
        """
        policy = AttestationPolicy(
            measurements=self.measurements,
            nonce=UNCHECKED,  # published for all to read: its age bounds it
            user_data=keeper_user_data(self.chain, self.registry),
            public_key_length_bytes=_KEY_LENGTH,
            development_root_sha256=self.development_root_sha256,
            age_ms_max=_AGE_MS_MAX,
        )
        key = verify(base64.b64decode(attested.document), policy, now_ms).public_key
        if key is None or key.hex() != attested.public_key:
            raise Refused("the keeper's attestation vouches for another key", reason="keeper-key", field="public_key")
        return key


class Keeper:
    """Asks the cluster's keeper.

    Args:
        bus: of a service that may ask.
        trust: what its attestation must say.
        clock: ms since the epoch.
    """

    def __init__(
        self, bus: Bus, trust: KeeperTrust, *, clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._bus, self._trust, self._clock = bus, trust, clock
        self._key: bytes | None = None

    async def public_key(self) -> bytes:
        """The keeper's key, verified, as it was last published.

        Raises:
            Unavailable: `no-keeper`. AttestationError. Refused: `keeper-key`.
        """
        stored = await self._bus.last(SECRET_KEEPER_ATTESTED)
        if stored is None:
            raise Unavailable("no keeper has attested its key", reason="no-keeper")
        return self._trust.check(fact_of(stored, SECRET_KEEPER_ATTESTED, KeeperAttested), self._clock())

    async def seal(self, manifest: Manifest, *, policy_name: str, shared: bool = False) -> dict[str, object]:
        """The sealed manifest; one that is sealed already comes back as it is.

        Raises:
            DaasError: as the keeper refused; Unavailable where none answers.
        """
        plain = dict(manifest)

        def question(key: bytes) -> SealQuestion:
            return SealQuestion(reply_key=key, policy_name=policy_name, manifest=plain, shared=shared)

        return (await self._ask(SECRET_SEAL, question, SealAnswer)).manifest

    async def open(self, manifest: Manifest, session: SessionKey, right: Right) -> dict[str, bytes]:
        """The values of a sealed Secret, which the keeper opens as the session's user.

        The keeper gets the session: make one for this alone, as short as may be.

        Raises:
            DaasError: as the keeper refused; Unavailable where none answers.
        """
        sealed, certificate = dict(manifest), session.certificate

        def question(key: bytes) -> OpenQuestion:
            return OpenQuestion(
                reply_key=key,
                manifest=sealed,
                certificate=certificate,
                session_secret=session.export_secret(),
                right=right,
            )

        return (await self._ask(SECRET_OPEN, question, OpenAnswer)).data

    async def _ask(self, subject: Subject, question: Callable[[bytes], msgspec.Struct], kind: type[A]) -> A:
        fresh = self._key is None
        while True:
            if self._key is None:
                self._key = await self.public_key()
            reply = ReplyKey()
            body = reply.seal_request(self._key, self._bus.cluster, subject, question(reply.public_key))
            try:
                return reply.open(await self._bus.request(subject, body, SecretReply, timeout_s=_TIMEOUT_S), kind)
            except Refused as error:
                if error.reason != _NEW_KEY or fresh:
                    raise
                # It was restarted: its new key is asked for once.
                self._key, fresh = None, True
