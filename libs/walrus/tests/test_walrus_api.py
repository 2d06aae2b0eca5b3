"""What must hold at any Walrus: run against the stand-in, or where DAAS_WALRUS_PUBLISHER and _AGGREGATOR point."""

import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from daas.common.errors import InvalidInput, NotFound
from daas.devstack.walrus import BlobStore, WalrusServer
from daas.walrus import Content, Holding, Limits, WalrusClient, renew

pytestmark = pytest.mark.connected
PUBLISHER, AGGREGATOR = os.environ.get("DAAS_WALRUS_PUBLISHER"), os.environ.get("DAAS_WALRUS_AGGREGATOR")


@pytest_asyncio.fixture
async def walrus(tmp_path: Path) -> AsyncIterator[WalrusClient]:
    if PUBLISHER and AGGREGATOR:
        async with WalrusClient([PUBLISHER], [AGGREGATOR]) as client:
            yield client
        return
    store = BlobStore(tmp_path, epoch_ms=86_400_000, clock_ms=lambda: 0)
    async with (
        WalrusServer(store) as server,
        WalrusClient([server.url], [server.url], first_wait_s=0.001) as client,
    ):
        yield client


async def test_a_blob_is_read_back_as_it_was_stored(walrus: WalrusClient) -> None:
    data = secrets.token_bytes(1000)
    stored = await walrus.store_blob(data, epochs=2)
    assert (stored.size, stored.created) == (1000, True)
    assert await walrus.read_blob(stored.blob_id, digest=stored.digest) == data
    assert stored.simulated == (PUBLISHER is None)


async def test_the_same_bytes_are_one_blob_and_are_bought_once(walrus: WalrusClient) -> None:
    data = secrets.token_bytes(100)
    first = await walrus.store_blob(data, epochs=2)
    again = await walrus.store_blob(data, epochs=2)
    assert (again.blob_id, again.digest, again.end_epoch) == (first.blob_id, first.digest, first.end_epoch)
    assert (again.created, again.cost) == (False, 0)


async def test_a_quilt_gives_each_of_its_files_back_by_id_and_by_name(walrus: WalrusClient) -> None:
    contents = [
        Content(identifier=f"file-{n}", data=secrets.token_bytes(n * 700 + 1), tags={"kind": "audit"}) for n in range(9)
    ]
    quilt = await walrus.store_quilt(contents, epochs=2)
    for content, patch in zip(contents, quilt.patches, strict=True):
        assert await walrus.read_patch(patch.patch_id, digest=patch.digest) == content.data
    last = quilt.patches[-1]
    assert await walrus.read_from_quilt(quilt.blob.blob_id, "file-8", digest=last.digest) == contents[8].data
    listed = {(row.identifier, row.patch_id) for row in await walrus.patches(quilt.blob.blob_id)}
    assert listed == {(patch.identifier, patch.patch_id) for patch in quilt.patches}
    again = await walrus.store_quilt(list(reversed(contents)), epochs=2)
    assert (again.blob.blob_id, again.blob.created) == (quilt.blob.blob_id, False)


async def test_a_quilt_is_renewed_as_the_blob_that_it_is(walrus: WalrusClient) -> None:
    quilt = await walrus.store_quilt([Content(identifier="a", data=secrets.token_bytes(64))], epochs=1)
    held = Holding(
        blob_id=quilt.blob.blob_id,
        stored_ms=0,
        epochs=1,
        end_epoch=quilt.blob.end_epoch,
        size=0,
        simulated=quilt.blob.simulated,
    )
    renewed = await renew(walrus, held, epochs=3, now_ms=5)
    assert renewed.after.end_epoch >= quilt.blob.end_epoch + 2
    assert (renewed.after.stored_ms, renewed.after.epochs, renewed.before) == (5, 3, held)
    patch = quilt.patches[0]
    assert len(await walrus.read_patch(patch.patch_id, digest=patch.digest)) == 64


async def test_what_nobody_stored_is_not_found(walrus: WalrusClient) -> None:
    async with WalrusClient([], walrus._aggregators, limits=Limits(attempts=1)) as reader:
        with pytest.raises(NotFound, match="walrus-not-found"):
            await reader.read_blob("A" * 43, digest="0" * 64)
        await reader.check()


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        ([], "walrus-quilt"),
        ([Content(identifier="a", data=b"1"), Content(identifier="a", data=b"2")], "walrus-quilt"),
        ([Content(identifier=str(n), data=b"") for n in range(667)], "walrus-quilt"),
        ([Content(identifier="_metadata", data=b"")], "walrus-identifier"),
        ([Content(identifier="a/b", data=b"")], "walrus-identifier"),
        ([Content(identifier="a", data=bytes(10 * 1024 * 1024 + 1))], "walrus-size"),
    ],
)
async def test_a_quilt_that_no_publisher_would_take_is_not_sent(
    walrus: WalrusClient, contents: list[Content], reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason):
        await walrus.store_quilt(contents, epochs=1)


@pytest.mark.parametrize("epochs", [0, 54])
async def test_a_lifetime_that_is_not_sold_is_not_asked_for(walrus: WalrusClient, epochs: int) -> None:
    with pytest.raises(InvalidInput, match="walrus-epochs"):
        await walrus.store_blob(b"x", epochs=epochs)
