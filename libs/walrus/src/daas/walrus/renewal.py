"""Keeping blobs alive: which are due, and storing the same bytes again for longer.

A blob's id is a digest of its bytes, so storing them again is what extends it: the publisher buys only what is missing,
and the id that it answers proves that nothing else was stored. This holds for quilts too, which are blobs.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from daas.common.errors import Refused
from daas.walrus.client import WalrusClient
from daas.walrus.model import BlobId, Epoch, StoredBlob

#: Of a blob's time, the last part in which it is renewed: of two years, half a year for noticing what goes wrong.
DUE_SHARE: Final = 0.25


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """A blob that is to live on.

    Attributes:
        blob_id: the blob.
        stored_ms: when it was last stored, by the clock of whoever stored it.
        epochs: for how many epochs ahead that was.
        end_epoch: what the network said then.
        size: bytes of the blob where they are known; 0 for a quilt.
        simulated: whether a stand-in holds it.
        users: where its user notes what it needs the blob for; empty where that was not noted.
    """

    blob_id: BlobId
    stored_ms: int
    epochs: int
    end_epoch: Epoch
    size: int
    simulated: bool
    users: tuple[str, ...] = ()

    def expires_ms(self, epoch_ms: int) -> int:
        """The earliest moment at which it may be gone: the epoch in which it was stored may have ended at once."""
        return self.stored_ms + (self.epochs - 1) * epoch_ms


class Renewed(msgspec.Struct, frozen=True, kw_only=True):
    """A holding before and after."""

    before: Holding
    after: Holding


def due(holdings: Iterable[Holding], *, now_ms: int, epoch_ms: int) -> list[Holding]:
    """Holdings in the last quarter of their time, the most urgent first; those that expired already come first too."""
    found = [
        held
        for held in holdings
        if held.expires_ms(epoch_ms) - now_ms <= max(epoch_ms, DUE_SHARE * held.epochs * epoch_ms)
    ]
    return sorted(found, key=lambda held: held.expires_ms(epoch_ms))


async def renew(client: WalrusClient, held: Holding, *, epochs: int, now_ms: int) -> Renewed:
    """Stores a blob again, for `epochs` from now.

    Raises:
        NotFound: it is gone.
        Refused: `walrus-other-blob`: the bytes that the aggregator gave are not those of this id.
        Unavailable: try again.
    """
    data = await client.read_blob(held.blob_id, digest=None)
    stored: StoredBlob = await client.store_blob(data, epochs=epochs)
    if stored.blob_id != held.blob_id:
        raise Refused(
            f"blob {held.blob_id} was read as {stored.blob_id}: an aggregator gave other bytes",
            reason="walrus-other-blob",
        )
    after = msgspec.structs.replace(
        held,
        stored_ms=now_ms,
        epochs=epochs,
        end_epoch=max(held.end_epoch, stored.end_epoch),
        simulated=stored.simulated,
    )
    return Renewed(before=held, after=after)
