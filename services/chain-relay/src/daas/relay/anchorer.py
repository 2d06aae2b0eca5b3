"""Anchors decisions in order: checks everything itself before it spends gas, and says why where it does not anchor.

Handlers check what can be checked of a decision alone and put it into the line; one task takes the longest run of
consecutive decisions from there and anchors it with one transaction. Nothing is held but what handlers hold: when the
ledger is slow or away the line fills up, and the rest waits in its stream.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from typing import Final

from daas.common import logs, subjects
from daas.common.bus import Bus
from daas.common.errors import ConfigurationError, Conflict, DaasError, Refused, Unavailable
from daas.common.messages import EnclaveRevoked, PlacementAnchored, PlacementDecided, PlacementRefused
from daas.common.service import Event
from daas.common.tracing import Kind, span
from daas.ledger import Anchored, Effects, Ledger, MoveAbortError, SignedBatch
from daas.relay.admission import Admission, Duplicate
from daas.relay.line import Candidate, Line
from daas.relay.metrics import RelayMetrics
from daas.relay.outbox import AnchorRecord, KeyRecord, Member, OpenTransaction, Outbox
from daas.relay.settings import RelaySettings
from daas.relay.transactions import Rejected, Transactions

log = logs.get_logger(__name__)

#: Move constants after which a key may sign no longer, though no event has said so: time ended the registration.
EXPIRED: Final = "EExpired"
#: The cluster's objects were migrated to another version of the package than the one that is called.
MIGRATED: Final = "EWrongVersion"
#: Aborts that are about what the relay knew, not about the batch: the ledger's head is read again.
STALE_HEAD: Final = frozenset({"ESequenceTaken", "ESequenceAhead", "EWrongPredecessor"})
#: A decision whose predecessor has not come waits this long in the line before its message goes back to the stream.
PREDECESSOR_WAIT_S: Final = 1.0
_REFRESH_S: Final = 0.25
_AGAIN_S: Final = (0.2, 5.0)


class Anchorer:
    """The head of the chain of decisions as this relay knows it, and the way to advance it."""

    def __init__(
        self,
        bus: Bus,
        ledger: Ledger,
        outbox: Outbox,
        transactions: Transactions,
        *,
        settings: RelaySettings,
        metrics: RelayMetrics,
    ) -> None:
        self._bus = bus
        self._ledger = ledger
        self._outbox = outbox
        self._transactions = transactions
        self._settings = settings
        self._metrics = metrics
        self._admission = Admission(settings.relay_registry, outbox)
        self._line = Line()
        metrics.waiting.set_function(lambda: len(self._line))
        self._one_by_one_until = 0
        self._refreshed = 0.0
        self.sequence = 0
        self._head = ""

    @property
    def simulated(self) -> bool:
        """Whether the registry was created simulated."""
        return self._admission.simulated

    async def refresh(self) -> None:
        """Reads the head from the ledger; an answer from an older checkpoint takes nothing back."""
        registry = await self._ledger.registry(self._settings.relay_registry)
        self._admission.learn(registry.chain, simulated=registry.simulated)
        self._refreshed = asyncio.get_running_loop().time()
        if registry.sequence > self.sequence or not self._head:
            self.sequence, self._head = registry.sequence, registry.head.hex()

    def progress(self) -> None:
        """Says that the ledger may have moved on: anchors that this relay did not make itself are in the outbox."""
        newest = self._outbox.newest_anchor()
        if newest is not None and newest.sequence > self.sequence:
            self.sequence, self._head = newest.sequence, newest.payload_digest
            self._line.wake.set()

    async def decided(self, event: Event[PlacementDecided]) -> None:
        """Handles one `placement.decided`; returns once it is anchored and the fact is out.

        Raises:
            Refused: after the refusal has been published; the message goes to the dead letters.
            Conflict: `predecessor-missing`; the message comes again later.
        """
        try:
            key = self._admission.check(event.body)
            candidate = Candidate(event, key.enclave, asyncio.get_running_loop().time())
            with self._line.joined(candidate):
                await candidate.outcome
        except Duplicate:
            raise
        except Refused as error:
            await self._refuse(event, error)
            raise

    async def run(self) -> None:
        """Works the line off, for ever."""
        delay_s, longest_s = _AGAIN_S
        while True:
            try:
                while await self._step():
                    delay_s = _AGAIN_S[0]
            except ConfigurationError:
                raise
            except DaasError as error:
                # The fate of the newest transaction may be open: the next step begins with it.
                self._metrics.node_trouble.labels(error.reason).inc()
                log.warning("anchoring waits", sequence=self.sequence + 1, error=error)
                await asyncio.sleep(delay_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                delay_s = min(2 * delay_s, longest_s)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REFRESH_S if len(self._line) else None):
                    await self._line.wake.wait()
            self._line.wake.clear()

    async def recover(self) -> None:
        """Finds out what became of transactions that an earlier process sent, and publishes what it could not.

        Raises:
            Unavailable: `ledger-away`.
        """
        for opened in self._outbox.opened():
            if opened.members:
                await self._resume(opened)

    async def _resume(self, opened: OpenTransaction) -> None:
        effects = await self._transactions.resume(opened.key)
        if effects is None or effects.failure is not None:
            self._outbox.forget(opened.key)
            log.info("a transaction of before has no effect", key=opened.key)
            if effects is not None and effects.failure is not None:
                await self._failed(opened.members, effects.failure)
            return
        await self._done(opened.key, opened.members, effects, perhaps_published=True)

    async def _step(self) -> bool:
        """Answers what can be answered and anchors one run; False where there is nothing to do now."""
        await self.recover()
        await self._answer_taken()
        run = self._line.run(self.sequence + 1, self._head, self._batches_max())
        if run:
            await self._anchor(run)
            return True
        if len(self._line):
            return await self._answer_stuck()
        return False

    def _batches_max(self) -> int:
        return 1 if self.sequence < self._one_by_one_until else self._settings.relay_batches_max

    async def _anchor(self, run: Sequence[Candidate]) -> None:
        members = [candidate.member for candidate in run]
        key = f"anchor:{members[0].sequence}:{members[-1].sequence}:{members[-1].payload_digest}"
        batches = [
            SignedBatch(
                header=candidate.decided.header,
                timestamp_ms=candidate.decided.timestamp_ms,
                signature=bytes.fromhex(candidate.decided.signature),
                enclave=candidate.enclave,
            )
            for candidate in run
        ]
        try:
            parent = members[0].traceparent
            with span("anchor", kind=Kind.CLIENT, parent=parent, first=members[0].sequence, batches=len(members)):
                effects = await self._transactions.carry_out(key, lambda: self._ledger.build_anchor(*batches), members)
        except Rejected as error:
            await self._failed(members, Refused(error.message, reason=error.reason))
            return
        if effects.failure is not None:
            self._outbox.forget(key)
            await self._failed(members, effects.failure)
            return
        self._metrics.batches.observe(len(run))
        await self._done(key, members, effects, perhaps_published=False)
        for candidate in run:
            self._metrics.latency.observe(max(0.0, time.time() - candidate.event.time_ms / 1000))
            candidate.settle()

    async def _failed(self, members: Sequence[Member], failure: Refused) -> None:
        """One bad batch refuses all: each is tried alone, so that only the bad one is refused."""
        await self.refresh()
        if len(members) > 1:
            self._one_by_one_until = members[-1].sequence
            log.warning("one of several batches is refused: each alone", count=len(members), reason=failure.reason)
            return
        (member,) = members
        if isinstance(failure, MoveAbortError):
            if failure.name in STALE_HEAD and self.sequence >= member.sequence:
                return  # somebody else was first: the next step answers it
            if failure.name == MIGRATED:
                raise ConfigurationError(
                    f"{failure.message}: the cluster's objects are of another version of the package",
                    reason="package-version",
                    field="relay_package",
                )
            if failure.name == EXPIRED:
                await self._expired(member.public_key)
        for candidate in self._line.of(members):
            candidate.settle(failure)

    async def _done(self, key: str, members: Sequence[Member], effects: Effects, *, perhaps_published: bool) -> None:
        """Publishes the facts of an anchoring transaction in order, and only then forgets the transaction."""
        found = [(a.sequence, a.payload_digest.hex()) for a in effects.of(Anchored)]
        expected = [(m.sequence, m.payload_digest) for m in members]
        if found != expected:
            raise Unavailable(
                f"transaction {effects.digest} was to anchor {expected}, the node says {found}",
                reason="ledger-contradicts",
            )
        records = [_record(member, effects) for member in members]
        for member, record in zip(members, records, strict=True):
            if not perhaps_published or not await self._is_published(record, member.message):
                await self._publish(record, member)
        self._outbox.anchored(key, records)
        self._metrics.anchored.inc(len(records))
        if records[-1].sequence > self.sequence:
            self.sequence, self._head = records[-1].sequence, records[-1].payload_digest

    async def _answer_taken(self) -> None:
        """Answers decisions whose number is anchored: copies, forks, and those whose fact a crash kept back."""
        for candidate in self._line.up_to(self.sequence):
            try:
                await self._redundant(candidate)
            except Unavailable:
                raise
            except DaasError as error:
                candidate.settle(error)
            else:
                candidate.settle()

    async def _redundant(self, candidate: Candidate) -> None:
        member = candidate.member
        known = self._outbox.anchor(member.sequence)
        if known is None and member.sequence > self.sequence - Outbox.KEEP:
            raise Conflict(
                f"decision {member.sequence} is anchored, its event has not been seen yet", reason="anchor-not-seen"
            )
        if known is None or known.payload_digest != member.payload_digest:
            raise Refused(
                f"decision {member.sequence} is anchored as {known.payload_digest if known else 'another one'}",
                reason="sequence-taken",
                field="header.sequence",
            )
        if known.message is None:
            if not await self._is_published(known, member.message):
                await self._publish(known, member)
            self._outbox.anchored(None, [_with_message(known, member.message)])
        elif known.message != member.message and known.public_key == member.public_key:
            raise Duplicate(f"decision {member.sequence} was anchored by message {known.message}", reason="duplicate")
        else:
            log.info("redundant copy", sequence=member.sequence, public_key=member.public_key)

    async def _answer_stuck(self) -> bool:
        """Nothing follows the head: refuses what contradicts it, sends back what waits for its predecessor.

        Returns whether the head turned out to be another one.
        """
        now, before = asyncio.get_running_loop().time(), self.sequence
        if now - self._refreshed > _REFRESH_S:
            await self.refresh()
        if self.sequence != before:
            return True
        for candidate in self._line.up_to(self.sequence + 1):
            if candidate.member.sequence == self.sequence + 1 and candidate.previous != self._head:
                candidate.settle(
                    Refused(
                        f"decision {candidate.member.sequence} follows {candidate.previous}, "
                        f"the ledger's head is {self._head}",
                        reason="wrong-predecessor",
                        field="header.previous",
                    )
                )
        for candidate in self._line.waiting_since(now - PREDECESSOR_WAIT_S):
            if candidate.member.sequence > self.sequence + 1:
                candidate.settle(
                    Conflict(
                        f"decision {candidate.member.sequence} needs its predecessor, the ledger holds {self.sequence}",
                        reason="predecessor-missing",
                        field="header.sequence",
                    )
                )
        return False

    async def _is_published(self, record: AnchorRecord, since: int) -> bool:
        """Whether the fact stands in the stream after the decision: the bus forgets message ids after a while."""
        last = await self._bus.last(subjects.PLACEMENT_ANCHORED)
        if last is None or last.sequence <= since:
            return False
        wanted = _message_id(record)
        facts = self._bus.read(subjects.Stream.PLACEMENT, start=since + 1, subjects=[subjects.PLACEMENT_ANCHORED])
        async with contextlib.aclosing(facts):
            async for stored in facts:
                if stored.headers.get("Nats-Msg-Id") == wanted:
                    return True
                if stored.sequence >= last.sequence:
                    break
        return False

    async def _publish(self, record: AnchorRecord, member: Member) -> None:
        await self._bus.publish(
            subjects.PLACEMENT_ANCHORED,
            PlacementAnchored(
                sequence=record.sequence,
                payload_digest=record.payload_digest,
                public_key=record.public_key,
                decided_sequence=member.message,
                tx_digest=record.tx_digest,
                checkpoint=record.checkpoint,
                timestamp_ms=record.timestamp_ms or time.time_ns() // 1_000_000,
                simulated=self._admission.simulated,
            ),
            message_id=_message_id(record),
            traceparent=member.traceparent,
        )

    async def _refuse(self, event: Event[PlacementDecided], error: Refused) -> None:
        decided = event.body
        log.warning("refused", sequence=decided.header.sequence, reason=error.reason)
        self._metrics.refused.labels(error.reason).inc()
        if error.reason == "expired":
            await self._expired(decided.public_key)
        await self._bus.publish(
            subjects.PLACEMENT_REFUSED,
            PlacementRefused(
                sequence=decided.header.sequence,
                payload_digest=decided.payload_digest,
                public_key=decided.public_key,
                decided_sequence=event.sequence,
                reason=error.reason,
                message=error.message[:4096],
                code=error.code if isinstance(error, MoveAbortError) else None,
                simulated=self._admission.simulated,
            ),
            message_id=f"refused:{event.sequence}",
            traceparent=event.traceparent,
        )

    async def _expired(self, public_key: str) -> None:
        """Time ends a registration without an event: the enclave is told to attest again."""
        key: KeyRecord | None = self._outbox.key(public_key)
        if key is None or key.over is not None:
            return
        await self._bus.publish(
            subjects.ENCLAVE_REVOKED,
            EnclaveRevoked(
                public_key=public_key,
                enclave=None,
                reason="expired",
                message=f"registration {key.enclave} has expired: attest again",
                simulated=self._admission.simulated,
            ),
            message_id=f"expired:{key.enclave}",
        )
        self._outbox.end(key.enclave, "expired")


def _message_id(record: AnchorRecord) -> str:
    return f"anchored:{record.payload_digest}"


def _record(member: Member, effects: Effects) -> AnchorRecord:
    return AnchorRecord(
        sequence=member.sequence,
        payload_digest=member.payload_digest,
        public_key=member.public_key,
        tx_digest=effects.digest,
        checkpoint=effects.checkpoint,
        timestamp_ms=effects.timestamp_ms,
        message=member.message,
    )


def _with_message(record: AnchorRecord, message: int) -> AnchorRecord:
    return AnchorRecord(
        record.sequence,
        record.payload_digest,
        record.public_key,
        record.tx_digest,
        record.checkpoint,
        record.timestamp_ms,
        message,
    )
