"""Access decisions out of the archive: the file in which they travel, and what vouches for the keys that signed them.

A file holds the facts as they were published, and of each key its registrations with the attestation documents. That
the decisions are signed and are what the policies say is for `daas.policy.record` to check; here it is checked that
the keys were enclaves' of this registry, under these policies, when they signed.
"""

import contextlib
from typing import Annotated, Final, Literal

import msgspec

from daas.common.access import PolicyDecided
from daas.common.errors import DaasError, DecodeError, InvalidInput, Refused
from daas.common.messages import EnclaveAttested, EnclaveRegistered, Name, decode
from daas.evidence import vouching
from daas.evidence.anchors import AnchorSource
from daas.evidence.bundle import MAX_FILE_BYTES, Raw, SequenceNumber, describe, document_bytes
from daas.evidence.report import Report
from daas.evidence.store import EvidenceStore
from daas.evidence.trust import CLOCK_SKEW_MS, Trust
from daas.evidence.verify import make_check
from daas.evidence.vouching import Vouched, document_for

FORMAT: Final = "k3s-daas.io/access"
#: Facts of at most 256 decisions each; a file holds what its size allows.
MAX_FACTS: Final = 100_000
MAX_KEYS: Final = 10_000
#: A fact of access decisions is JSON, and base64 in the file.
_MAX_BYTES: Final = MAX_FILE_BYTES // 2


class AccessFact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fact: its place in the POLICY stream and exact bytes (base64 in JSON)."""

    sequence: SequenceNumber
    data: Raw


class KeyEvidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A registration of a key, and the document that it was registered for."""

    registered: EnclaveRegistered
    document: Raw


class AccessFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Access decisions with what vouches for their keys."""

    format: Literal["k3s-daas.io/access"] = FORMAT
    version: Literal[1] = 1
    cluster: Name
    facts: Annotated[tuple[AccessFact, ...], msgspec.Meta(max_length=MAX_FACTS)]
    keys: Annotated[tuple[KeyEvidence, ...], msgspec.Meta(max_length=MAX_KEYS)]


def encode_access(file: AccessFile) -> bytes:
    """The bytes of a file."""
    return msgspec.json.encode(file)


def decode_access(data: bytes) -> AccessFile:
    """The file.

    Raises:
        DecodeError: `evidence-malformed`.
    """
    if len(data) > MAX_FILE_BYTES:
        raise DecodeError(f"a file of {len(data)} bytes", reason="evidence-malformed")
    try:
        return msgspec.json.decode(data, type=AccessFile)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"the file of access decisions: {error}", reason="evidence-malformed") from None


async def collect_access(store: EvidenceStore, *, first: int = 1) -> AccessFile:
    """All archived access decisions from a place in the POLICY stream on, with the keys that signed them.

    Raises:
        InvalidInput: `evidence-size`: more than a file holds; begin later.
    """
    facts: list[AccessFact] = []
    keys: dict[str, None] = {}
    size = 0
    async for place, data in store.facts(store.keys.access_facts()):
        if place < first:
            continue
        facts.append(AccessFact(sequence=place, data=data))
        size += len(data)
        if len(facts) > MAX_FACTS or size > _MAX_BYTES:
            raise InvalidInput(f"more access decisions than a file holds, from {first} on", reason="evidence-size")
        with contextlib.suppress(DaasError):  # what can't be read is for the verifier to say
            keys[decode(data, PolicyDecided).public_key] = None
    found = [one for key in keys for one in await _vouching(store, key)]
    return AccessFile(cluster=store.cluster, facts=tuple(facts), keys=tuple(found))


async def _vouching(store: EvidenceStore, public_key: str) -> list[KeyEvidence]:
    """A key's registrations whose documents are archived."""
    documents: list[bytes] = []
    async for _, data in store.facts(store.keys.attestations(public_key)):
        with contextlib.suppress(DaasError):  # what is no base64 was never registered
            documents.append(document_bytes(decode(data, EnclaveAttested).document))
    found = []
    async for _, data in store.facts(store.keys.registrations(public_key)):
        registered = decode(data, EnclaveRegistered)
        document = document_for(registered, documents)
        if document is not None:
            found.append(KeyEvidence(registered=registered, document=document))
    return found


class AccessKeys:
    """The keys of a file, each checked once.

    Args:
        file: the file.
        trust: what the verifier pins.
        source: the ledger; without one, registrations are not asked for.
        now_ms: the verifier's clock.
        offline: accept that.
    """

    def __init__(
        self, file: AccessFile, trust: Trust, *, source: AnchorSource | None, now_ms: int, offline: bool
    ) -> None:
        self._keys = file.keys
        self._trust = trust
        self._source = source
        self._now_ms = now_ms
        self._offline = offline
        self._reports: dict[int, Report] = {}

    @property
    def reports(self) -> tuple[Report, ...]:
        """What was checked of the keys that were used."""
        return tuple(self._reports.values())

    async def check(self, fact: PolicyDecided) -> None:
        """Whether a fact's key was an enclave's of this registry, under these policies, at each of its decisions.

        Raises:
            Refused: `access-registry`, `access-policy` or `access-key`.
        """
        trust = self._trust
        if (fact.chain, fact.registry) != (trust.chain.hex(), "0x" + trust.registry.hex()):
            raise Refused("another chain or registry", reason="access-registry", field="registry")
        if fact.policy != trust.policy.access:
            raise Refused(
                f"decided under policy set {describe(fact.policy)}, the cluster committed to "
                f"{describe(trust.policy.access)}",
                reason="access-policy",
                field="policy",
            )
        for index in {self._at(fact.public_key, record.timestamp_ms) for record in fact.decisions}:
            report = self._reports.get(index)
            if report is None:
                report = self._reports[index] = await self._report(self._keys[index])
            if not report.ok:
                raise Refused(
                    f"key {describe(fact.public_key)} is not vouched for: {', '.join(report.failed)}",
                    reason="access-key",
                    field="public_key",
                )

    def _at(self, public_key: str, time_ms: int) -> int:
        """The registration of a key that counted at a time."""
        for index, key in enumerate(self._keys):
            said = key.registered
            if said.public_key == public_key and said.registered_ms - CLOCK_SKEW_MS <= time_ms < said.expires_ms:
                return index
        raise Refused(f"key {public_key} was not registered at {time_ms} ms", reason="access-key", field="public_key")

    async def _report(self, key: KeyEvidence) -> Report:
        said = key.registered
        vouched = Vouched(
            document=key.document,
            public_key=said.public_key,
            registered=said,
            used_ms=said.registered_ms,
            trust=self._trust,
            now_ms=self._now_ms,
        )
        checks = [
            await make_check("attestation", lambda: vouching.attestation(vouched)),
            await make_check("measurements", lambda: vouching.measurements(vouched.parsed, self._trust)),
            await make_check("binding", lambda: vouching.binding(vouched)),
            await make_check("registration", lambda: vouching.registration(vouched, self._source)),
        ]
        return Report(
            subject=f"key {describe(said.public_key)}",
            sequence=None,
            simulated=self._trust.simulated or said.simulated,
            offline=self._offline,
            checks=tuple(checks),
        )
