"""Makes attestation documents that no NSM would: the attacker's side of the tests of verifiers.

A `Forge` holds every key of a development chain, so each part of a document can be changed and signed again.
"""

import dataclasses
import hashlib

from daas.devstack.nsm.certificates import (
    DOMAIN,
    INSTANCE_PROFILE,
    LEAF_PROFILE,
    REGIONAL_PROFILE,
    ROOT_PROFILE,
    ZONAL_PROFILE,
    CertificateProfile,
    Issuer,
    PrivateKey,
    issue,
    new_key,
)
from daas.devstack.nsm.documents import encode_payload, sign_document
from daas.devstack.nsm.pcrs import PCR_LOCKED_AT_BOOT, development_measurement

MODULE_ID = "i-simulated00000000-enc0123456789abcdef"
NONCE = bytes(range(32))
PUBLIC_KEY = bytes(range(100, 132))
MEASUREMENT = development_measurement()
PCRS = dict.fromkeys(range(PCR_LOCKED_AT_BOOT), bytes(48)) | dict(enumerate(dataclasses.astuple(MEASUREMENT)))

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_DOCUMENT_AGE_MS = 1_000
_LEAF_AGE_MS = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class Forge:
    """A chain of certificates with all keys. Every method leaves what it doesn't change as a genuine NSM has it."""

    now_ms: int
    root: Issuer
    regional: Issuer
    zonal: Issuer
    instance: Issuer
    leaf: Issuer

    @classmethod
    def create(
        cls, now_ms: int, *, root: Issuer | None = None, zonal_profile: CertificateProfile = ZONAL_PROFILE
    ) -> "Forge":
        """A new chain, valid at `now_ms`, under the given or a new root."""
        root = root or _issue_ca("root", None, ROOT_PROFILE, now_ms, now_ms + _DAY_MS)
        regional = _issue_ca("regional", root, REGIONAL_PROFILE, now_ms, now_ms + _DAY_MS)
        zonal = _issue_ca("zonal", regional, zonal_profile, now_ms, now_ms + _DAY_MS)
        instance = _issue_ca("instance", zonal, INSTANCE_PROFILE, now_ms, now_ms + _DAY_MS)
        return cls(now_ms, root, regional, zonal, instance, instance).with_leaf()

    @property
    def root_sha256(self) -> bytes:
        """What a policy must name to trust this chain."""
        return hashlib.sha256(self.root.der).digest()

    @property
    def cabundle(self) -> tuple[bytes, ...]:
        """Root first."""
        return (self.root.der, self.regional.der, self.zonal.der, self.instance.der)

    def fields(self, **changes: object) -> dict[str, object]:
        """The payload's fields, a second old, with some replaced or added."""
        fields: dict[str, object] = {
            "module_id": MODULE_ID,
            "digest": "SHA384",
            "timestamp": self.now_ms - _DOCUMENT_AGE_MS,
            "pcrs": PCRS,
            "certificate": self.leaf.der,
            "cabundle": self.cabundle,
            "public_key": PUBLIC_KEY,
            "user_data": None,
            "nonce": NONCE,
        }
        return fields | changes

    def payload(self, **changes: object) -> bytes:
        """The encoded payload, with some fields replaced or added."""
        return encode_payload(list(self.fields(**changes).items()))

    def document(self, **changes: object) -> bytes:
        """A signed document, with some fields of the payload replaced or added."""
        return sign_document(self.leaf.key, self.payload(**changes))

    def with_leaf(
        self,
        profile: CertificateProfile = LEAF_PROFILE,
        *,
        key: PrivateKey | None = None,
        module_id: str = MODULE_ID,
        not_before_ms: int | None = None,
        not_after_ms: int | None = None,
    ) -> "Forge":
        """The same chain with another leaf; it is valid for two hours from now unless told otherwise."""
        leaf = issue(
            f"{module_id}.dev-1.{DOMAIN}",
            key or new_key(),
            self.instance,
            profile=profile,
            not_before_ms=self.now_ms - _LEAF_AGE_MS if not_before_ms is None else not_before_ms,
            not_after_ms=self.now_ms + 2 * _HOUR_MS if not_after_ms is None else not_after_ms,
        )
        return dataclasses.replace(self, leaf=leaf)

    def with_instance(self, profile: CertificateProfile, *, not_after_ms: int | None = None) -> "Forge":
        """The same chain with another instance CA and a leaf under it."""
        end_ms = self.now_ms + _DAY_MS if not_after_ms is None else not_after_ms
        instance = _issue_ca("instance", self.zonal, profile, self.now_ms, end_ms)
        return dataclasses.replace(self, instance=instance).with_leaf()


def _issue_ca(name: str, issuer: Issuer | None, profile: CertificateProfile, now_ms: int, not_after_ms: int) -> Issuer:
    return issue(name, new_key(), issuer, profile=profile, not_before_ms=now_ms - _DAY_MS, not_after_ms=not_after_ms)
