"""Making the decisions again from the log: the scheduler is deterministic, so equal input must give equal batches."""

from collections.abc import Sequence

from daas.common.decision import leaf_bcs, payload_digest
from daas.common.errors import Refused
from daas.common.fairness import FairnessClaim
from daas.common.messages import DecidedLeaf, Header
from daas.evidence.bundle import Case, RawEntry, Segment, Snapshot, describe, segment_of
from daas.evidence.fairness import certificate_of
from daas.evidence.report import Check, passed
from daas.evidence.trust import Trust
from daas.placement import PlacementBatch, Scheduler
from daas.placement.allocation import Moment, moment_of_snapshot


class Replay:
    """The scheduler, fed with the log entries of one bundle after the other.

    Args:
        trust: the chain, registry and policy that the decisions are made for.
        snapshot: state to start from; None: from nothing, at batch 1.
        anchored: header of the snapshot's batch, which the snapshot is held against.
        scheduler: which kind; all of them decide alike.

    Raises:
        Refused: `replay-snapshot`: there is no such header, or the snapshot is of another batch.
        SnapshotError: the snapshot is malformed, or not the state that the header commits to.
    """

    def __init__(
        self,
        trust: Trust,
        snapshot: Snapshot | None = None,
        anchored: Header | None = None,
        *,
        scheduler: type[Scheduler] = Scheduler,
    ) -> None:
        self.start = 0
        self.batches = 0
        self.entries = 0
        if snapshot is None:
            self.scheduler = scheduler(trust.genesis)
            return
        if anchored is None:
            raise Refused("there is no batch to hold the snapshot against", reason="replay-snapshot")
        self.scheduler = scheduler.restore(trust.genesis, snapshot.data, batch_of(anchored))
        self.start = snapshot.sequence
        if self.sequence != snapshot.sequence:
            raise Refused(
                f"the snapshot is of batch {self.sequence}, the evidence says {snapshot.sequence}",
                reason="replay-snapshot",
            )

    @property
    def sequence(self) -> int:
        """The last batch made."""
        sequence: int = self.scheduler.head.sequence
        return sequence

    def through(
        self, segment: Segment, leaves: Sequence[DecidedLeaf] = (), fairness: FairnessClaim | None = None
    ) -> None:
        """Folds a batch's log entries and holds the decision that comes out against the batch.

        Args:
            segment: header, signing time and log entries.
            leaves: the leaves, to name the first that differs.
            fairness: the certificate, whose amounts have to be those of the replayed state.

        Raises:
            Refused: `replay-order`, or `replay-differs` with what differs.
        """
        header, sequence = segment.header, segment.header.sequence
        if sequence != self.sequence + 1:
            raise Refused(
                f"batch {sequence} can't be replayed after batch {self.sequence}: those in between are missing",
                reason="replay-order",
            )
        made, applied = None, None
        for entry in segment.log:
            if made is not None:
                raise Refused(
                    f"the log asks for a decision at entry {made.batch.log_sequence}, before batch {sequence} was made",
                    reason="replay-differs",
                )
            applied = self.scheduler.apply(entry.sequence, entry.data)
            made = applied.decision
        self.entries += len(segment.log)
        self.batches += 1
        if made is None:
            raise Refused(f"the log up to {header.log_sequence} asks for no decision", reason="replay-differs")
        ours, theirs = made.batch.digest().hex(), payload_digest(header).hex()
        if ours == theirs and made.timestamp_ms == segment.timestamp_ms:
            if fairness is not None and (applied is None or applied.fairness != certificate_of(fairness)):
                raise Refused(
                    f"the fairness certificate of batch {sequence} is not that of the state it was made in",
                    reason="replay-differs",
                )
            return
        leaf = next(
            (
                f"; leaf {i} is {mine.node}, the batch says {said.node}"
                for i, (mine, said) in enumerate(zip(made.leaves, leaves, strict=False))
                if mine.to_bcs() != leaf_bcs(said)
            ),
            "",
        )
        raise Refused(
            f"made again from the log, batch {sequence} hashes to {describe(ours)} at {made.timestamp_ms} ms, "
            f"the evidence says {describe(theirs)} at {segment.timestamp_ms} ms{leaf}",
            reason="replay-differs",
        )

    def fold(self, entries: Sequence[RawEntry]) -> None:
        """Folds log entries after the last batch that lead to no further one.

        Raises:
            Refused: `replay-order`: one of them leads to a batch.
            LogSequenceError: one is missing.
        """
        for entry in entries:
            if self.scheduler.apply(entry.sequence, entry.data).decision is not None:
                raise Refused(f"entry {entry.sequence} leads to another batch", reason="replay-order")
        self.entries += len(entries)

    def moment(self) -> Moment:
        """The state as it is now, for computations on it."""
        return moment_of_snapshot(self.scheduler.genesis, self.scheduler.snapshot())

    def result(self, sequence: int) -> Check:
        """The passed check, for a replay that went through `sequence`."""
        origin = f"the snapshot of batch {self.start}" if self.start else "the beginning"
        return passed(
            "replay",
            f"from {origin} through {self.entries} log entries the scheduler made the same "
            f"{self.batches} batch(es), up to batch {sequence}, bit for bit",
            start=self.start,
            batches=self.batches,
            entries=self.entries,
        )


def batch_of(header: Header) -> PlacementBatch:
    """A header as the engine's value."""
    return PlacementBatch(
        chain=bytes.fromhex(header.chain),
        registry=bytes.fromhex(header.registry[2:]),
        sequence=header.sequence,
        previous=bytes.fromhex(header.previous),
        log_sequence=header.log_sequence,
        log_root=bytes.fromhex(header.log_root),
        policy=bytes.fromhex(header.policy),
        state_root=bytes.fromhex(header.state_root),
        decisions=bytes.fromhex(header.decisions),
        count=header.count,
        expires_ms=header.expires_ms,
    )


def replay(case: Case, trust: Trust) -> Check:
    """Replays a whole case.

    Raises:
        DaasError: the decisions differ, or can't be made again.
    """
    replaying = Replay(trust, case.snapshot, case.start)
    for segment in case.segments:
        replaying.through(segment)
    decided = case.bundle.decision()
    replaying.through(segment_of(case.bundle), decided.leaves, decided.fairness)
    return replaying.result(replaying.sequence)
