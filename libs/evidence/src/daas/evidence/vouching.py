"""What speaks for a key: the attestation document, the pins it must meet, and its registration on the ledger."""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from daas.attestation import (
    POLICY_REGISTER,
    UNCHECKED,
    AttestationDocument,
    AttestationPolicy,
    Measurement,
    TimeMode,
    parse_document,
    policy_register,
    verify,
)
from daas.common import merkle
from daas.common.errors import DaasError
from daas.common.messages import EnclaveRegistered
from daas.evidence.anchors import AnchorSource, LedgerTransaction, RegisteredEvent
from daas.evidence.bundle import describe
from daas.evidence.report import Check, failed, passed, unchecked
from daas.evidence.trust import CLOCK_SKEW_MS, DOCUMENT_AGE_MS_MAX, Trust

NO_LEDGER: Final = "not checked: no ledger given"


@dataclass(frozen=True)
class Vouched:
    """A key that signed something.

    Attributes:
        document: the attestation document, raw.
        public_key: who signed, hex.
        registered: the fact of the registration.
        used_ms: when what it signed was taken or made.
        trust: what the verifier pinned.
        now_ms: the verifier's clock.
    """

    document: bytes
    public_key: str
    registered: EnclaveRegistered
    used_ms: int
    trust: Trust
    now_ms: int

    @property
    def parsed(self) -> AttestationDocument:
        """The document, parsed and not verified."""
        return parse_document(self.document)


def document_for(registered: EnclaveRegistered, documents: Sequence[bytes]) -> bytes | None:
    """Of a key's documents, in the order in which they came, the one that it was registered for; None where it is not
    among them.

    A key attests again when nobody answers, and when the registry's nonce has moved on, which the key's own
    registration does before the enclave has heard of it. So the last document before the fact may be another one. What
    counts is what the ledger has said of the document. A fact that does not tell comes from an older relay: then it is
    the last document that is not younger than the registration, or else the first.
    """
    if registered.document_digest is not msgspec.UNSET:
        return next((one for one in documents if merkle.digest(one).hex() == registered.document_digest), None)
    parsed: list[tuple[bytes, AttestationDocument]] = []
    for one in documents:
        with contextlib.suppress(DaasError):  # what is no document was never registered
            parsed.append((one, parse_document(one)))
    if registered.next_nonce is not msgspec.UNSET:
        found = [one for one, read in parsed if _next_nonce(read.nonce, registered) == registered.next_nonce]
    else:
        older = [one for one, read in parsed if read.timestamp_ms <= registered.registered_ms]
        found = older or [one for one, _ in parsed[:1]]
    return found[-1] if found else None


def attestation(vouched: Vouched) -> Check:
    """The document is authentic under the pinned root, and vouches for the key that signed."""
    name, trust, document = "attestation", vouched.trust, vouched.parsed
    own = Measurement(*(document.pcrs.get(index, b"") for index in (0, 1, 2)))
    attested = verify(
        vouched.document,
        AttestationPolicy(
            measurements=(own,),
            nonce=UNCHECKED,
            user_data=UNCHECKED,
            public_key_length_bytes=32,
            development_root_sha256=trust.attestation_root if trust.simulated else None,
            time_mode=TimeMode.HISTORICAL,
        ),
        vouched.now_ms,
    )
    root = "a DEVELOPMENT root (simulated)" if attested.simulated else "the AWS Nitro root"
    if attested.public_key is None or attested.public_key.hex() != vouched.public_key:
        return failed(
            name,
            f"the document vouches for key {describe(attested.public_key or b'')}, "
            f"{describe(vouched.public_key)} signed",
        )
    return passed(
        name,
        f"the document of {attested.module_id} chains to {root} and vouches for the key that signed",
        root_sha256=attested.root_fingerprint,
        module_id=attested.module_id,
        document_ms=attested.timestamp_ms,
        simulated=attested.simulated,
    )


def measurements(document: AttestationDocument, trust: Trust) -> Check:
    """PCR0-2 are those of one allowed image."""
    name, pcrs = "measurements", document.pcrs
    found = Measurement(*(pcrs.get(index, b"") for index in (0, 1, 2)))
    figures = {"pcr0": found.pcr0.hex(), "pcr1": found.pcr1.hex(), "pcr2": found.pcr2.hex()}
    allowed = len(trust.measurements)
    if found not in trust.measurements:
        return failed(name, f"PCR0 {describe(found.pcr0)}: none of the {allowed} allowed images", **figures)
    return passed(name, f"PCR0, 1 and 2 are those of one of {allowed} allowed image(s)", **figures)


def binding(vouched: Vouched) -> Check:
    """The document was made for this chain, registry and policy."""
    name, expected, document = "binding", vouched.trust.binding, vouched.parsed
    policy = vouched.trust.policy.digest().hex()
    if document.user_data != expected:
        return failed(
            name,
            f"the document's user data is {describe(document.user_data or b'')}, "
            f"h(chain || registry || policy) is {describe(expected)}",
        )
    register = policy_register(vouched.trust.policy.digest())
    if document.pcrs.get(POLICY_REGISTER) != register:
        return failed(
            name,
            f"PCR{POLICY_REGISTER} is {describe(document.pcrs.get(POLICY_REGISTER, b'not locked'))}, an enclave with "
            f"this policy has {describe(register)}",
        )
    if document.nonce is None or len(document.nonce) != merkle.HASH_LENGTH:
        return failed(name, "the document carries no nonce of 32 bytes, so it answers no registry's challenge")
    return passed(
        name,
        "the document's user data is h(chain || registry || policy), and PCR16 holds the policy",
        user_data=expected.hex(),
        pcr16=register.hex(),
        nonce=document.nonce.hex(),
        policy=policy,
    )


async def registration(vouched: Vouched, source: AnchorSource | None) -> Check:
    """The ledger took this key into this registry, for this document, before it was used."""
    name, said, document = "registration", vouched.registered, vouched.parsed
    wrong = differences(
        (
            ("key", said.public_key, vouched.public_key),
            ("registry", said.registry, "0x" + vouched.trust.registry.hex()),
        )
    )
    used_ms = vouched.used_ms
    if not said.registered_ms - CLOCK_SKEW_MS <= used_ms < said.expires_ms:
        wrong.append(f"the key was used at {used_ms} ms, the key was registered until {said.expires_ms} ms")
    if not -CLOCK_SKEW_MS <= said.registered_ms - document.timestamp_ms <= DOCUMENT_AGE_MS_MAX:
        wrong.append(f"the document is of {document.timestamp_ms} ms, the registration of {said.registered_ms} ms")
    if wrong:
        return failed(name, "; ".join(wrong))
    if source is None:
        return unchecked(name, NO_LEDGER)
    transaction = await the_transaction(source, said.tx_digest)
    event = next((e for e in transaction.registered if e.enclave == said.enclave), None)
    if event is None:
        return failed(name, f"transaction {said.tx_digest} registered no enclave {describe(said.enclave)}")
    wrong = differences(
        (
            *((field, getattr(event, field), getattr(said, field)) for field in _REGISTERED),
            ("nonces", transaction.nonces, ((event.registry, _next_nonce(document.nonce, event)),)),
        )
    )
    if event.document_digest not in ("", merkle.digest(vouched.document).hex()):
        wrong.append(f"the registrar saw another document ({describe(event.document_digest)})")
    if wrong:
        return failed(name, f"transaction {said.tx_digest}: " + "; ".join(wrong))
    return passed(
        name,
        f"transaction {said.tx_digest} registered this key for this registry, answering the registry's own nonce",
        tx_digest=said.tx_digest,
        enclave=event.enclave,
        measurement_version=event.measurement_version,
        registered_ms=event.registered_ms,
        expires_ms=event.expires_ms,
        simulated=event.simulated,
    )


_REGISTERED = (
    "registry",
    "public_key",
    "measurement_version",
    "registered_ms",
    "expires_ms",
    "simulated",
)


def _next_nonce(nonce: bytes | None, event: RegisteredEvent | EnclaveRegistered) -> str:
    """What the registry's nonce becomes when it registers a key: h(nonce || key)."""
    return merkle.digest((nonce or b"") + bytes.fromhex(event.public_key)).hex()


async def the_transaction(source: AnchorSource, digest: str) -> LedgerTransaction:
    """A transaction that the ledger has carried out.

    Raises:
        DaasError: it failed, or the node shows another one.
    """
    transaction = await source.transaction(digest)
    if transaction.digest != digest:
        raise DaasError(f"asked for transaction {digest}, got {transaction.digest}", reason="other-transaction")
    if not transaction.succeeded:
        raise DaasError(f"transaction {digest} failed", reason="failed-transaction")
    return transaction


def differences(rows: Iterable[tuple[str, object, object]]) -> list[str]:
    """Sentences for the rows (what, found on the ledger, expected) that differ."""
    return [
        f"{what} is {describe(found)}, expected {describe(expected)}"
        for what, found, expected in rows
        if found != expected
    ]
