"""What a relying party asks of an attestation document. Nothing that decides about trust has a default.

A verifier whose caller may forget the measurements, the nonce or the key's length says yes to an enclave that runs
anything; so each must be given, and skipping one is written out as `UNCHECKED`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from daas.attestation.document import (
    NONCE_BYTES_MAX,
    PCR_BYTES,
    PCR_COUNT_MAX,
    PUBLIC_KEY_BYTES_MAX,
    USER_DATA_BYTES_MAX,
)
from daas.common.errors import ConfigurationError

# SHA-256 of the DER of CN=aws.nitro-enclaves, 2019-10-28 .. 2049-10-28, the first certificate of every genuine
# document. (AWS documents the SHA-256 of the zip file it comes in, 8cf60e2b...: not this value.)
AWS_ROOT_SHA256: Final = bytes.fromhex("641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b")

# Longer than boot, registration and one retry; the nonce is what stops replay, this bounds a leaked nonce.
AGE_MS_MAX_DEFAULT = 300_000
# Enclave clocks are the hypervisor's; hosts under NTP are within a second. A minute is generous and harmless.
CLOCK_SKEW_MS_DEFAULT = 60_000


class Unchecked(Enum):
    """The type of `UNCHECKED`."""

    UNCHECKED = "unchecked"


UNCHECKED: Final = Unchecked.UNCHECKED
"""Says at the call site that a part of the document is deliberately not compared with anything."""

UncheckedType: TypeAlias = Literal[Unchecked.UNCHECKED]


class TimeMode(Enum):
    """At which moment the certificates are judged."""

    PRESENT = "present"
    """Now: for anybody who is about to act on the document."""
    HISTORICAL = "historical"
    """At the document's own timestamp, without a limit of age: for auditors. The age of the statement then rests on
    something else (an anchor on the ledger), since whoever obtained a leaf key later could have backdated it."""


@dataclass(frozen=True, slots=True, order=True)
class Measurement:
    """PCR0, 1 and 2 of one image, 48 bytes each, compared as one: registers of two images never mix.

    All-zero registers are what debug mode shows, so none may be allowed by listing it.
    """

    pcr0: bytes
    pcr1: bytes
    pcr2: bytes

    def __post_init__(self) -> None:
        for name in ("pcr0", "pcr1", "pcr2"):
            value = getattr(self, name)
            _require_pcr(value, name)
            if not any(value):
                raise ConfigurationError(
                    f"{name} is all zero, as in every debug enclave: such a measurement admits any image",
                    reason="measurement-zero",
                    field=name,
                )

    @classmethod
    def from_hex(cls, pcr0: str, pcr1: str, pcr2: str) -> "Measurement":
        """From three strings of 96 hex digits, as nitro-cli prints them.

        Raises:
            ConfigurationError: not hex, not 48 bytes, or all zero.
        """
        try:
            return cls(bytes.fromhex(pcr0), bytes.fromhex(pcr1), bytes.fromhex(pcr2))
        except ValueError:
            raise ConfigurationError("a PCR is not hexadecimal", reason="pcr-not-hex") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationPolicy:
    """What must hold of a document beyond being authentic.

    Raises:
        ConfigurationError: the policy is empty or contradicts itself.
    """

    measurements: Iterable[Measurement]
    """The images that are allowed. May be empty only when `allow_debug` says that no image is measured."""
    nonce: bytes | UncheckedType
    """The challenge that must be inside (0..512 bytes)."""
    user_data: bytes | UncheckedType
    """What the user data must be (0..512 bytes)."""
    public_key_length_bytes: int | UncheckedType | None
    """The length that the public key must have (32 for Ed25519), or None when there must be no key."""
    pcrs: Mapping[int, Iterable[bytes]] = field(default_factory=dict)
    """Further registers (3 role, 4 instance, 8 signing certificate, 16 policy, ...) and the values allowed for each."""
    allow_debug: bool = False
    """Also accept enclaves in debug mode, whose memory the operator of the host can read. Never in production."""
    development_root_sha256: bytes | None = None
    """Trust this root instead of the AWS root; everything verified under it is marked simulated."""
    time_mode: TimeMode = TimeMode.PRESENT
    age_ms_max: int = AGE_MS_MAX_DEFAULT
    """How old the document may be. Not applied in historical mode."""
    clock_skew_ms: int = CLOCK_SKEW_MS_DEFAULT
    """How far ahead of our clock the document's may be."""

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # the way to normalise a field of a frozen dataclass
        set_field(self, "measurements", frozenset(self.measurements))
        set_field(self, "pcrs", MappingProxyType({index: frozenset(values) for index, values in self.pcrs.items()}))
        if not self.measurements and not self.allow_debug:
            raise ConfigurationError(
                "no measurement is allowed: name PCR0, 1 and 2 of at least one image",
                reason="policy-no-measurement",
                field="measurements",
            )
        for index, values in self.pcrs.items():
            self._check_register(index, values)
        self._check_expected("nonce", self.nonce, NONCE_BYTES_MAX)
        self._check_expected("user_data", self.user_data, USER_DATA_BYTES_MAX)
        length = self.public_key_length_bytes
        if isinstance(length, int) and not 1 <= length <= PUBLIC_KEY_BYTES_MAX:
            raise ConfigurationError(
                f"a public key is 1 to {PUBLIC_KEY_BYTES_MAX} bytes, the policy asks for {length}",
                reason="policy-public-key-length",
                field="public_key_length_bytes",
            )
        if self.age_ms_max <= 0 or self.clock_skew_ms < 0:
            raise ConfigurationError("age and clock skew are positive", reason="policy-time", field="age_ms_max")
        self._check_root()

    @property
    def root_sha256(self) -> bytes:
        """The one root that this policy trusts."""
        return AWS_ROOT_SHA256 if self.development_root_sha256 is None else self.development_root_sha256

    @property
    def simulated(self) -> bool:
        """True when what verifies under this policy is a stand-in."""
        return self.development_root_sha256 is not None

    def _check_register(self, index: int, values: Iterable[bytes]) -> None:
        where = f"pcrs[{index}]"
        if not 3 <= index < PCR_COUNT_MAX:
            raise ConfigurationError(
                f"PCR{index}: 0, 1 and 2 belong in measurements, and there are {PCR_COUNT_MAX} registers",
                reason="policy-pcr-index",
                field=where,
            )
        if not values:
            raise ConfigurationError(f"PCR{index} is named without a value", reason="policy-pcr-empty", field=where)
        for value in values:
            _require_pcr(value, where)

    def _check_expected(self, name: str, value: bytes | UncheckedType, bytes_max: int) -> None:
        if value is not UNCHECKED and (not isinstance(value, bytes) or len(value) > bytes_max):
            raise ConfigurationError(
                f"{name} is neither UNCHECKED nor at most {bytes_max} bytes", reason="policy-expected", field=name
            )

    def _check_root(self) -> None:
        root = self.development_root_sha256
        if root is None:
            return
        if len(root) != 32:
            raise ConfigurationError(
                f"a SHA-256 is 32 bytes, got {len(root)}", reason="policy-root", field="development_root_sha256"
            )
        if root == AWS_ROOT_SHA256:
            raise ConfigurationError(
                "the AWS root is no development root: leave it out and genuine documents are accepted",
                reason="policy-root",
                field="development_root_sha256",
            )


def _require_pcr(value: bytes, where: str) -> None:
    if not isinstance(value, bytes) or len(value) != PCR_BYTES:
        raise ConfigurationError(f"a PCR value is {PCR_BYTES} bytes", reason="pcr-size", field=where)
