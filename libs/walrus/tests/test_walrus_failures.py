"""What the client does when publishers and aggregators fail, lie, ask for tokens, or let epochs pass."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import jwt
import pytest
import pytest_asyncio

from daas.common.errors import ConfigurationError, DecodeError, InvalidInput, NotFound, Refused, Unavailable
from daas.devstack.walrus import BlobStore, WalrusServer
from daas.walrus import Content, Holding, Limits, PublisherKey, WalrusClient, due, from_answer, renew
from daas.walrus.model import read_blob_result, read_quilt_result

DAY_MS = 86_400_000
SECRET = b"0123456789abcdef0123456789abcdef"


class Clock:
    now_ms = 0

    def __call__(self) -> int:
        return self.now_ms


def client_of(*servers: WalrusServer, key: PublisherKey | None = None, attempts: int = 4) -> WalrusClient:
    urls = [server.url for server in servers]
    return WalrusClient(urls, urls, key=key, limits=Limits(attempts=attempts), first_wait_s=0.001)


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[WalrusServer]:
    async with WalrusServer(BlobStore(tmp_path / "a", epoch_ms=DAY_MS, clock_ms=Clock()), upload_bytes=5000) as started:
        yield started


@pytest_asyncio.fixture
async def walrus(server: WalrusServer) -> AsyncIterator[WalrusClient]:
    async with client_of(server) as client:
        yield client


async def test_an_upload_whose_answer_was_lost_is_sent_again_and_bought_once(
    server: WalrusServer, walrus: WalrusClient
) -> None:
    server.faults = {"lost": 2}
    stored = await walrus.store_blob(b"data", epochs=2)
    assert (stored.created, stored.cost, server.uploads) == (False, 0, 3)
    record = server.store.record(stored.blob_id)
    assert record is not None
    assert (record["objects"], record["permanent"]) == (1, True)


async def test_an_upload_waits_out_a_network_that_is_slow(server: WalrusServer, walrus: WalrusClient) -> None:
    server.faults = {"unavailable": 3}
    assert (await walrus.store_quilt([Content(identifier="a", data=b"1")], epochs=1)).blob.created
    server.faults = {"unavailable": 4}
    with pytest.raises(Unavailable, match="too few storage nodes"):
        await walrus.store_blob(b"other", epochs=1)


async def test_the_next_publisher_takes_what_the_first_can_not(server: WalrusServer, tmp_path: Path) -> None:
    gone = WalrusServer(BlobStore(tmp_path / "b", epoch_ms=DAY_MS, clock_ms=Clock()))
    async with gone:
        pass
    async with client_of(gone, server) as client:
        stored = await client.store_blob(b"data", epochs=1)
        assert await client.read_blob(stored.blob_id, digest=stored.digest) == b"data"
        retries = client.retries
        await client.store_blob(b"more", epochs=1)
        assert client.retries == retries  # it stays with the one that worked


async def test_a_404_right_after_the_upload_is_asked_again(server: WalrusServer, walrus: WalrusClient) -> None:
    stored = await walrus.store_blob(b"data", epochs=1)
    server.faults = {"not_found": 2}
    assert await walrus.read_blob(stored.blob_id, digest=stored.digest) == b"data"


async def test_bytes_that_are_not_those_of_the_digest_are_never_given_out(
    server: WalrusServer, walrus: WalrusClient
) -> None:
    quilt = await walrus.store_quilt([Content(identifier="a", data=b"true")], epochs=1)
    server.faults = {"corrupt": 1}
    assert await walrus.read_patch(quilt.patches[0].patch_id, digest=quilt.patches[0].digest) == b"true"
    server.faults = {"corrupt": 99}
    with pytest.raises(DecodeError, match="walrus-digest"):
        await walrus.read_patch(quilt.patches[0].patch_id, digest=quilt.patches[0].digest)


async def test_a_renewal_from_bytes_that_an_aggregator_changed_is_refused(
    server: WalrusServer, walrus: WalrusClient
) -> None:
    stored = await walrus.store_blob(b"data", epochs=1)
    server.faults = {"corrupt": 1}
    held = Holding(blob_id=stored.blob_id, stored_ms=0, epochs=1, end_epoch=2, size=4, simulated=True)
    with pytest.raises(Refused, match="walrus-other-blob"):
        await renew(walrus, held, epochs=2, now_ms=0)


async def test_what_is_too_large_for_this_publisher_is_refused_as_input(walrus: WalrusClient) -> None:
    with pytest.raises(InvalidInput, match="walrus-size"):
        await walrus.store_blob(bytes(5001), epochs=1)
    with pytest.raises(InvalidInput, match="walrus-size"):
        await walrus.store_quilt([Content(identifier=str(n), data=bytes(2000)) for n in range(3)], epochs=1)


async def test_a_blocked_blob_is_a_refusal_and_no_outage(server: WalrusServer, walrus: WalrusClient) -> None:
    stored = await walrus.store_blob(b"data", epochs=1)
    async with aiohttp.ClientSession() as session:
        await session.post(f"{server.url}/simulated/blocked/{stored.blob_id}")
    with pytest.raises(Refused, match="walrus-blocked"):
        await walrus.read_blob(stored.blob_id, digest=stored.digest)


async def test_a_blob_ends_with_its_last_epoch_and_a_renewed_one_does_not(
    server: WalrusServer, walrus: WalrusClient
) -> None:
    ends, lives = await walrus.store_blob(b"ends", epochs=2), await walrus.store_blob(b"lives", epochs=2)
    held = Holding(blob_id=lives.blob_id, stored_ms=0, epochs=2, end_epoch=lives.end_epoch, size=5, simulated=True)
    server.store.skip(1)
    await renew(walrus, held, epochs=2, now_ms=DAY_MS)
    server.store.skip(1)
    assert await walrus.read_blob(lives.blob_id, digest=lives.digest) == b"lives"
    with pytest.raises(NotFound):
        await walrus.read_blob(ends.blob_id, digest=ends.digest)


def test_a_holding_is_due_in_the_last_quarter_of_the_time_that_is_certain() -> None:
    def held(stored_ms: int, epochs: int) -> Holding:
        return Holding(blob_id="A" * 43, stored_ms=stored_ms, epochs=epochs, end_epoch=9, size=1, simulated=True)

    long, short = held(0, 41), held(0, 2)
    assert long.expires_ms(DAY_MS) == 40 * DAY_MS
    assert due([long], now_ms=29 * DAY_MS, epoch_ms=DAY_MS) == []
    assert due([long], now_ms=30 * DAY_MS, epoch_ms=DAY_MS) == [long]
    assert due([long, short], now_ms=30 * DAY_MS, epoch_ms=DAY_MS) == [short, long]
    # With two epochs only one is certain: it is due at once.
    assert due([short], now_ms=0, epoch_ms=DAY_MS) == [short]


async def test_a_publisher_that_asks_for_tokens_gets_a_new_one_for_each_attempt(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, epoch_ms=DAY_MS, clock_ms=Clock())
    async with WalrusServer(store, jwt_secret=SECRET) as server:
        async with client_of(server, key=PublisherKey(SECRET)) as client:
            server.faults = {"lost": 1}
            stored = await client.store_blob(b"data", epochs=2)
            await client.store_quilt([Content(identifier="a", data=b"1")], epochs=2)
            assert await client.read_blob(stored.blob_id, digest=stored.digest) == b"data"
        for key in (None, PublisherKey(bytes(32)), PublisherKey(SECRET, clock_s=lambda: time.time() - 3600)):
            async with client_of(server, key=key) as stranger:
                with pytest.raises(Refused, match="walrus-not-allowed"):
                    await stranger.store_blob(b"data", epochs=2)
        token = PublisherKey(SECRET).token(epochs=2, size=4)
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
            codes = []
            for epochs, data in ((2, b"abc"), (3, b"abcd"), (2, b"abcd"), (2, b"abcd")):
                async with session.put(f"{server.url}/v1/blobs?epochs={epochs}", data=data) as answer:
                    codes.append(answer.status)
    # Another size, other epochs, as signed, and the same token once more.
    assert codes == [400, 400, 200, 403]


def test_a_token_says_what_it_is_for_and_its_key_stays_unseen() -> None:
    key = PublisherKey(SECRET, clock_s=lambda: 1_000.0)
    claims = jwt.decode(key.token(epochs=3, size=7), SECRET, algorithms=["HS256"], options={"verify_exp": False})
    assert (claims["iat"], claims["exp"], claims["epochs"], claims["size"]) == (1000, 1060, 3, 7)
    assert key.token(epochs=3, size=7) != key.token(epochs=3, size=7)
    assert "0123" not in repr(key)
    for secret, algorithm in ((b"short", "HS256"), (SECRET, "EdDSA")):
        with pytest.raises(ConfigurationError, match="walrus-secret"):
            PublisherKey(secret, algorithm=algorithm)  # type: ignore[arg-type]  # the literal is one of the names


async def test_a_token_that_is_good_for_too_long_or_for_another_owner_is_refused(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, epoch_ms=DAY_MS, clock_ms=Clock())
    owner, now = "0x" + "ab" * 32, int(time.time())
    async with WalrusServer(store, jwt_secret=SECRET, jwt_expiring_s=60) as server:
        async with client_of(server, key=PublisherKey(SECRET)) as client:
            await client.store_blob(b"data", epochs=1)
        codes = []
        for number, (life_s, to) in enumerate(((61, owner), (60, owner), (60, "0x1"))):
            claims = {"iat": now, "exp": now + life_s, "jti": str(number), "send_object_to": to}
            headers = {"Authorization": f"Bearer {jwt.encode(claims, SECRET)}"}
            url = f"{server.url}/v1/blobs?send_object_to={owner}"
            async with aiohttp.ClientSession(headers=headers) as session, session.put(url, data=b"x") as answer:
                codes.append(answer.status)
    assert codes == [401, 200, 400]


async def test_results_with_status_200_that_are_no_success_are_told_apart(
    server: WalrusServer, walrus: WalrusClient
) -> None:
    server.faults = {"failed": 1}
    assert (await walrus.store_blob(b"data", epochs=1)).created  # by the second attempt
    server.faults = {"invalid": 1}
    with pytest.raises(Refused, match="walrus-invalid-blob"):
        await walrus.store_blob(b"other", epochs=1)


async def test_queries_that_the_servers_refuse_are_refused_by_the_stand_in(server: WalrusServer) -> None:
    async with aiohttp.ClientSession(server.url) as session:
        for query in ("epochs=0", "epochs=54", "epochs=x", "share=yes", "share=true&send_object_to=0x1",
                      "send_object_to=me", "encoding_type=RS1"):  # fmt: skip
            async with session.put(f"/v1/blobs?{query}", data=b"x") as answer:
                assert answer.status == 400, query
        async with session.put("/v1/blobs?share=true&reuse_resources=true", data=b"x") as answer:
            created = (await answer.json())["newlyCreated"]
        assert created["sharedBlobObject"] == created["blobObject"]["id"]
        path = f"/v1/blobs/{created['blobObject']['blobId']}"
        for query, status in (("strict_consistency_check=true", 200), ("skip_consistency_check=true", 200),
                              ("strict_consistency_check=true&skip_consistency_check=true", 400)):  # fmt: skip
            async with session.get(f"{path}?{query}") as answer:
                assert answer.status == status, query


async def test_permanent_and_deletable_exclude_each_other_and_deletable_is_the_servers_default(
    server: WalrusServer,
) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.put(f"{server.url}/v1/blobs?permanent=true&deletable=true", data=b"x") as answer:
            assert answer.status == 400
        async with session.put(f"{server.url}/v1/blobs", data=b"x") as answer:
            body = await answer.read()
            assert answer.headers["X-Daas-Simulated"] == "true"
    with pytest.raises(Refused, match="walrus-deletable"):
        read_blob_result(body, b"x", simulated=True, what="PUT")


async def test_the_stand_in_keeps_blobs_tokens_and_epochs_over_restarts(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, epoch_ms=DAY_MS, clock_ms=Clock())
    record, _ = store.put(b"data", epochs=3, permanent=True, force=False)
    store.skip(2)
    assert store.use_token("one")
    again = BlobStore(tmp_path, epoch_ms=1, clock_ms=Clock())
    assert (again.epoch, again.epoch_ms, again.use_token("one")) == (3, DAY_MS, False)
    assert again.read(record["blob_id"]) == b"data"
    again.skip(1)
    assert again.read(record["blob_id"]) is None


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        *((code, InvalidInput) for code in (400, 413)),
        *((code, Refused) for code in (401, 403, 451)),
        *((code, Unavailable) for code in (429, 500, 504)),
        (404, NotFound),
    ],
)
def test_a_status_says_who_can_do_what(code: int, expected: type[Exception]) -> None:
    error = from_answer(code, b'{"error": {"message": "why"}}', "PUT")
    assert type(error) is expected
    assert "why" in error.message


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"newlyCreated": {"blobObject": {}}}', b'{"alreadyCertified": {"blobId": "short", "endEpoch": 3}}'],
)
def test_an_answer_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(DecodeError, match="walrus-answer"):
        read_blob_result(body, b"x", simulated=False, what="PUT")


def test_a_quilt_whose_patches_are_missing_or_of_another_quilt_is_refused() -> None:
    blob, other = "A" * 43, "B" * 50
    result = f'{{"blobStoreResult": {{"alreadyCertified": {{"blobId": "{blob}", "endEpoch": 3}}}}'
    files = [Content(identifier="a", data=b"")]
    for body in (f"{result}}}", f'{result}, "storedQuiltBlobs": [{{"identifier": "a", "quiltPatchId": "{other}"}}]}}'):
        with pytest.raises(DecodeError, match="walrus-answer"):
            read_quilt_result(body.encode(), files, simulated=False, what="PUT")


def test_results_that_are_refusals_or_outages_are_such() -> None:
    with pytest.raises(Refused, match="walrus-invalid-blob"):
        read_blob_result(b'{"markedInvalid": {"blobId": "x", "event": {}}}', b"", simulated=False, what="PUT")
    with pytest.raises(Unavailable, match="no shards"):
        read_blob_result(b'{"error": {"errorMsg": "no shards"}}', b"", simulated=False, what="PUT")
