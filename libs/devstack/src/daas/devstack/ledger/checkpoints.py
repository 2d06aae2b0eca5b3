"""Checkpoints: one per transaction, each naming its predecessor by digest; the first one's digest names the chain."""

from __future__ import annotations

from typing import Final

from daas.devstack.ledger.effects import GasUsed
from daas.devstack.ledger.effects_bcs import hash_named
from daas.devstack.ledger.encoding import uleb
from daas.devstack.ledger.store import Checkpoint

EPOCH: Final = 0  # the simulated ledger never changes its epoch: there is no committee to change


def next_checkpoint(
    previous: Checkpoint | None,
    *,
    transaction_digest: bytes,
    effects_digest: bytes,
    signatures: tuple[bytes, ...],
    gas_used: GasUsed,
    timestamp_ms: int,
) -> Checkpoint:
    """The checkpoint that holds one transaction and follows `previous` (None: genesis)."""
    sequence = 0 if previous is None else previous.sequence + 1
    total = 1 if previous is None else previous.transactions_total + 1
    contents = b"".join(
        (
            b"\x00\x01",
            b"\x20" + transaction_digest,
            b"\x20" + effects_digest,
            b"\x01",
            uleb(len(signatures)),
            *(uleb(len(signature)) + signature for signature in signatures),
        )
    )
    content_digest = hash_named("CheckpointContents", contents)
    gas = (gas_used.computation, gas_used.storage, gas_used.rebate, gas_used.non_refundable)
    summary = b"".join(
        (
            EPOCH.to_bytes(8, "little"),
            sequence.to_bytes(8, "little"),
            total.to_bytes(8, "little"),
            b"\x20" + content_digest,
            b"\x00" if previous is None else b"\x01\x20" + previous.digest,
            *(amount.to_bytes(8, "little") for amount in gas),
            timestamp_ms.to_bytes(8, "little"),
            b"\x00",  # no commitments
            b"\x00",  # not the end of an epoch
            b"\x00",  # no version-specific data
        )
    )
    return Checkpoint(
        sequence=sequence,
        digest=hash_named("CheckpointSummary", summary),
        summary=summary,
        contents=contents,
        transactions_total=total,
        timestamp_ms=timestamp_ms,
        content_digest=content_digest,
        transaction_digest=transaction_digest,
    )
