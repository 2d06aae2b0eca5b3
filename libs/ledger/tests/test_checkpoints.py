"""What a node shows as a checkpoint is held to its own digest and to the protocol's bounds."""

from dataclasses import dataclass, replace

import pytest

from daas.common import bcs, merkle
from daas.common.errors import DecodeError
from daas.ledger.address import format_digest
from daas.ledger.checkpoints import MAX_EVENTS, MAX_TRANSACTIONS, decode_checkpoint, decode_events


@dataclass(frozen=True)
class Octets:
    value: bytes


@dataclass(frozen=True)
class Summary:
    bcs: Octets | None


@dataclass(frozen=True)
class Shown:
    """The parts of the node's message that are read."""

    sequence_number: int
    digest: str
    summary: Summary | None
    transactions: tuple[object, ...] = ()


def shown(sequence: int, previous: bytes | None) -> Shown:
    before = b"\x00" if previous is None else b"\x01" + bcs.bytes_(previous)
    head = bcs.u64(3) + bcs.u64(sequence) + bcs.u64(1000) + bcs.bytes_(b"\x09" * 32)
    summary = head + before + bcs.u64(0) * 4 + bcs.u64(1_795_340_033_928) + b"the rest is not read"
    digest = format_digest(merkle.digest(b"CheckpointSummary::" + summary))
    return Shown(sequence, digest, Summary(Octets(summary)))


def test_number_predecessor_and_time_come_from_the_summary() -> None:
    found = decode_checkpoint(shown(7, b"\x05" * 32), None)
    assert (found.sequence, found.timestamp_ms) == (7, 1_795_340_033_928)
    assert found.previous_digest == format_digest(b"\x05" * 32)
    assert decode_checkpoint(shown(0, None), None).previous_digest is None


def test_a_summary_with_another_digest_is_refused() -> None:
    with pytest.raises(DecodeError, match="has digest"):
        decode_checkpoint(replace(shown(7, None), summary=shown(8, None).summary), None)


@pytest.mark.parametrize("summary", [None, Summary(None)])
def test_a_checkpoint_without_its_summary_is_refused(summary: Summary | None) -> None:
    with pytest.raises(DecodeError, match="without its summary"):
        decode_checkpoint(replace(shown(7, None), summary=summary), None)


def test_more_than_the_protocol_allows_is_not_read() -> None:
    with pytest.raises(DecodeError, match="transactions"):
        decode_checkpoint(replace(shown(7, None), transactions=(object(),) * (MAX_TRANSACTIONS + 1)), None)
    with pytest.raises(DecodeError, match="events"):
        decode_events((object(),) * (MAX_EVENTS + 1), None)
