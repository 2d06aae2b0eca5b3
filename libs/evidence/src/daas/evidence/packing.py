"""What is to be stored, how, and what came of it."""

import zlib
from enum import StrEnum
from typing import Final

import msgspec

from daas.common import merkle
from daas.common.messages import Header, PlacementDecided
from daas.etcd import MAX_VALUE_BYTES, Put
from daas.evidence.bundle import EvidenceBundle, encode_bundle
from daas.evidence.layout import AuditSummary, Keys, Manifest, PatchRef, PodDecision
from daas.walrus import Content

#: Log entries are JSON that repeats itself: level 1 takes a quarter of level 6's time for 15 % more bytes.
_COMPRESSION_LEVEL: Final = 1
#: A piece is one file of a quilt; two fit into the smallest upload limit in use.
PIECE_BYTES: Final = 4 * 1024 * 1024


class Backend(StrEnum):
    """Where the bytes of a kind are kept; their manifests are in etcd in every case."""

    ETCD = "etcd"
    WALRUS = "walrus"
    BOTH = "both"

    @property
    def etcd(self) -> bool:
        """Whether etcd has the bytes."""
        return self is not Backend.WALRUS

    @property
    def walrus(self) -> bool:
        """Whether Walrus has them."""
        return self is not Backend.ETCD


class IndexEntry(msgspec.Struct, frozen=True):
    """A small value that is written before the manifest."""

    key: str
    value: bytes


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to store, packed.

    Attributes:
        key: of its manifest.
        name: what its files are called in a quilt.
        digest, size: of its bytes before compression.
        packed: the compressed bytes.
        index: entries that go with it.
        header, audit: see `Manifest`.
    """

    key: str
    name: str
    digest: str
    size: int
    packed: bytes
    index: tuple[IndexEntry, ...] = ()
    header: Header | None = None
    audit: AuditSummary | None = None

    def parts(self) -> list[bytes]:
        """The packed bytes in values that etcd takes."""
        return [self.packed[at : at + MAX_VALUE_BYTES] for at in range(0, len(self.packed), MAX_VALUE_BYTES)]

    def contents(self, kind: str) -> list[Content]:
        """The packed bytes as files of a quilt."""
        pieces = [self.packed[at : at + PIECE_BYTES] for at in range(0, len(self.packed), PIECE_BYTES)]
        return [
            Content(
                identifier=f"{self.name}.{number}",
                data=piece,
                tags={"kind": kind, "digest": self.digest, "compression": "zlib"},
            )
            for number, piece in enumerate(pieces)
        ]

    def manifest(self, backend: Backend, patches: tuple[PatchRef, ...]) -> Manifest:
        """What describes it in etcd."""
        return Manifest(
            digest=self.digest,
            size=self.size,
            parts=len(self.parts()) if backend.etcd else 0,
            patches=patches,
            header=self.header,
            audit=self.audit,
        )

    def agrees(self, there: Manifest) -> bool:
        """Whether what is stored under its key says the same.

        The same batch may come with another anchored fact or snapshot hint; another header is another history.
        """
        return there.header == self.header and (self.header is not None or there.digest == self.digest)


def packed(
    key: str,
    name: str,
    data: bytes,
    *,
    index: tuple[Put, ...] = (),
    header: Header | None = None,
    audit: AuditSummary | None = None,
) -> Value:
    """A value of these bytes."""
    return Value(
        key=key,
        name=name,
        digest=merkle.digest(data).hex(),
        size=len(data),
        packed=zlib.compress(data, _COMPRESSION_LEVEL),
        index=tuple(IndexEntry(put.key, put.value) for put in index),
        header=header,
        audit=audit,
    )


def evidence_value(keys: Keys, bundle: EvidenceBundle, decided: PlacementDecided) -> Value:
    """The value of a batch: its bundle, and where the decision about each pod stands."""
    sequence = decided.header.sequence
    return packed(
        keys.evidence(sequence),
        f"evidence-{sequence:020d}",
        encode_bundle(bundle),
        header=decided.header,
        index=_index(keys, decided),
    )


def _index(keys: Keys, decided: PlacementDecided) -> tuple[Put, ...]:
    """Where the decision about each pod stands."""
    sequence = decided.header.sequence
    return tuple(
        Put(
            keys.pod_decision(leaf.namespace, leaf.name, leaf.pod_uid, sequence),
            msgspec.json.encode(
                PodDecision(
                    namespace=leaf.namespace,
                    name=leaf.name,
                    uid=leaf.pod_uid,
                    sequence=sequence,
                    index=index,
                    node=leaf.node,
                    payload_digest=decided.payload_digest,
                )
            ),
        )
        for index, leaf in enumerate(decided.leaves)
    )


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What was written. `created` is False where it was there already; `blob`, `patch`: where Walrus has it."""

    key: str
    revision: int
    size: int
    digest: str
    created: bool
    blob: str | None = None
    patch: str | None = None
    simulated: bool = False


def stored_of(key: str, manifest: Manifest, revision: int, *, created: bool, simulated: bool = False) -> Stored:
    """What is told of a manifest."""
    first = manifest.patches[0] if manifest.patches else None
    return Stored(
        key=key,
        revision=revision,
        size=manifest.size,
        digest=manifest.digest,
        created=created,
        blob=first.quilt if first else None,
        patch=first.patch if first else None,
        simulated=simulated,
    )
