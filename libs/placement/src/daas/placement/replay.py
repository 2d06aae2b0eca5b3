"""Checks decisions by making them again: the same log must give the same bytes, or the first difference is named."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest

import msgspec

from daas.placement.batch import Decision, Leaf, PlacementBatch, Preemption
from daas.placement.errors import LogSequenceError
from daas.placement.policy import Genesis
from daas.placement.scheduler import Scheduler

_HEADER_FIELDS = tuple(field.name for field in msgspec.structs.fields(PlacementBatch))
_LEAF_FIELDS = tuple(field.name for field in msgspec.structs.fields(Leaf))


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as somebody published it; `timestamp_ms` is the one inside the signed IntentMessage."""

    batch: PlacementBatch
    leaves: tuple[Leaf, ...]
    timestamp_ms: int
    preemptions: tuple[Preemption, ...] = ()


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The first place where claim and replay part.

    Attributes:
        sequence: of the decision.
        field: `batch.<field>`, `leaves[<index>].<field>`, `leaves`, `preemptions`, `timestamp_ms`, `decision` (only one
            side has it) or `log` (the entries don't follow each other).
        claimed, replayed: both values, as text.
    """

    sequence: int
    field: str
    claimed: str
    replayed: str

    def __str__(self) -> str:
        """One sentence."""
        return f"decision {self.sequence}: {self.field} is claimed as {self.claimed}, the replay gives {self.replayed}"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay found.

    Attributes:
        difference: None where every claim was made again bit by bit.
        checked: claims that were equal.
        entries: log entries folded.
    """

    difference: Difference | None
    checked: int
    entries: int

    @property
    def equal(self) -> bool:
        """Whether all claims hold."""
        return self.difference is None


def verify(
    genesis: Genesis,
    snapshot: bytes | None,
    entries: Iterable[tuple[int, bytes]],
    claims: Sequence[Claim],
    anchored: PlacementBatch | None = None,
) -> Verdict:
    """Folds a log segment and compares what it leads to with what was claimed.

    Decisions before the first claim are made, but not compared. From the first claim on, the segment's decisions and
    the claims must be the same, one by one, up to the last claim; entries after it are not read.

    Args:
        genesis: chain, registry and policy of the cluster.
        snapshot: the state before the segment; None from the log's start.
        entries: (log sequence, exact bytes), in order.
        claims: by sequence, without gaps.
        anchored: the batch that the snapshot was taken right after, where the snapshot has to be checked.

    Raises:
        SnapshotError: the snapshot can't be used.
    """
    scheduler = Scheduler(genesis) if snapshot is None else Scheduler.restore(genesis, snapshot, anchored)
    checked = folded = 0
    for log_sequence, entry in entries:
        if checked == len(claims):
            break
        claim = claims[checked]
        try:
            decision = scheduler.apply(log_sequence, entry, certify=False).decision
        except LogSequenceError as error:
            difference = Difference(
                sequence=claim.batch.sequence, field="log", claimed=str(log_sequence), replayed=error.message
            )
            return Verdict(difference=difference, checked=checked, entries=folded)
        folded += 1
        if decision is None:
            if log_sequence == claim.batch.log_sequence:
                return Verdict(difference=_missing(claim, "none for its log entry"), checked=checked, entries=folded)
            continue
        if checked == 0 and decision.batch.sequence < claim.batch.sequence:
            continue
        found = _compare(claim, decision)
        if found is not None:
            return Verdict(difference=found, checked=checked, entries=folded)
        checked += 1
    if checked < len(claims):
        difference = _missing(claims[checked], "none before the segment ends")
        return Verdict(difference=difference, checked=checked, entries=folded)
    return Verdict(difference=None, checked=checked, entries=folded)


def _missing(claim: Claim, replayed: str) -> Difference:
    return Difference(sequence=claim.batch.sequence, field="decision", claimed="one", replayed=replayed)


def _compare(claim: Claim, decision: Decision) -> Difference | None:
    """The first difference, leaves first: they say most about what went wrong."""

    def difference(field: str, claimed: object, replayed: object) -> Difference:
        return Difference(
            sequence=claim.batch.sequence, field=field, claimed=_shown(claimed), replayed=_shown(replayed)
        )

    if (claim.leaves, claim.preemptions, claim.batch, claim.timestamp_ms) == (
        decision.leaves,
        decision.preemptions,
        decision.batch,
        decision.timestamp_ms,
    ):
        return None
    for index, (claimed, made) in enumerate(zip_longest(claim.leaves, decision.leaves)):
        if claimed is None or made is None:
            return difference("leaves", f"{len(claim.leaves)} leaves", f"{len(decision.leaves)} leaves")
        for field in _LEAF_FIELDS:
            if getattr(claimed, field) != getattr(made, field):
                return difference(f"leaves[{index}].{field}", getattr(claimed, field), getattr(made, field))
    if claim.preemptions != decision.preemptions:
        return difference("preemptions", claim.preemptions, decision.preemptions)
    for field in _HEADER_FIELDS:
        if getattr(claim.batch, field) != getattr(decision.batch, field):
            return difference(f"batch.{field}", getattr(claim.batch, field), getattr(decision.batch, field))
    if claim.timestamp_ms != decision.timestamp_ms:
        return difference("timestamp_ms", claim.timestamp_ms, decision.timestamp_ms)
    return None


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
