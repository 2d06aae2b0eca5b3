"""The checks that need the ledger: the key was registered with this document, and the batch was anchored as signed."""

from collections.abc import Iterable

from daas.common import merkle
from daas.common.decision import payload_digest
from daas.common.errors import DaasError
from daas.evidence.anchors import AnchoredEvent, AnchorSource, LedgerTransaction, RegisteredEvent
from daas.evidence.bundle import describe
from daas.evidence.checks import Examined
from daas.evidence.report import Check, failed, passed, unchecked
from daas.evidence.trust import CLOCK_SKEW_MS, DOCUMENT_AGE_MS_MAX

NO_LEDGER = "not checked: no ledger given"


async def registration(examined: Examined, source: AnchorSource | None) -> Check:
    """The ledger took this key into this registry, for this document, before the batch was anchored."""
    name, said = "registration", examined.bundle.registered
    document, decided = examined.document, examined.decided
    wrong = _differences(
        (
            ("key", said.public_key, decided.public_key),
            ("registry", said.registry, "0x" + examined.trust.registry.hex()),
        )
    )
    anchored_ms = examined.bundle.anchored.timestamp_ms
    if not said.registered_ms - CLOCK_SKEW_MS <= anchored_ms < said.expires_ms:
        wrong.append(f"the batch was anchored at {anchored_ms} ms, the key was registered until {said.expires_ms} ms")
    if not -CLOCK_SKEW_MS <= said.registered_ms - document.timestamp_ms <= DOCUMENT_AGE_MS_MAX:
        wrong.append(f"the document is of {document.timestamp_ms} ms, the registration of {said.registered_ms} ms")
    if wrong:
        return failed(name, "; ".join(wrong))
    if source is None:
        return unchecked(name, NO_LEDGER)
    transaction = await _transaction(source, said.tx_digest)
    event = next((e for e in transaction.registered if e.enclave == said.enclave), None)
    if event is None:
        return failed(name, f"transaction {said.tx_digest} registered no enclave {describe(said.enclave)}")
    wrong = _differences(
        (
            *((field, getattr(event, field), getattr(said, field)) for field in _REGISTERED),
            ("nonces", transaction.nonces, ((event.registry, _next_nonce(document.nonce, event)),)),
        )
    )
    if event.document_digest not in ("", merkle.digest(examined.bundle.document).hex()):
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


def _next_nonce(nonce: bytes | None, event: RegisteredEvent) -> str:
    """What the registry's nonce becomes when it registers a key: h(nonce || key)."""
    return merkle.digest((nonce or b"") + bytes.fromhex(event.public_key)).hex()


async def anchor(examined: Examined, source: AnchorSource | None) -> Check:
    """The ledger accepted exactly this header, signed by this key, as the next of this registry."""
    name = "anchor"
    if source is None:
        return unchecked(name, NO_LEDGER)
    decided, said = examined.decided, examined.bundle.anchored
    chain = await source.chain()
    if chain != examined.trust.chain.hex():
        return failed(name, f"the ledger is of chain {describe(chain)}, expected {describe(examined.trust.chain)}")
    transaction = await _transaction(source, said.tx_digest)
    registry = "0x" + examined.trust.registry.hex()
    header = decided.header
    event = next(
        (e for e in transaction.anchored if (e.registry, e.sequence) == (registry, header.sequence)),
        None,
    )
    if event is None:
        return failed(name, f"transaction {said.tx_digest} anchored no batch {header.sequence} of this registry")
    expected = AnchoredEvent(
        registry=registry,
        sequence=header.sequence,
        payload_digest=payload_digest(header).hex(),
        previous=header.previous,
        log_sequence=header.log_sequence,
        log_root=header.log_root,
        policy=header.policy,
        state_root=header.state_root,
        decisions=header.decisions,
        count=header.count,
        expires_ms=header.expires_ms,
        enclave=event.enclave,
        public_key=decided.public_key,
        timestamp_ms=decided.timestamp_ms,
        simulated=examined.trust.simulated,
    )
    fields = AnchoredEvent.__struct_fields__
    wrong = _differences((field, getattr(event, field), getattr(expected, field)) for field in fields)
    if said.checkpoint is not None and transaction.checkpoint is not None:
        wrong += _differences([("checkpoint", transaction.checkpoint, said.checkpoint)])
    if wrong:
        return failed(name, f"transaction {said.tx_digest}: " + "; ".join(wrong))
    return passed(
        name,
        f"transaction {said.tx_digest} succeeded and emitted Anchored with these {len(fields)} fields"
        + (" (simulated registry)" if event.simulated else ""),
        tx_digest=said.tx_digest,
        checkpoint=transaction.checkpoint,
        enclave=event.enclave,
        simulated=event.simulated,
    )


async def _transaction(source: AnchorSource, digest: str) -> LedgerTransaction:
    transaction = await source.transaction(digest)
    if transaction.digest != digest:
        raise DaasError(f"asked for transaction {digest}, got {transaction.digest}", reason="other-transaction")
    if not transaction.succeeded:
        raise DaasError(f"transaction {digest} failed", reason="failed-transaction")
    return transaction


def _differences(rows: Iterable[tuple[str, object, object]]) -> list[str]:
    """Sentences for the rows (what, found on the ledger, expected) that differ."""
    return [
        f"{what} is {describe(found)}, expected {describe(expected)}"
        for what, found, expected in rows
        if found != expected
    ]
