"""Objects (snapshots) in JetStream's object store: whole, digest-checked, every wait bounded."""

import asyncio
from typing import Final

import nats.js.errors
from nats.js import JetStreamContext

from daas.common.bus.failures import translated
from daas.common.errors import NotFound, Unavailable

#: 100 MiB at the slowest disk we care for.
_TRANSFER_S: Final = 60.0


async def put(js: JetStreamContext, bucket: str, name: str, data: bytes) -> None:
    """Stores an object under a name, in place of an older one."""
    with translated(f"object {name} of {bucket}"):
        async with asyncio.timeout(_TRANSFER_S):
            await (await js.object_store(bucket)).put(name, data)


async def get(js: JetStreamContext, bucket: str, name: str) -> bytes:
    """The bytes of an object.

    Raises:
        NotFound: `no-object`.
        Unavailable: `object-damaged` when the digest is wrong.
    """
    with translated(f"object {name} of {bucket}"):
        try:
            async with asyncio.timeout(_TRANSFER_S):
                found = await (await js.object_store(bucket)).get(name)
        except nats.js.errors.NotFoundError:
            raise NotFound(f"bucket {bucket} has no object {name}", reason="no-object") from None
        except (nats.js.errors.DigestMismatchError, nats.js.errors.BadObjectMetaError) as error:
            raise Unavailable(f"object {name} of {bucket}: {error}", reason="object-damaged") from None
    return bytes(found.data or b"")


async def delete(js: JetStreamContext, bucket: str, name: str) -> None:
    """Removes an object, if there is one."""
    with translated(f"object {name} of {bucket}"):
        try:
            async with asyncio.timeout(_TRANSFER_S):
                await (await js.object_store(bucket)).delete(name)
        except nats.js.errors.NotFoundError:
            return


async def names(js: JetStreamContext, bucket: str) -> list[str]:
    """The names of all objects, sorted."""
    with translated(f"bucket {bucket}"):
        try:
            async with asyncio.timeout(_TRANSFER_S):
                entries = await (await js.object_store(bucket)).list()
        except nats.js.errors.NotFoundError:
            return []
    return sorted(entry.name for entry in entries if entry.name is not None and not entry.deleted)
