"""Decisions that are made but not yet anchored, and whether this instance is the one that publishes them.

Several enclaves may fold the same log. They make the same decisions, so a second copy is redundant and never a
fork; but it would cost the relay work. The instance whose key was anchored last is active, the others stand by and
take over when decisions that they made themselves stay un-anchored. No lock, no election: a wrong guess costs one
redundant message.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from daas.common.errors import Conflict, DaasError
from daas.placement import Decision


class Fork(DaasError):
    """The ledger anchored a decision that this log does not lead to: this instance must not sign any more."""


class Role(StrEnum):
    """What this instance does with its decisions."""

    ACTIVE = "active"
    STANDBY = "standby"


@dataclass(slots=True)
class _Entry:
    decision: Decision
    digest: bytes
    made_ms: int
    published_ms: int | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Due:
    """A decision to publish now; `attempt` starts at 1 and makes the message id of a repetition its own."""

    decision: Decision
    attempt: int


class Outbox:
    """Un-anchored decisions by sequence, oldest first. All times are monotonic milliseconds that the caller passes in.

    Args:
        is_own: whether a key (hex) is one of this instance's.
        takeover_ms: how long a decision may stay un-anchored before a standby publishes it itself.
        republish_ms: how long the active instance waits for an anchor before it publishes again.
        limit: decisions held at most; the fold waits when it is reached.
    """

    #: The ledger takes decisions one after the other: repeating more than the next few helps nobody.
    REPUBLISH_AT_MOST = 8

    def __init__(
        self,
        is_own: Callable[[str], bool],
        *,
        takeover_ms: int = 2_000,
        republish_ms: int = 10_000,
        limit: int = 256,
    ) -> None:
        self._is_own = is_own
        self._takeover_ms = takeover_ms
        self._republish_ms = republish_ms
        self._limit = limit
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._anchored: OrderedDict[int, bytes] = OrderedDict()
        self.head = 0
        self.role = Role.STANDBY

    def __len__(self) -> int:
        """Decisions waiting for an anchor."""
        return len(self._entries)

    @property
    def full(self) -> bool:
        """Whether the fold must wait for anchors."""
        return len(self._entries) >= self._limit

    def start(self, head: int, digest: bytes) -> None:
        """Says what the ledger's head is at the start; a fresh chain makes this instance active at once."""
        self._advance(head, digest)
        if head == 0:
            self.role = Role.ACTIVE

    def decided(self, decision: Decision, now_ms: int) -> None:
        """Takes a decision just made.

        Raises:
            Fork: `fork` when the ledger holds another digest under this number.
        """
        sequence, digest = decision.batch.sequence, decision.batch.digest()
        if sequence in self._anchored:
            self._compare(sequence, digest, self._anchored.pop(sequence))
        if sequence > self.head:
            self._entries[sequence] = _Entry(decision, digest, now_ms)

    def anchored(self, sequence: int, digest: bytes, public_key: str) -> None:
        """Takes the fact that a decision was anchored, in whatever order facts and own decisions come.

        Raises:
            Fork: `fork` when it is not the decision that this instance made.
        """
        self._advance(sequence, digest)
        self.role = Role.ACTIVE if self._is_own(public_key) else Role.STANDBY

    def due(self, now_ms: int) -> list[Due]:
        """What to publish now, oldest first; takes over from a silent active instance."""
        if not self._entries:
            return []
        if self.role is Role.STANDBY:
            oldest = next(iter(self._entries.values()))
            if now_ms - oldest.made_ms < self._takeover_ms:
                return []
            self.role = Role.ACTIVE
        due, repeated = [], 0
        for entry in self._entries.values():
            if entry.published_ms is not None:
                if now_ms - entry.published_ms < self._republish_ms or repeated == self.REPUBLISH_AT_MOST:
                    continue
                repeated += 1
            entry.published_ms = now_ms
            entry.attempts += 1
            due.append(Due(entry.decision, entry.attempts))
        return due

    def retry(self, sequence: int) -> None:
        """Says that a publication failed: it is due again at once."""
        entry = self._entries.get(sequence)
        if entry is not None:
            entry.published_ms = None

    def _advance(self, sequence: int, digest: bytes) -> None:
        entry = self._entries.get(sequence)
        if entry is not None:
            self._compare(sequence, entry.digest, digest)
        elif sequence > self.head and sequence > 0:
            if len(self._anchored) == self._limit:
                self._anchored.popitem(last=False)
            self._anchored[sequence] = digest
        self.head = max(self.head, sequence)
        for number in [n for n in self._entries if n <= self.head]:
            del self._entries[number]

    @staticmethod
    def _compare(sequence: int, ours: bytes, theirs: bytes) -> None:
        if ours != theirs:
            raise Fork(
                f"decision {sequence} is {ours.hex()} by this log, but the ledger anchored {theirs.hex()}",
                reason="fork",
                field="sequence",
            )


def require_registry(expected: str, got: str) -> None:
    """A running enclave serves one registry for its whole life.

    Raises:
        Conflict: `registry-changed`.
    """
    if expected != got:
        raise Conflict(f"this enclave signs for {expected}, the challenge names {got}", reason="registry-changed")
