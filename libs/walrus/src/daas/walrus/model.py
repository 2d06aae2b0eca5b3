"""Blobs, quilts and patches as values, and the publisher's answers read into them.

Shapes as in `publisher_openapi.yaml` of Walrus, with the camel case that the servers send.
"""

import base64
import binascii
from hashlib import blake2b
from typing import Annotated, Any, Final, TypeVar

import msgspec

from daas.common.errors import DecodeError, Refused, Unavailable

#: A blob id is 32 bytes, in base64url without padding.
BlobId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{43}$", description="32 bytes, base64url")]
#: A patch id is the quilt's id, a version byte, and the first and last column as u16, little endian.
PatchId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{50}$", description="37 bytes, base64url")]
Epoch = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
_BLOB_ID_BYTES: Final = 32
T = TypeVar("T")


def digest_of(data: bytes) -> str:
    """blake2b-256 of the bytes, lower-case hex: what a reader holds them against."""
    return blake2b(data, digest_size=32).hexdigest()


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a quilt. Tags are public and travel with it."""

    identifier: str
    data: bytes
    tags: dict[str, str] = {}


class StoredBlob(msgspec.Struct, frozen=True, kw_only=True):
    """Where a blob is.

    Attributes:
        blob_id: what aggregators are asked for.
        digest: blake2b-256 of the bytes that were sent, kept beside the id so that a read can be verified.
        size: their number.
        end_epoch: the first epoch in which it may be gone.
        created: False where the network had it for long enough already.
        object_id: of the Sui object, where one was made.
        cost: in FROST, where it was bought now.
        simulated: whether a stand-in answered.
    """

    blob_id: BlobId
    digest: str
    size: int
    end_epoch: Epoch
    created: bool
    object_id: str | None
    cost: int
    simulated: bool


class Patch(msgspec.Struct, frozen=True, kw_only=True):
    """Where a file of a quilt is, with the digest and size of its bytes."""

    identifier: str
    patch_id: PatchId
    digest: str
    size: int


class StoredQuilt(msgspec.Struct, frozen=True, kw_only=True):
    """Where a quilt is: its blob (whose digest is unknown: the publisher composed it) and its patches, as sent."""

    blob: StoredBlob
    patches: tuple[Patch, ...]


class QuiltPatch(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a quilt's table of contents."""

    identifier: str
    patch_id: PatchId
    tags: dict[str, str] = {}


class _Storage(msgspec.Struct, frozen=True, rename="camel"):
    end_epoch: Epoch


class _BlobObject(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    blob_id: BlobId
    storage: _Storage
    deletable: bool
    size: int


class _NewlyCreated(msgspec.Struct, frozen=True, rename="camel"):
    blob_object: _BlobObject
    cost: int = 0


class _AlreadyCertified(msgspec.Struct, frozen=True, rename="camel"):
    blob_id: BlobId
    end_epoch: Epoch


class _Result(msgspec.Struct, frozen=True, rename="camel"):
    newly_created: _NewlyCreated | None = None
    already_certified: _AlreadyCertified | None = None
    marked_invalid: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class _StoredPatch(msgspec.Struct, frozen=True, rename="camel"):
    identifier: str
    quilt_patch_id: PatchId


class _QuiltResult(msgspec.Struct, frozen=True, rename="camel"):
    blob_store_result: _Result
    stored_quilt_blobs: tuple[_StoredPatch, ...] = ()


class _PatchItem(msgspec.Struct, frozen=True):
    identifier: str
    patch_id: PatchId
    tags: dict[str, str] = {}


def _parse(body: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError(f"{what}: an answer that is none of the API's: {error}", reason="walrus-answer") from None


def _stored(result: _Result, *, digest: str, size: int, simulated: bool, what: str) -> StoredBlob:
    if result.newly_created is not None:
        made = result.newly_created.blob_object
        if made.deletable:
            raise Refused(f"{what}: the blob was stored deletable, not permanent", reason="walrus-deletable")
        return StoredBlob(
            blob_id=made.blob_id,
            digest=digest,
            size=size or made.size,
            end_epoch=made.storage.end_epoch,
            created=True,
            object_id=made.id,
            cost=result.newly_created.cost,
            simulated=simulated,
        )
    if result.already_certified is not None:
        found = result.already_certified
        return StoredBlob(
            blob_id=found.blob_id,
            digest=digest,
            size=size,
            end_epoch=found.end_epoch,
            created=False,
            object_id=None,
            cost=0,
            simulated=simulated,
        )
    if result.marked_invalid is not None:
        raise Refused(f"{what}: the network holds this blob to be invalid", reason="walrus-invalid-blob")
    said = str((result.error or {}).get("errorMsg", "no result"))[:300]
    raise Unavailable(f"{what}: {said}", reason="walrus-unavailable")


def read_blob_result(body: bytes, data: bytes, *, simulated: bool, what: str) -> StoredBlob:
    """The answer to `PUT /v1/blobs`.

    Raises:
        DecodeError: `walrus-answer`. Refused: `walrus-deletable`, `walrus-invalid-blob`. Unavailable: an `error`.
    """
    return _stored(_parse(body, _Result, what), digest=digest_of(data), size=len(data), simulated=simulated, what=what)


def read_quilt_result(body: bytes, contents: list[Content], *, simulated: bool, what: str) -> StoredQuilt:
    """The answer to `PUT /v1/quilts`, in the order that was sent.

    Raises:
        DecodeError: `walrus-answer`: also where a patch is missing or belongs to another quilt.
        Refused: `walrus-deletable`, `walrus-invalid-blob`. Unavailable: an `error`.
    """
    answer = _parse(body, _QuiltResult, what)
    blob = _stored(answer.blob_store_result, digest="", size=0, simulated=simulated, what=what)
    ids = {patch.identifier: patch.quilt_patch_id for patch in answer.stored_quilt_blobs}
    wanted = {content.identifier for content in contents}
    if set(ids) != wanted or len(answer.stored_quilt_blobs) != len(wanted):
        raise DecodeError(f"{what}: {len(ids)} patches in the answer, {len(wanted)} were sent", reason="walrus-answer")
    quilt = decode_id(blob.blob_id)
    if any(_decode(patch_id)[:_BLOB_ID_BYTES] != quilt for patch_id in ids.values()):
        raise DecodeError(f"{what}: a patch id that is not of this quilt", reason="walrus-answer")
    patches = tuple(
        Patch(identifier=c.identifier, patch_id=ids[c.identifier], digest=digest_of(c.data), size=len(c.data))
        for c in contents
    )
    return StoredQuilt(blob=blob, patches=patches)


def read_patch_list(body: bytes, what: str) -> tuple[QuiltPatch, ...]:
    """The answer to `GET /v1/quilts/<id>/patches`.

    Raises:
        DecodeError: `walrus-answer`.
    """
    rows = _parse(body, tuple[_PatchItem, ...], what)
    return tuple(QuiltPatch(identifier=row.identifier, patch_id=row.patch_id, tags=row.tags) for row in rows)


def _decode(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise DecodeError(f"{text[:64]!r} is no base64url", reason="walrus-id") from None


def decode_id(blob_id: str) -> bytes:
    """The 32 bytes of a blob id.

    Raises:
        DecodeError: `walrus-id`.
    """
    data = _decode(blob_id)
    if len(data) != _BLOB_ID_BYTES:
        raise DecodeError(f"a blob id of {len(data)} bytes; expected 32", reason="walrus-id")
    return data
