"""The client against real key servers over a real ledger's policy: enough honest servers always suffice."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from seal_world import User, World, answering

from daas.common.errors import DaasError, InvalidInput, NotFound
from daas.seal import (
    ClientSettings,
    DecryptionFailed,
    Dem,
    InvalidSignature,
    KeyServer,
    KeyServerData,
    KeyServerRefused,
    KeyServerUnavailable,
    MalformedAnswer,
    MasterKey,
    NotEnoughKeys,
    SealClient,
    SessionExpired,
    SyncSealClient,
    ThresholdUnreachable,
    elgamal,
)
from daas.seal.backend import BACKEND
from daas.seal.versions import PROTOCOL_VERSION

pytestmark = pytest.mark.connected

QUICK = ClientSettings(timeout_ms=2_000, deadline_ms=8_000, attempts_max=2, retry_delay_ms=1)
IMPATIENT = ClientSettings(timeout_ms=300, deadline_ms=2_000, attempts_max=1)
VERSION = {"X-KeyServer-Version": PROTOCOL_VERSION}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path / "ledger")
    yield world
    await world.close()


@pytest.mark.parametrize("threshold", [1, 2, 3])
@pytest.mark.parametrize("cipher", [Dem.AES_256_GCM, Dem.HMAC_256_CTR])
async def test_a_member_of_the_policy_opens_what_was_encrypted_under_it(
    world: World, threshold: int, cipher: Dem
) -> None:
    for _ in range(3):
        await world.add()
    inner = world.inner_id(b"secret")
    async with SealClient(world.known, settings=QUICK) as client:
        sealed = client.encrypt(world.package, inner, b"hello", threshold=threshold, aad=b"context", cipher=cipher)
        opened = await client.decrypt(sealed, await world.session(), world.ledger.approve(world.access, inner))
    assert opened == b"hello"


async def test_a_stranger_gets_no_key_and_the_reason(world: World) -> None:
    for _ in range(3):
        await world.add()
    inner = world.inner_id()
    async with SealClient(world.known, settings=QUICK) as client:
        sealed = client.encrypt(world.package, inner, b"hello", threshold=2)
        with pytest.raises(NotEnoughKeys) as caught:
            await client.decrypt(sealed, await world.session(world.stranger), world.ledger.approve(world.access, inner))
    assert caught.value.reason == "no-access"
    assert "ENotMember" in str(caught.value)
    assert all(isinstance(failure, KeyServerRefused) for failure in caught.value.failures)


async def test_one_fetch_serves_many_objects_and_a_second_decryption_asks_nobody(world: World) -> None:
    for _ in range(3):
        await world.add()
    inners = [world.inner_id(bytes([number])) for number in range(20)]
    ptb = world.ledger.approve(world.access, *inners)
    async with SealClient(world.known, settings=QUICK) as client:
        objects = [client.encrypt(world.package, inner, inner, threshold=2) for inner in inners]
        session = await world.session()
        await client.fetch_keys(session, ptb, threshold=2)
        asked = world.view.evaluations
        assert [await client.decrypt(each, session, ptb) for each in objects] == inners
        assert world.view.evaluations == asked
        client.forget(session)
        assert await client.decrypt(objects[0], session, ptb) == inners[0]
        assert world.view.evaluations > asked


async def test_keys_of_one_session_serve_no_other(world: World) -> None:
    await world.add()
    inner = world.inner_id()
    ptb = world.ledger.approve(world.access, inner)
    async with SealClient(world.known, settings=QUICK) as client:
        sealed = client.encrypt(world.package, inner, b"hello", threshold=1)
        await client.decrypt(sealed, await world.session(), ptb)
        with pytest.raises(NotEnoughKeys):
            await client.decrypt(sealed, await world.session(world.stranger), ptb)


async def test_a_server_that_never_answers_is_not_waited_for(world: World) -> None:
    released = asyncio.Event()

    async def never(_request: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    await world.add()
    await world.add()
    silent = await world.add_application(answering(never))
    inner = world.inner_id()
    patient = ClientSettings(timeout_ms=60_000, deadline_ms=60_000)
    try:
        async with SealClient([silent, *world.known], settings=patient) as client, asyncio.timeout(50):
            sealed = client.encrypt(world.package, inner, b"hello", threshold=2)
            ptb = world.ledger.approve(world.access, inner)
            assert await client.decrypt(sealed, await world.session(), ptb) == b"hello"
    finally:
        released.set()


async def test_without_enough_servers_in_time_the_error_says_that_it_may_help_to_try_again(world: World) -> None:
    released = asyncio.Event()

    async def never(_request: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    await world.add()
    silent = await world.add_application(answering(never))
    inner = world.inner_id()
    try:
        async with SealClient([silent, *world.known], settings=IMPATIENT) as client:
            sealed = client.encrypt(world.package, inner, b"hello", threshold=2)
            with pytest.raises(ThresholdUnreachable) as caught:
                await client.decrypt(sealed, await world.session(), world.ledger.approve(world.access, inner))
    finally:
        released.set()
    assert [failure.reason for failure in caught.value.failures] == ["key-server-timeout"]


async def test_a_lying_server_is_named_and_worked_around(world: World) -> None:
    for _ in range(2):
        await world.add()
    inner = world.inner_id()
    wrong = MasterKey.generate()

    async def lie(request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        encryption_key = BACKEND.g1_decode(base64.b64decode(body["enc_key"]))
        identity = world.package + inner
        key = elgamal.encrypt(wrong.extract_point(identity), encryption_key)
        points = [base64.b64encode(point).decode() for point in (key.ephemeral, key.blinded)]
        answer = {"decryption_keys": [{"id": list(identity), "encrypted_key": points}]}
        return web.json_response(answer, headers=VERSION)

    liar = await world.add_application(answering(lie))
    seen: list[tuple[str, DaasError]] = []
    async with SealClient(
        [liar, *world.known], settings=QUICK, on_fault=lambda server, error: seen.append((server.name, error))
    ) as client:
        sealed = client.encrypt(world.package, inner, b"hello", threshold=2)
        session, ptb = await world.session(), world.ledger.approve(world.access, inner)
        # Nobody knows who answers first: until the liar was heard, it may not be named.
        async with asyncio.timeout(60):
            while not seen:
                client.forget(session)
                assert await client.decrypt(sealed, session, ptb) == b"hello"
        three = client.encrypt(world.package, inner, b"hello", threshold=3)
        with pytest.raises(NotEnoughKeys) as caught:
            await client.decrypt(three, session, ptb)
    assert {name for name, _ in seen} == {"impostor"}
    assert all(isinstance(error, MalformedAnswer) and error.reason == "wrong-key" for _, error in seen)
    assert "impostor" in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (web.json_response, "wrong-identities"),
        (b"no json", "answer-json"),
        (b'{"decryption_keys": 7}', "answer-json"),
        (b"x" * 300_000, "answer-size"),
        (404, "answer-json"),
        (302, "answer-json"),
    ],
)
async def test_answers_that_are_no_keys_are_refused_by_name(world: World, answer: object, reason: str) -> None:
    async def speak(_request: web.Request) -> web.Response:
        if isinstance(answer, int):
            return web.Response(status=answer, text="no")
        if isinstance(answer, bytes):
            return web.Response(body=answer, headers=VERSION)
        return web.json_response({"decryption_keys": []}, headers=VERSION)

    server = await world.add_application(answering(speak))
    inner = world.inner_id()
    async with SealClient([server], settings=QUICK) as client:
        sealed = client.encrypt(world.package, inner, b"hello", threshold=1)
        with pytest.raises(NotEnoughKeys) as caught:
            await client.decrypt(sealed, await world.session(), world.ledger.approve(world.access, inner))
    assert [failure.reason for failure in caught.value.failures] == [reason]


async def test_a_server_of_an_old_version_is_refused(world: World) -> None:
    async def speak(_request: web.Request) -> web.Response:
        return web.json_response({"decryption_keys": []}, headers={"X-KeyServer-Version": "0.4.0"})

    server = await world.add_application(answering(speak))
    inner = world.inner_id()
    async with SealClient([server], settings=QUICK) as client:
        with pytest.raises(NotEnoughKeys) as caught:
            await client.fetch_keys(await world.session(), world.ledger.approve(world.access, inner), threshold=1)
    assert caught.value.failures[0].reason == "key-server-version"


async def test_what_may_pass_is_tried_again_and_what_is_final_is_not(world: World) -> None:
    await world.add()
    calls = {"busy": 0, "fresh": 0}
    real = world.known[0]

    def flaky(name: str, status: int, code: str) -> web.Application:
        async def speak(request: web.Request) -> web.StreamResponse:
            calls[name] += 1
            if calls[name] == 1:
                return web.json_response({"error": code, "message": ""}, status=status, headers=VERSION)
            return web.Response(status=307, headers={"Location": real.url + request.path})

        return answering(speak)

    inner = world.inner_id()
    ptb = world.ledger.approve(world.access, inner)
    busy = await world.add_application(flaky("busy", 503, "Failure"))
    fresh = await world.add_application(flaky("fresh", 403, "InvalidParameter"))
    async with SealClient([busy, fresh], settings=QUICK) as client:
        with pytest.raises(NotEnoughKeys):  # redirects are not followed: a body must not go elsewhere
            await client.fetch_keys(await world.session(), ptb, threshold=2)
    assert calls == {"busy": 2, "fresh": 2}
    async with SealClient([real], settings=QUICK) as client:
        before = world.view.evaluations
        with pytest.raises(NotEnoughKeys):
            await client.fetch_keys(await world.session(world.stranger), ptb, threshold=1)
        assert world.view.evaluations == before + 1


async def test_a_ledger_that_is_away_or_behind_gives_neither_yes_nor_no(world: World) -> None:
    await world.add()
    inner = world.inner_id()
    ptb = world.ledger.approve(world.access, inner)
    async with SealClient(world.known, settings=QUICK) as client:
        for user in (world.member, world.stranger):
            world.view.behind_ms = 121_000
            with pytest.raises(ThresholdUnreachable):
                await client.fetch_keys(await world.session(user), ptb, threshold=1)
            world.view.behind_ms = 0
        world.view.away = True
        with pytest.raises(ThresholdUnreachable):
            await client.fetch_keys(await world.session(), ptb, threshold=1)
        world.view.away = False
        await client.fetch_keys(await world.session(), ptb, threshold=1)


async def test_a_server_that_was_restarted_with_another_key_is_a_liar(world: World) -> None:
    for _ in range(3):
        await world.add()
    inner = world.inner_id()
    known = world.known
    known[0] = KeyServer(
        object_id=known[0].object_id, url=known[0].url, public_key=MasterKey.generate().public_key, name="restarted"
    )
    ptb = world.ledger.approve(world.access, inner)
    async with SealClient(known, settings=QUICK) as client:
        sealed = client.encrypt(world.package, inner, b"hello", threshold=2)
        assert await client.decrypt(sealed, await world.session(), ptb) == b"hello"
        with pytest.raises(NotEnoughKeys, match="restarted"):
            await client.fetch_keys(await world.session(), ptb, threshold=3)
        with pytest.raises(InvalidSignature):
            await client.verify_servers()


async def test_a_committee_counts_as_one_server(world: World) -> None:
    await world.add()
    await world.add_committee(2, 3)
    inner = world.inner_id()
    ptb = world.ledger.approve(world.access, inner, world.inner_id(b"other"))
    async with SealClient(world.known, settings=QUICK) as client:
        await client.verify_servers()
        sealed = client.encrypt(world.package, inner, b"hello", threshold=2)
        assert await client.decrypt(sealed, await world.session(), ptb) == b"hello"
        with pytest.raises(NotEnoughKeys) as caught:
            await client.decrypt(sealed, await world.session(world.stranger), ptb)
        assert caught.value.reason == "no-access"


async def test_weights_of_the_object_count_not_those_of_the_client(world: World) -> None:
    await world.add(weight=2)
    await world.add()
    inner = world.inner_id()
    ptb = world.ledger.approve(world.access, inner)
    async with SealClient(world.known, settings=QUICK) as client:
        sealed = client.encrypt(world.package, inner, b"hello", threshold=2)
        session = await world.session()
    async with SealClient(world.known[:1], settings=QUICK) as client:
        public = {server.object_id: server.public_key for server in world.known}
        assert await client.decrypt(sealed, session, ptb, public_keys=public) == b"hello"
        assert await client.decrypt(sealed, session, ptb, check_consistency=False) == b"hello"
        with pytest.raises(DecryptionFailed, match="public key"):
            await client.decrypt(sealed, session, ptb)
    async with SealClient(world.known[1:], settings=QUICK) as client:
        with pytest.raises(NotFound):
            await client.decrypt(sealed, session, ptb)


async def test_an_expired_session_asks_nobody(world: World) -> None:
    await world.add()
    now = [1_800_000_000_000]
    session = await world.session(ttl_min=1, clock=lambda: now[0])
    now[0] += 60_000
    async with SealClient(world.known, settings=QUICK) as client:
        with pytest.raises(SessionExpired):
            await client.fetch_keys(session, world.ledger.approve(world.access, world.inner_id()), threshold=1)


async def test_an_object_of_another_package_or_identity_is_refused_before_anything_is_sent(world: World) -> None:
    await world.add()
    inner = world.inner_id()
    ptb = world.ledger.approve(world.access, inner)
    async with SealClient(world.known, settings=QUICK) as client:
        session = await world.session()
        elsewhere = client.encrypt(os.urandom(32), inner, b"hello", threshold=1)
        other = client.encrypt(world.package, b"other", b"hello", threshold=1)
        for sealed in (elsewhere, other):
            with pytest.raises(InvalidInput):
                await client.decrypt(sealed, session, ptb)
    assert not world.view.evaluations


async def test_an_exported_session_goes_on_in_another_process(world: World) -> None:
    await world.add()
    inner = world.inner_id()
    session = await world.session()
    again = type(session)(session.export_secret(), session.package_id, session.certificate)
    async with SealClient(world.known, settings=QUICK) as client:
        sealed = client.encrypt(world.package, inner, b"hello", threshold=1)
        assert await client.decrypt(sealed, again, world.ledger.approve(world.access, inner)) == b"hello"


async def test_the_sync_face_gives_the_same_answers(world: World) -> None:
    for _ in range(2):
        await world.add()
    inner = world.inner_id()
    ptb = world.ledger.approve(world.access, inner)

    def work(user: User) -> bytes:
        with SyncSealClient(world.known, settings=QUICK) as client:
            client.verify_servers()
            session = client.create_session(user.signer, world.package)
            sealed = client.encrypt(world.package, inner, b"hello", threshold=2)
            client.fetch_keys(session, ptb, threshold=2)
            opened = client.decrypt(sealed, session, ptb)
            client.forget(session)
        client.close()
        return opened

    assert await asyncio.to_thread(work, world.member) == b"hello"
    with pytest.raises(NotEnoughKeys):
        await asyncio.to_thread(work, world.stranger)


async def test_a_server_that_is_away_is_unavailable(world: World) -> None:
    server = await world.add()
    await world.stop_servers()
    async with SealClient([server.known], settings=QUICK) as client:
        with pytest.raises(KeyServerUnavailable):
            await client.verify_servers()


def test_two_servers_with_one_object_id_are_refused() -> None:
    key = MasterKey.generate().public_key
    servers = [KeyServer(object_id=bytes(32), url="http://127.0.0.1:1", public_key=key) for _ in range(2)]
    with pytest.raises(InvalidInput):
        SealClient(servers)


async def test_an_api_key_is_sent_in_its_header_and_never_shown(world: World) -> None:
    seen: list[str | None] = []

    async def speak(request: web.Request) -> web.Response:
        seen.append(request.headers.get("X-API-Key"))
        return web.json_response({"error": "NoAccess", "message": "no"}, status=403)

    base = await world.add_application(answering(speak))
    server = KeyServer(
        object_id=base.object_id, url=base.url, public_key=base.public_key, api_key_header="X-API-Key", api_key="hush"
    )
    async with SealClient([server], settings=QUICK) as client:
        with pytest.raises(NotEnoughKeys) as caught:
            await client.fetch_keys(
                await world.session(), world.ledger.approve(world.access, world.inner_id()), threshold=1
            )
    assert seen == ["hush"]
    assert "hush" not in repr(server) + str(caught.value)


def test_a_committee_from_the_ledger_needs_the_address_of_its_aggregator() -> None:
    data = KeyServerData(name="c", public_key=MasterKey.generate().public_key, url=None)
    with pytest.raises(InvalidInput):
        KeyServer.from_ledger(bytes(32), data)
    known = KeyServer.from_ledger(bytes(32), data, aggregator_url="https://aggregator.example/", weight=2)
    assert (known.url, known.weight, known.label) == ("https://aggregator.example", 2, "c")
