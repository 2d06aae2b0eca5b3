"""The development certificate authority: a root that is kept, and the short-lived chain below it.

Root (30 years, persisted) > regional (20 days) > zonal (6 days) > instance (24 hours) > leaf (3 hours and 3 seconds),
as AWS has them. Everything below the root lives in memory and is issued again before it can end under a leaf.
"""

import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from daas.common.errors import ConfigurationError
from daas.devstack.nsm.certificates import (
    DOMAIN,
    INSTANCE_PROFILE,
    LEAF_PROFILE,
    REGIONAL_PROFILE,
    ROOT_PROFILE,
    ZONAL_PROFILE,
    Issuer,
    issue,
    new_key,
)

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
LEAF_VALIDITY_MS = 3 * _HOUR_MS
LEAF_BACKDATED_MS = 3_000  # genuine leaves start 3 seconds before the first document
_ISSUED_AGO_MS = _HOUR_MS
# Replaced when less than this is left, so that no leaf outlives its issuers.
_CHAIN_REST_MS_MIN = LEAF_VALIDITY_MS + _HOUR_MS
_REGION = "dev-1"  # short: a common name has at most 64 characters, and a module id takes 39

_KEY_FILE, _ROOT_FILE, _FINGERPRINT_FILE, _LOCK_FILE = "root.key.pem", "root.der", "root.sha256", "lock"


@dataclass(frozen=True, slots=True)
class _Intermediates:
    regional: Issuer
    zonal: Issuer
    instance: Issuer
    not_after_ms: int


class DevelopmentAuthority:
    """Issues leaves for enclaves of one simulated instance.

    Args:
        root: a self-signed root; `create_root` makes one, `load_or_create_root` keeps one.
    """

    def __init__(self, root: Issuer) -> None:
        self.root = root
        # "i-" and 17 characters, as an instance id has, but never a hexadecimal number.
        self.instance_id = f"i-simulated{secrets.token_hex(4)}"
        self._intermediates: _Intermediates | None = None

    @property
    def root_sha256(self) -> bytes:
        """What a policy names as its `development_root_sha256`."""
        return hashlib.sha256(self.root.der).digest()

    def cabundle(self, now_ms: int) -> tuple[bytes, ...]:
        """Root first, the issuer of leaves last; DER."""
        chain = self._chain(now_ms)
        return (self.root.der, chain.regional.der, chain.zonal.der, chain.instance.der)

    def issue_leaf(self, module_id: str, now_ms: int) -> Issuer:
        """A certificate and a fresh key for an enclave, from 3 seconds ago until in 3 hours."""
        return issue(
            f"{module_id}.{_REGION}.{DOMAIN}",
            new_key(),
            self._chain(now_ms).instance,
            profile=LEAF_PROFILE,
            not_before_ms=now_ms - LEAF_BACKDATED_MS,
            not_after_ms=now_ms + LEAF_VALIDITY_MS,
        )

    def _chain(self, now_ms: int) -> _Intermediates:
        chain = self._intermediates
        if chain is None or now_ms + _CHAIN_REST_MS_MIN > chain.not_after_ms:
            chain = self._intermediates = self._issue_chain(now_ms)
        return chain

    def _issue_chain(self, now_ms: int) -> _Intermediates:
        start_ms = now_ms - _ISSUED_AGO_MS
        suffix = f"{_REGION}.{DOMAIN}.simulated-enclaves"
        regional = issue(
            f"{secrets.token_hex(8)}.{suffix}",
            new_key(),
            self.root,
            profile=REGIONAL_PROFILE,
            not_before_ms=start_ms,
            not_after_ms=start_ms + 20 * _DAY_MS,
        )
        zonal = issue(
            f"{secrets.token_hex(8)}.zonal.{suffix}",
            new_key(),
            regional,
            profile=ZONAL_PROFILE,
            not_before_ms=start_ms,
            not_after_ms=start_ms + 6 * _DAY_MS,
        )
        instance = issue(
            f"{self.instance_id}.{suffix}",
            new_key(),
            zonal,
            profile=INSTANCE_PROFILE,
            not_before_ms=start_ms,
            not_after_ms=start_ms + _DAY_MS,
        )
        return _Intermediates(regional, zonal, instance, start_ms + _DAY_MS)


def create_root(now_ms: int) -> Issuer:
    """A new self-signed root, valid from a year ago for 31 years."""
    return issue(
        f"{DOMAIN}.simulated-enclaves",
        new_key(),
        None,
        profile=ROOT_PROFILE,
        not_before_ms=now_ms - 365 * _DAY_MS,
        not_after_ms=now_ms + 30 * 365 * _DAY_MS,
    )


def load_or_create_root(state_dir: Path, now_ms: int) -> Issuer:
    """The root kept in `state_dir`, made there at the first start.

    Files: `root.key.pem` (mode 0600), `root.der`, `root.sha256` (the DER's SHA-256 in hexadecimal and a newline).
    Two processes that start at once get the same root.

    Raises:
        ConfigurationError: the files don't belong together, or others may read the key.
    """
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(state_dir):
        if (state_dir / _KEY_FILE).exists():
            return _load_root(state_dir)
        root = create_root(now_ms)
        key_pem = root.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write(state_dir / _ROOT_FILE, root.der, 0o644)
        _write(state_dir / _FINGERPRINT_FILE, f"{hashlib.sha256(root.der).hexdigest()}\n".encode(), 0o644)
        # The key comes last: it is what says that the root is complete.
        _write(state_dir / _KEY_FILE, key_pem, 0o600)
        return root


def _load_root(state_dir: Path) -> Issuer:
    key_path = state_dir / _KEY_FILE
    mode = stat.S_IMODE(key_path.stat().st_mode)
    if mode & 0o077:
        raise ConfigurationError(
            f"{key_path} has mode {mode:04o}: others may read the key, expected 0600", reason="nsm-state-key-mode"
        )
    try:
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        der = (state_dir / _ROOT_FILE).read_bytes()
        certificate = x509.load_der_x509_certificate(der)
        fingerprint = (state_dir / _FINGERPRINT_FILE).read_text().strip()
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"the root kept in {state_dir} can't be read ({type(error).__name__}); remove the directory for a new one",
            reason="nsm-state-unreadable",
        ) from None
    if (
        not isinstance(key, ec.EllipticCurvePrivateKey)
        or certificate.public_key() != key.public_key()
        or fingerprint != hashlib.sha256(der).hexdigest()
    ):
        raise ConfigurationError(
            f"key, certificate and fingerprint in {state_dir} don't belong together", reason="nsm-state-mismatch"
        )
    return Issuer(certificate, key)


@contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    descriptor = os.open(state_dir / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, and never readable more widely than `mode`."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
