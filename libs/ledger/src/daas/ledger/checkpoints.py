"""Checkpoints as a full node shows them: what they hold, read from the summary's own bytes, within bounds."""

from typing import Any, Final

import msgspec

from daas.common import merkle
from daas.common.bcs import Reader
from daas.common.errors import DecodeError
from daas.ledger.address import format_digest
from daas.ledger.event import Event
from daas.ledger.events import decode_event
from daas.ledger.package import Lineage

#: The protocol allows 10,000 transactions in a checkpoint and 1,024 events in a transaction.
MAX_TRANSACTIONS: Final = 20_000
MAX_EVENTS: Final = 2_048
#: Gas costs in a summary: computation, storage, rebate, rebate that is not refundable.
_GAS_COSTS: Final = 4


class CheckpointTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction of a checkpoint; `digest` is base58, and a failed transaction has no events."""

    digest: str
    succeeded: bool
    events: tuple[Event, ...]


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint: its place in the chain, its time, and its transactions in the order of their execution.

    Attributes:
        digest, previous_digest: base58; the first checkpoint has no predecessor.
        timestamp_ms: ms since the epoch, by the ledger's consensus.
    """

    sequence: int
    digest: str
    previous_digest: str | None
    timestamp_ms: int
    transactions: tuple[CheckpointTransaction, ...]


def decode_checkpoint(message: Any, package: Lineage | None) -> Checkpoint:
    """Reads number, predecessor and time from the summary's bytes, which must have the digest that the node names.

    Nothing binds the transactions: for them the node's word is taken, as for everything else that it is asked.

    Args:
        message: `sui.rpc.v2.Checkpoint` with digest, `summary.bcs` and transactions.
        package: our package, whose events are decoded.

    Raises:
        DecodeError: `node-answer`: no summary, one with another digest, or more than the protocol allows.
    """
    if message is None or message.summary is None or message.summary.bcs is None:
        raise DecodeError("the node shows a checkpoint without its summary", reason="node-answer")
    summary = bytes(message.summary.bcs.value or b"")
    digest = format_digest(merkle.digest(b"CheckpointSummary::" + summary))
    if digest != message.digest:
        raise DecodeError(
            f"the summary of checkpoint {message.sequence_number} has digest {digest}, not {message.digest}",
            reason="node-answer",
        )
    if len(message.transactions) > MAX_TRANSACTIONS:
        raise DecodeError(
            f"a checkpoint has at most {MAX_TRANSACTIONS} transactions, not {len(message.transactions)}",
            reason="node-answer",
        )
    reader = Reader(summary)
    reader.u64()  # epoch
    sequence = reader.u64()
    reader.u64()  # transactions since genesis
    reader.bytes_()  # digest of the contents
    previous = reader.option(reader.bytes_)
    for _ in range(_GAS_COSTS):
        reader.u64()
    return Checkpoint(
        sequence=sequence,
        digest=digest,
        previous_digest=None if previous is None else format_digest(previous),
        timestamp_ms=reader.u64(),
        transactions=tuple(_transaction(transaction, package) for transaction in message.transactions),
    )


def decode_events(messages: Any, package: Lineage | None) -> tuple[Event, ...]:
    """The events of a transaction, typed.

    Raises:
        DecodeError: `node-answer`: more than the protocol allows; `event-contents`: one claims to be ours and is not.
    """
    if len(messages) > MAX_EVENTS:
        raise DecodeError(f"a transaction has at most {MAX_EVENTS} events, not {len(messages)}", reason="node-answer")
    return tuple(
        decode_event(event.event_type or "", bytes(event.contents.value or b"") if event.contents else b"", package)
        for event in messages
    )


def _transaction(message: Any, package: Lineage | None) -> CheckpointTransaction:
    status = message.effects.status if message.effects else None
    if status is None:
        raise DecodeError("the node shows a transaction without its outcome", reason="node-answer")
    return CheckpointTransaction(
        digest=message.digest or "",
        succeeded=bool(status.success),
        events=decode_events(message.events.events if message.events else (), package),
    )
