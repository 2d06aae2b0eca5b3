"""Which key serves whom: open, permissioned and committee servers, and what an aggregator makes of its members."""

import base64
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from seal_world import UNLIMITED, World, answering, serve

from daas.common.errors import ConfigurationError, InvalidInput
from daas.seal import KeyServer, MasterKey, SealClient, committee
from daas.seal.backend import BACKEND
from daas.seal.client import ClientSettings
from daas.seal.elgamal import DecryptionKey, Encryption, encrypt, verify_encryption
from daas.seal.ibe import hash_identity
from daas.seal.server import (
    Aggregator,
    CommitteeMemberKeys,
    Derived,
    Exported,
    Imported,
    KeyServerApp,
    Member,
    OpenKeys,
    PermissionedClient,
    PermissionedKeys,
    Rate,
    Refusal,
    read_secret,
)
from daas.seal.server.limits import RateLimiter
from daas.seal.versions import PROTOCOL_VERSION

SEED = bytes(range(32))
QUICK = ClientSettings(timeout_ms=2_000, deadline_ms=8_000, attempts_max=1)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path / "ledger")
    yield world
    await world.close()


def client(number: int, key: Derived | Imported | Exported | None = None) -> PermissionedClient:
    return PermissionedClient(
        name=f"client-{number}",
        service_id=bytes([number]) * 32,
        key=key or Derived(number),
        packages=(bytes([100 + number]) * 32,),
    )


def test_each_client_of_a_permissioned_server_has_its_own_key() -> None:
    imported = MasterKey.generate()
    keys = PermissionedKeys(SEED, [client(0), client(1), client(2, Exported(2)), client(3, Imported(imported))])
    for number in (0, 1):
        expected = MasterKey.derive(SEED, number).public_key
        assert keys.key_of_package(bytes([100 + number]) * 32).public_key == expected
        assert keys.key_of_service(bytes([number]) * 32).public_key == expected
    assert keys.key_of_package(bytes([103]) * 32) is imported
    for package in (bytes([102]) * 32, bytes(32)):
        with pytest.raises(Refusal, match="UnsupportedPackageId"):
            keys.key_of_package(package)
    with pytest.raises(Refusal, match="InvalidServiceId"):
        keys.key_of_service(bytes([2]) * 32)
    with pytest.raises(Refusal, match="Unsupported"):
        keys.partial_public_key()


@pytest.mark.parametrize(
    "clients",
    [
        [client(0), client(0)],
        [client(1)],
        [client(0), client(2)],
        [client(0), client(1, Derived(0))],
        [PermissionedClient(name="a", service_id=bytes(32), key=Derived(0), packages=())],
        [
            PermissionedClient(name=name, service_id=os.urandom(32), key=Derived(number), packages=(bytes(32),))
            for number, name in enumerate("ab")
        ],
    ],
)
def test_clients_that_share_something_or_leave_gaps_are_refused(clients: list[PermissionedClient]) -> None:
    with pytest.raises(ConfigurationError):
        PermissionedKeys(SEED, clients)


def test_secrets_are_read_as_hexadecimal_or_base64_and_never_repeated() -> None:
    assert (
        read_secret(SEED.hex())
        == read_secret("0x" + SEED.hex())
        == read_secret(base64.b64encode(SEED).decode())
        == SEED
    )
    for text in ("", "00", SEED.hex() + "00", "secret-word-that-is-no-key", "é"):
        with pytest.raises(ConfigurationError) as caught:
            read_secret(text)
        assert not text or text not in str(caught.value)


def test_a_committee_member_uses_the_share_of_the_version_on_the_ledger() -> None:
    old, new = MasterKey.generate(), MasterKey.generate()
    keys = CommitteeMemberKeys(old, 3, new)
    assert keys.partial_public_key() == old.public_key
    keys.advance(4)
    keys.advance(3)
    assert keys.key_of_package(bytes(32)) is new
    with pytest.raises(ConfigurationError):
        keys.advance(5)
    with pytest.raises(Refusal, match="InvalidServiceId"):
        keys.key_of_service(bytes(32))
    joining = CommitteeMemberKeys(None, 3, new)
    with pytest.raises(Refusal, match="Failure"):
        joining.key_of_package(bytes(32))
    with pytest.raises(ConfigurationError):
        CommitteeMemberKeys(None, 0)


@pytest.mark.parametrize(("threshold", "count"), [(2, 2), (2, 3), (3, 5)])
def test_any_threshold_of_members_makes_the_committee_s_answer(threshold: int, count: int) -> None:
    key, session, identity = MasterKey.generate(), DecryptionKey(), os.urandom(40)
    shares = key.split(threshold, count)
    point = BACKEND.g1_decode(session.public_key)
    parts = {party: encrypt(share.extract_point(identity), point) for party, share in enumerate(shares)}
    for party, part in parts.items():
        assert verify_encryption(part, identity, session.verification_key, shares[party].public_key)
        assert not verify_encryption(part, identity, session.verification_key, key.public_key)
        assert not verify_encryption(
            Encryption(part.blinded, bytes(48)), identity, session.verification_key, key.public_key
        )
    last = {party: parts[party] for party in range(count - threshold, count)}
    for chosen in ({party: parts[party] for party in range(threshold)}, last):
        assert session.decrypt(committee.aggregate(chosen, threshold)) == key.extract(identity)
    partial = {party: shares[party].public_key for party in last}
    assert committee.public_key(partial, threshold) == key.public_key
    with pytest.raises(InvalidInput):
        committee.aggregate(parts, threshold + count)
    assert hash_identity(identity) is not None


def test_committees_below_two_are_refused() -> None:
    for threshold, count in ((1, 3), (3, 2), (2, 70_000)):
        with pytest.raises(InvalidInput):
            MasterKey.generate().split(threshold, count)


def members_of(shares: list[MasterKey]) -> tuple[Member, ...]:
    return tuple(
        Member(party_id=party, server=KeyServer(object_id=bytes(32), url="http://127.0.0.1:9", public_key=s.public_key))
        for party, s in enumerate(shares)
    )


async def test_an_aggregator_is_not_made_of_members_of_another_committee(world: World) -> None:
    key = MasterKey.generate()
    shares = key.split(2, 3)
    Aggregator(members_of(shares), 2, key.public_key, world.view)
    for wrong in ([*shares[:2], MasterKey.generate()], shares[:1], [shares[1], shares[0], shares[2]]):
        with pytest.raises(ConfigurationError):
            Aggregator(members_of(wrong), 2, key.public_key, world.view)


@pytest.mark.connected
async def test_an_aggregator_works_around_a_lying_and_an_absent_member(world: World) -> None:
    key = MasterKey.generate()
    shares = key.split(2, 4)
    liar = KeyServerApp(CommitteeMemberKeys(MasterKey.generate(), 0), world.view, settings=UNLIMITED)
    apps = [
        liar,
        *(KeyServerApp(CommitteeMemberKeys(share, 0), world.view, settings=UNLIMITED) for share in shares[1:3]),
    ]
    members = []
    async with serve(apps[0].application()) as a, serve(apps[1].application()) as b, serve(apps[2].application()) as c:
        for party, url in enumerate((a, b, c, "http://127.0.0.1:9")):
            server = KeyServer(object_id=bytes(32), url=url, public_key=shares[party].public_key, name=f"m{party}")
            members.append(Member(party_id=party, server=server))
        aggregator = Aggregator(tuple(members), 2, key.public_key, world.view)
        async with serve(aggregator.application()) as url:
            known = KeyServer(object_id=os.urandom(32), url=url, public_key=key.public_key, committee=True)
            inner = world.inner_id()
            async with SealClient([known], settings=QUICK) as seal, aiohttp.ClientSession() as http:
                sealed = seal.encrypt(world.package, inner, b"hello", threshold=1)
                ptb = world.ledger.approve(world.access, inner)
                assert await seal.decrypt(sealed, await world.session(), ptb) == b"hello"
                twice = world.ledger.approve(world.access, inner, inner)
                with pytest.raises(Exception, match="InvalidPTB"):
                    await seal.fetch_keys(await world.session(), twice, threshold=1)
                async with http.get(f"{url}/v1/service?service_id=0x1") as answer:
                    assert answer.status == 400
                async with http.get(f"{a}/v1/debug/committee_partial_pk") as answer:
                    assert base64.b64decode((await answer.json())["partial_pk"]) == liar._keys.partial_public_key()
                headers = {"Client-Sdk-Version": "9.9.9", "Client-Sdk-Type": "something-else"}
                async with http.post(f"{url}/v1/fetch_key", data=b"{}", headers=headers) as answer:
                    assert (await answer.json())["error"] == "InvalidSDKType"


@pytest.mark.connected
async def test_what_most_members_say_is_what_the_committee_says(world: World) -> None:
    async def broken(_request: web.Request) -> web.Response:
        return web.Response(status=500, body=json.dumps({"error": "Odd", "message": ""}).encode())

    key = MasterKey.generate()
    shares = key.split(3, 3)
    async with serve(answering(broken)) as url:
        servers = [
            Member(party_id=n, server=KeyServer(object_id=bytes(32), url=url, public_key=share.public_key))
            for n, share in enumerate(shares)
        ]
        async with serve(Aggregator(tuple(servers), 3, key.public_key, world.view).application()) as front:
            known = KeyServer(object_id=os.urandom(32), url=front, public_key=key.public_key, committee=True)
            async with SealClient([known], settings=QUICK) as seal:
                with pytest.raises(Exception, match="503 Failure"):
                    await seal.fetch_keys(
                        await world.session(), world.ledger.approve(world.access, world.inner_id()), threshold=1
                    )
    assert PROTOCOL_VERSION


@pytest.mark.connected
async def test_a_permissioned_server_serves_its_client_s_package_alone(world: World) -> None:
    mine = PermissionedClient(name="mine", service_id=os.urandom(32), key=Derived(0), packages=(world.package,))
    app = KeyServerApp(PermissionedKeys(SEED, [mine]), world.view, settings=UNLIMITED)
    other = KeyServerApp(PermissionedKeys(SEED, [client(0)]), world.view, settings=UNLIMITED)
    public_key = MasterKey.derive(SEED, 0).public_key
    inner = world.inner_id()
    ptb = world.ledger.approve(world.access, inner)
    async with serve(app.application()) as url, serve(other.application()) as elsewhere:
        known = KeyServer(object_id=mine.service_id, url=url, public_key=public_key)
        async with SealClient([known], settings=QUICK) as seal:
            await seal.verify_servers()
            sealed = seal.encrypt(world.package, inner, b"hello", threshold=1)
            assert await seal.decrypt(sealed, await world.session(), ptb) == b"hello"
        known = KeyServer(object_id=mine.service_id, url=elsewhere, public_key=public_key)
        async with SealClient([known], settings=QUICK) as seal:
            with pytest.raises(Exception, match="UnsupportedPackageId"):
                await seal.decrypt(sealed, await world.session(), ptb)


def test_a_bucket_fills_with_time_and_never_beyond_its_burst() -> None:
    now = [0]
    limiter = RateLimiter(Rate(per_second=2.0, burst=3), lambda: now[0])
    assert [limiter.allow("a") for _ in range(4)] == [True, True, True, False]
    assert limiter.allow("b", 3)
    now[0] = 500
    assert [limiter.allow("a"), limiter.allow("a")] == [True, False]
    now[0] = 1_000_000
    assert [limiter.allow("a") for _ in range(4)] == [True, True, True, False]
    now[0] = 0
    assert not limiter.allow("a")
    assert limiter.allow("c", 1000), "a request dearer than the burst takes all of it"
    assert not limiter.allow("c")
    for rate in (Rate(0.0, 1), Rate(1.0, 0)):
        with pytest.raises(ConfigurationError):
            RateLimiter(rate, lambda: 0)


def test_an_open_server_has_one_object() -> None:
    key = MasterKey.generate()
    keys = OpenKeys(bytes(32), key)
    assert keys.key_of_service(bytes(32)) is keys.key_of_package(os.urandom(32)) is key
    with pytest.raises(Refusal):
        keys.key_of_service(os.urandom(32))
    with pytest.raises(InvalidInput):
        OpenKeys(b"short", key)
