"""What a verifier pins before it looks at any evidence: everything else is a claim."""

from dataclasses import dataclass, field

from daas.attestation import AWS_ROOT_SHA256, Measurement
from daas.common import merkle
from daas.common.errors import ConfigurationError
from daas.placement import Genesis, Policy

#: How long after its document an enclave may have been registered: the life of the document's leaf certificate.
DOCUMENT_AGE_MS_MAX = 3 * 3_600_000
CLOCK_SKEW_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The verifier's own knowledge.

    Attributes:
        cluster: name of the cluster on the bus.
        chain: genesis digest of the ledger's chain, 32 bytes.
        registry: id of the cluster's Registry object, 32 bytes.
        attestation_root: SHA-256 of the root certificate of attestation documents, 32 bytes: AWS's own, or that of a
            development stand-in, under which everything is simulated.
        measurements: PCR0-2 of the images that may sign.
        policy: the scheduling rules that the cluster committed to.
    """

    cluster: str
    chain: bytes
    registry: bytes
    attestation_root: bytes
    measurements: tuple[Measurement, ...]
    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        """Refuses pins that pin nothing.

        Raises:
            ConfigurationError: `trust-length` or `trust-no-measurement`, naming the field.
        """
        for name in ("chain", "registry", "attestation_root"):
            length = len(getattr(self, name))
            if length != merkle.HASH_LENGTH:
                raise ConfigurationError(f"{name} has 32 bytes, not {length}", reason="trust-length", field=name)
        if not self.measurements:
            raise ConfigurationError(
                "no measurement is allowed: name PCR0-2 of at least one image",
                reason="trust-no-measurement",
                field="measurements",
            )

    @property
    def simulated(self) -> bool:
        """Whether the pinned root is a stand-in's."""
        return self.attestation_root != AWS_ROOT_SHA256

    @property
    def genesis(self) -> Genesis:
        """Where the chain of decisions begins."""
        return Genesis(chain=self.chain, registry=self.registry, policy=self.policy)

    @property
    def binding(self) -> bytes:
        """What the user data of a document must be: blake2b-256(chain || registry || policy digest)."""
        return merkle.digest(self.chain + self.registry + self.policy.digest())
