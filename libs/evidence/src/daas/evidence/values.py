"""Reading stored bytes by their manifest: from etcd, or from Walrus, held to their digests either way."""

import asyncio
import zlib
from typing import Final

from daas.common import merkle
from daas.common.errors import DaasError, DecodeError, NotFound
from daas.etcd import EtcdClient
from daas.evidence.bundle import MAX_FILE_BYTES
from daas.evidence.layout import Keys, Manifest
from daas.walrus import WalrusClient

#: Values that are read at a time.
_CONCURRENT_READS: Final = 8


class ValueReader:
    """Puts values together again.

    Args:
        etcd: the connection.
        keys: of the cluster.
        walrus: for values whose bytes are not in etcd; None where Walrus is not used.
    """

    def __init__(self, etcd: EtcdClient, keys: Keys, walrus: WalrusClient | None = None) -> None:
        self._etcd = etcd
        self._keys = keys
        self._walrus = walrus
        self._reads = asyncio.Semaphore(_CONCURRENT_READS)

    async def read(self, manifest: Manifest) -> bytes:
        """The bytes that a manifest describes.

        Raises:
            DecodeError: `stored-malformed`, `stored-digest`: what is stored is damaged.
            NotFound: a part is missing in etcd and its patch in Walrus.
            Unavailable: etcd or Walrus is away.
        """
        if manifest.size > MAX_FILE_BYTES:
            raise DecodeError(f"a stored value of {manifest.size} bytes", reason="stored-malformed", field="size")
        packed = b"".join(await self._pieces(manifest))
        inflate = zlib.decompressobj()
        try:
            data = inflate.decompress(packed, manifest.size + 1)
        except zlib.error as error:
            raise DecodeError(f"stored bytes do not inflate: {error}", reason="stored-malformed") from None
        if len(data) != manifest.size or not inflate.eof or merkle.digest(data).hex() != manifest.digest:
            raise DecodeError(
                f"stored bytes hash to {merkle.digest(data).hex()}, the manifest says {manifest.digest}",
                reason="stored-digest",
            )
        return data

    async def _pieces(self, manifest: Manifest) -> list[bytes]:
        """From etcd where it has them; from Walrus where it does not: the digest says whether they are the same."""
        if manifest.parts:
            try:
                return await asyncio.gather(*(self._part(manifest.digest, index) for index in range(manifest.parts)))
            except DaasError:
                if not manifest.patches or self._walrus is None:
                    raise
        if not manifest.patches:
            raise DecodeError("a manifest that names no bytes", reason="stored-malformed", field="parts")
        walrus = self._walrus
        if walrus is None:
            raise NotFound(
                "the bytes are in Walrus, and no aggregator is known here", reason="no-aggregator", field="patches"
            )

        async def piece(patch: str, digest: str) -> bytes:
            async with self._reads:
                return await walrus.read_patch(patch, digest=digest)

        return await asyncio.gather(*(piece(ref.patch, ref.digest) for ref in manifest.patches))

    async def _part(self, digest: str, index: int) -> bytes:
        async with self._reads:
            kv = await self._etcd.get(self._keys.part(digest, index))
        if kv is None:
            raise DecodeError(f"part {index} of {digest} is missing", reason="stored-malformed")
        return kv.value
