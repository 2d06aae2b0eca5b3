"""From an anchored fact to the bundle of its batch: fetches what the fact names, and puts it together."""

import asyncio
from typing import Final

from daas.common.bus import Bus
from daas.common.clusterlog import entry_of
from daas.common.decision import check_decided
from daas.common.errors import InvalidInput, NotFound, Refused
from daas.common.messages import EnclaveAttested, EnclaveRegistered, Header, PlacementAnchored, PlacementDecided, decode
from daas.common.subjects import PLACEMENT_DECIDED, Stream
from daas.etcd import EtcdClient
from daas.evidence import EvidenceBundle, EvidenceStore, RawEntry, encode_bundle
from daas.evidence.bundle import MAX_FILE_BYTES, document_bytes
from daas.storage.writer import EvidenceWriter, Stored

#: Log entries that are fetched at a time: enough to hide the round trip, few enough to hold.
_CONCURRENT_FETCHES: Final = 32
#: What one bundle may hold before base64; a file of a single batch must stay readable.
MAX_LOG_BYTES: Final = MAX_FILE_BYTES // 4


class Archive:
    """Builds and stores bundles.

    Args:
        bus: where facts and log entries are fetched.
        etcd: where everything is kept.
        cluster: name of the cluster.
    """

    def __init__(self, bus: Bus, etcd: EtcdClient, cluster: str) -> None:
        self._bus = bus
        self._etcd = etcd
        self._cluster = cluster
        self.store = EvidenceStore(etcd, cluster)
        self.writer = EvidenceWriter(etcd, self.store.keys)
        self._fetches = asyncio.Semaphore(_CONCURRENT_FETCHES)
        self._newest: Header | None = None
        #: Numbers of the batches whose state is stored, ascending; kept by whoever copies snapshots.
        self.snapshots: tuple[int, ...] = ()

    async def anchored(self, fact: PlacementAnchored) -> tuple[Stored, EvidenceBundle]:
        """Stores the bundle of an anchored batch.

        Raises:
            Refused: the fact does not fit the decision it names, or other evidence is stored under its number.
            NotFound: the batch before, the decision or the registration is not there (yet).
            Unavailable: etcd or the bus is away.
        """
        raw, decided = await self._decided(fact)
        header = decided.header
        previous = await self._previous(header.sequence)
        log, registration = await asyncio.gather(
            self._log(previous.log_sequence + 1 if previous else 1, header.log_sequence),
            self._registration(fact),
        )
        registered, document = registration
        bundle = EvidenceBundle(
            cluster=self._cluster,
            decided=raw,
            previous=previous,
            log=log,
            document=document,
            registered=registered,
            anchored=fact,
            snapshot=max((s for s in self.snapshots if s < header.sequence), default=0),
        )
        stored = await self.writer.bundle(
            header.sequence, encode_bundle(bundle), header, decided.payload_digest, decided.leaves
        )
        self._newest = header
        return stored, bundle

    async def _decided(self, fact: PlacementAnchored) -> tuple[bytes, PlacementDecided]:
        message = await self._bus.fetch(Stream.PLACEMENT, fact.decided_sequence)
        if message.subject != PLACEMENT_DECIDED.full(self._cluster):
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

    async def _previous(self, sequence: int) -> Header | None:
        if sequence == 1:
            return None
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
        """The newest registration of the key before the anchor, and the document that was attested for it.

        A key attests again when the registry's nonce has moved on; the document that counted is the last one before
        the registration, in the order of the ENCLAVE stream.
        """
        prefix = self.store.keys.registrations(fact.public_key)
        newest: tuple[int, EnclaveRegistered] | None = None
        async for kv in self._etcd.prefix(prefix):
            registered = decode(kv.value, EnclaveRegistered)
            if registered.registered_ms <= fact.timestamp_ms < registered.expires_ms or newest is None:
                newest = (int(kv.key.removeprefix(prefix)), registered)
        if newest is None or fact.timestamp_ms >= newest[1].expires_ms:
            raise NotFound(
                f"no registration of key {fact.public_key} at {fact.timestamp_ms} ms is stored",
                reason="no-registration",
                field="public_key",
            )
        at, registered = newest
        prefix = self.store.keys.attestations(fact.public_key)
        document = None
        async for kv in self._etcd.prefix(prefix):
            if int(kv.key.removeprefix(prefix)) < at:
                document = decode(kv.value, EnclaveAttested).document
        if document is None:
            raise NotFound(
                f"no attestation document of key {fact.public_key} is stored",
                reason="no-attestation",
                field="public_key",
            )
        return registered, document_bytes(document)
