"""The checks that need the ledger: the key was registered with this document, and the batch was anchored as signed."""

from daas.common.decision import payload_digest
from daas.evidence import vouching
from daas.evidence.anchors import AnchoredEvent, AnchorSource
from daas.evidence.bundle import describe
from daas.evidence.checks import Examined
from daas.evidence.report import Check, failed, passed, unchecked
from daas.evidence.vouching import NO_LEDGER, differences, the_transaction


async def registration(examined: Examined, source: AnchorSource | None) -> Check:
    """The ledger took this key into this registry, for this document, before the batch was anchored."""
    return await vouching.registration(examined.vouched, source)


async def anchor(examined: Examined, source: AnchorSource | None) -> Check:
    """The ledger accepted exactly this header, signed by this key, as the next of this registry."""
    name = "anchor"
    if source is None:
        return unchecked(name, NO_LEDGER)
    decided, said = examined.decided, examined.bundle.anchored
    chain = await source.chain()
    if chain != examined.trust.chain.hex():
        return failed(name, f"the ledger is of chain {describe(chain)}, expected {describe(examined.trust.chain)}")
    transaction = await the_transaction(source, said.tx_digest)
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
    wrong = differences((field, getattr(event, field), getattr(expected, field)) for field in fields)
    if said.checkpoint is not None and transaction.checkpoint is not None:
        wrong += differences([("checkpoint", transaction.checkpoint, said.checkpoint)])
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
