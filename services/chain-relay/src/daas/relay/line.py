"""Decisions that wait for their turn, by number: what handlers hold, and nothing else."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from daas.common.errors import DaasError
from daas.common.messages import PlacementDecided
from daas.common.service import Event
from daas.relay.outbox import Member


class Candidate:
    """One decision whose handler waits for the outcome.

    Attributes:
        outcome: done once it is anchored or redundant; carries the error otherwise.
    """

    __slots__ = ("enclave", "event", "joined_s", "member", "outcome")

    def __init__(self, event: Event[PlacementDecided], enclave: str, joined_s: float) -> None:
        self.event = event
        self.enclave = enclave
        self.joined_s = joined_s
        self.member = Member(
            sequence=event.body.header.sequence,
            payload_digest=event.body.payload_digest,
            public_key=event.body.public_key,
            message=event.sequence,
            traceparent=event.traceparent,
        )
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def decided(self) -> PlacementDecided:
        """The decision."""
        return self.event.body

    @property
    def previous(self) -> str:
        """Digest of the batch that it follows."""
        return self.event.body.header.previous

    def settle(self, error: DaasError | None = None) -> None:
        """Tells the handler how it ended; the first outcome stays."""
        if self.outcome.done():
            return
        if error is None:
            self.outcome.set_result(None)
        else:
            self.outcome.set_exception(error)


class Line:
    """The waiting decisions. There are never more than the subscription has handlers.

    Attributes:
        wake: set when a decision has joined.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, list[Candidate]] = {}
        self.wake = asyncio.Event()

    def __len__(self) -> int:
        """How many decisions wait."""
        return sum(len(candidates) for candidates in self._waiting.values())

    @contextmanager
    def joined(self, candidate: Candidate) -> Iterator[None]:
        """Holds the candidate in the line for as long as its handler waits."""
        number = candidate.member.sequence
        self._waiting.setdefault(number, []).append(candidate)
        self.wake.set()
        try:
            yield
        finally:
            candidates = self._waiting[number]
            candidates.remove(candidate)
            if not candidates:
                del self._waiting[number]

    def run(self, first: int, head: str, limit: int) -> list[Candidate]:
        """The longest run of decisions that follow each other from `first` on, the first one following `head`."""
        found: list[Candidate] = []
        previous = head
        for number in range(first, first + limit):
            following = next((c for c in self._open(number) if c.previous == previous), None)
            if following is None:
                break
            found.append(following)
            previous = following.member.payload_digest
        return found

    def up_to(self, number: int) -> list[Candidate]:
        """Those with this number or a lower one, in order of number and arrival."""
        return [c for n in sorted(self._waiting) if n <= number for c in self._open(n)]

    def of(self, members: Sequence[Member]) -> list[Candidate]:
        """The candidates that these members stand for, in order; empty where not all of them wait here."""
        messages = {member.message for member in members}
        found = [c for n in sorted(self._waiting) for c in self._open(n) if c.member.message in messages]
        return found if len(found) == len(members) else []

    def waiting_since(self, joined_s: float) -> list[Candidate]:
        """Those that joined before a time of the loop's clock."""
        return [c for n in sorted(self._waiting) for c in self._open(n) if c.joined_s < joined_s]

    def _open(self, number: int) -> list[Candidate]:
        return [c for c in self._waiting.get(number, ()) if not c.outcome.done()]
