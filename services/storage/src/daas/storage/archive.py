"""From an anchored fact to the bundle of its batch: fetches what the fact names, and puts it together."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, TypeVar

from daas.common.bus import Bus
from daas.common.clusterlog import entry_of
from daas.common.decision import check_decided
from daas.common.errors import Conflict, DaasError, DecodeError, InvalidInput, NotFound, Refused, Unavailable
from daas.common.messages import EnclaveAttested, EnclaveRegistered, Header, PlacementAnchored, PlacementDecided, decode
from daas.common.subjects import PLACEMENT_DECIDED, Stream
from daas.etcd import EtcdClient
from daas.evidence import EvidenceBundle, EvidenceStore, RawEntry
from daas.evidence.bundle import MAX_FILE_BYTES, document_bytes
from daas.evidence.packing import Stored, Value, evidence_value
from daas.evidence.vouching import document_for

T = TypeVar("T")

#: Log entries that are fetched at a time: enough to hide the round trip, few enough to hold.
_CONCURRENT_FETCHES: Final = 32
#: What one bundle may hold before base64; a file of a single batch must stay readable.
MAX_LOG_BYTES: Final = MAX_FILE_BYTES // 4


class _Flight:
    """A batch in work: its header, known early, and the moment when it has its place in the order of writes."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.header: asyncio.Future[Header] = loop.create_future()
        self.queued: asyncio.Future[None] = loop.create_future()

    def fail(self, error: DaasError) -> None:
        """Those who wait for it wait in vain."""
        for future in (self.header, self.queued):
            if not future.done():
                future.set_exception(error)
                future.exception()  # nobody may be waiting


class Archive:
    """Builds bundles and gives them to their committer, many at a time and in the order of their numbers.

    Args:
        bus: where facts and log entries are fetched.
        etcd: where facts are kept.
        store: what is stored already.
        commit: makes a value durable.
    """

    def __init__(
        self, bus: Bus, etcd: EtcdClient, store: EvidenceStore, commit: Callable[[Value], asyncio.Future[Stored]]
    ) -> None:
        self._bus = bus
        self._etcd = etcd
        self.store = store
        self._commit = commit
        self._fetches = asyncio.Semaphore(_CONCURRENT_FETCHES)
        self._flights: dict[int, _Flight] = {}
        self._newest: Header | None = None
        self._registered: dict[str, tuple[EnclaveRegistered, bytes]] = {}
        #: Numbers of the batches whose state is stored, ascending; kept by whoever copies snapshots.
        self.snapshots: tuple[int, ...] = ()

    def forget(self, public_key: str) -> None:
        """Something new is stored about a key."""
        self._registered.pop(public_key, None)

    async def anchored(self, fact: PlacementAnchored) -> tuple[Stored, int]:
        """Stores the bundle of an anchored batch; returns what was stored, and how many log entries it holds.

        Raises:
            Refused: the fact does not fit the decision it names, or other evidence is stored under its number.
            NotFound: the batch before, the decision or the registration is not there (yet).
            Conflict: another fact about this batch is in work.
            Unavailable: etcd or the bus is away.
        """
        if fact.sequence in self._flights:
            raise Conflict(f"batch {fact.sequence} is in work", reason="in-work", field="sequence")
        flight = self._flights[fact.sequence] = _Flight()
        try:
            value, header, entries = await self._value(fact, flight)
            stored = self._commit(value)
            flight.queued.set_result(None)
            result = await stored
        except DaasError as error:
            flight.fail(error)
            raise
        finally:
            flight.fail(Unavailable(f"batch {fact.sequence} was given up", reason="cancelled"))
            del self._flights[fact.sequence]
        if self._newest is None or self._newest.sequence < header.sequence:
            self._newest = header
        return result, entries

    async def _value(self, fact: PlacementAnchored, flight: _Flight) -> tuple[Value, Header, int]:
        raw, decided = await self._decided(fact)
        header = decided.header
        flight.header.set_result(header)
        before = self._flights.get(header.sequence - 1)
        previous = await self._previous(header.sequence, before)
        log, registration = await asyncio.gather(
            self._log(previous.log_sequence + 1 if previous else 1, header.log_sequence),
            self._registration(fact),
        )
        registered, document = registration
        bundle = EvidenceBundle(
            cluster=self.store.cluster,
            decided=raw,
            previous=previous,
            log=log,
            document=document,
            registered=registered,
            anchored=fact,
            snapshot=max((s for s in self.snapshots if s < header.sequence), default=0),
        )
        value = await asyncio.to_thread(evidence_value, self.store.keys, bundle, decided)
        if before is not None:
            await _flown(before.queued, header.sequence)
        return value, header, len(log)

    async def _decided(self, fact: PlacementAnchored) -> tuple[bytes, PlacementDecided]:
        message = await self._bus.fetch(Stream.PLACEMENT, fact.decided_sequence)
        if message.subject != PLACEMENT_DECIDED.full(self.store.cluster):
            raise Refused(
                f"message {fact.decided_sequence} of PLACEMENT is on {message.subject}, no decision",
                reason="decided-mismatch",
                field="decided_sequence",
            )
        decided = decode(message.data, PlacementDecided)
        check_decided(decided)
        for field, said, found in (
            ("sequence", fact.sequence, decided.header.sequence),
            ("payload_digest", fact.payload_digest, decided.payload_digest),
            ("public_key", fact.public_key, decided.public_key),
        ):
            if said != found:
                raise Refused(
                    f"the anchored fact says {field} {said}, the decision at {fact.decided_sequence} says {found}",
                    reason="decided-mismatch",
                    field=field,
                )
        return message.data, decided

    async def _previous(self, sequence: int, before: _Flight | None) -> Header | None:
        if sequence == 1:
            return None
        if before is not None:
            return await _flown(before.header, sequence)
        if self._newest is not None and self._newest.sequence == sequence - 1:
            return self._newest
        return await self.store.header(sequence - 1)

    async def _log(self, first: int, last: int) -> tuple[RawEntry, ...]:
        entries: list[RawEntry] = []
        size = 0
        for start in range(first, last + 1, _CONCURRENT_FETCHES):
            some = range(start, min(start + _CONCURRENT_FETCHES, last + 1))
            for entry in await asyncio.gather(*(self._entry(sequence) for sequence in some)):
                entries.append(entry)
                size += len(entry.data)
            if size > MAX_LOG_BYTES:
                raise InvalidInput(
                    f"more than {MAX_LOG_BYTES} bytes of log between two batches, up to entry {last}",
                    reason="evidence-size",
                )
        return tuple(entries)

    async def _entry(self, sequence: int) -> RawEntry:
        async with self._fetches:
            data, _ = entry_of(await self._bus.fetch(Stream.LOG, sequence))
            return RawEntry(sequence=sequence, data=data)

    async def _registration(self, fact: PlacementAnchored) -> tuple[EnclaveRegistered, bytes]:
        """The newest registration of the key before the anchor, and the document that was attested for it."""
        known = self._registered.get(fact.public_key)
        if known is not None and known[0].registered_ms <= fact.timestamp_ms < known[0].expires_ms:
            return known
        prefix = self.store.keys.registrations(fact.public_key)
        newest: EnclaveRegistered | None = None
        async for kv in self._etcd.prefix(prefix):
            registered = decode(kv.value, EnclaveRegistered)
            if registered.registered_ms <= fact.timestamp_ms < registered.expires_ms or newest is None:
                newest = registered
        if newest is None or fact.timestamp_ms >= newest.expires_ms:
            raise NotFound(
                f"no registration of key {fact.public_key} at {fact.timestamp_ms} ms is stored",
                reason="no-registration",
                field="public_key",
            )
        documents: list[bytes] = []
        async for kv in self._etcd.prefix(self.store.keys.attestations(fact.public_key)):
            with contextlib.suppress(DecodeError):  # what is no base64 was never registered
                documents.append(document_bytes(decode(kv.value, EnclaveAttested).document))
        document = document_for(newest, documents)
        if document is None:
            raise NotFound(
                f"the attestation document that key {fact.public_key} was registered for is not stored",
                reason="no-attestation",
                field="public_key",
            )
        self._registered[fact.public_key] = found = newest, document
        return found


async def _flown(future: asyncio.Future[T], sequence: int) -> T:
    """What the batch before has come to; it is awaited by one, and may be cancelled without harm to it."""
    try:
        return await asyncio.shield(future)
    except DaasError as error:
        raise NotFound(
            f"batch {sequence - 1} is not stored yet: {error.message}", reason="no-predecessor", field="sequence"
        ) from None
