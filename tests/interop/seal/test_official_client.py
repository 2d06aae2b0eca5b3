"""The unchanged official TypeScript client and ours open each other's objects through our key servers."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from seal_official import OfficialClient, missing, on_chain
from seal_world import World

from daas.common.errors import DaasError
from daas.seal import (
    Dem,
    EncryptedObject,
    KeyServer,
    SealClient,
    format_address,
    parse_address,
    parse_ptb,
)
from daas.seal.signatures import verify_personal_message

pytestmark = [pytest.mark.connected, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

DEMS = {"aes": Dem.AES_256_GCM, "hmac": Dem.HMAC_256_CTR}
SIZES = {"aes": 1024, "hmac": 33}
SETUPS = {"1-of-1": (1, 1, False), "2-of-3": (2, 3, False), "3-of-3": (3, 3, False), "committee": (2, 1, True)}
AADS = {"absent": None, "empty": b"", "present": b"namespace/name/key"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path / "ledger")
    yield world
    await world.close()


@pytest.fixture
async def official() -> AsyncIterator[OfficialClient]:
    async with OfficialClient() as client:
        yield client


async def start(world: World, setup: str) -> int:
    threshold, count, committee = SETUPS[setup]
    for _ in range(count):
        await world.add()
    if committee:
        await world.add_committee(2, 3)
    return threshold


def described(world: World, version: int = 2) -> dict[str, Any]:
    return {
        "servers": [on_chain(server, 2 if server.committee else version) for server in world.known],
        "packageId": format_address(world.package),
        "access": {"objectId": format_address(world.access.object_id), "version": world.access.initial_version},
        "seed": world.member.seed.hex(),
    }


@pytest.mark.parametrize("setup", SETUPS)
async def test_both_clients_open_what_the_other_encrypted(world: World, official: OfficialClient, setup: str) -> None:
    threshold = await start(world, setup)
    common = described(world)
    cases = [(dem, aad, os.urandom(size)) for dem, size in SIZES.items() for aad in AADS]
    inners = [world.inner_id(bytes([number])) for number in range(len(cases))]
    ids = [inner.hex() for inner in inners]
    ptb = world.ledger.approve(world.access, *inners)
    async with SealClient(world.known) as client:
        theirs, ours = [], []
        for inner, (dem, aad, data) in zip(inners, cases, strict=True):
            bound = AADS[aad]
            given = {} if bound is None else {"aad": bound.hex()}
            answer = await official.ask(
                "encrypt", **common, threshold=threshold, id=inner.hex(), data=data.hex(), dem=dem, **given
            )
            theirs.append(bytes.fromhex(answer["object"]))
            ours.append(
                client.encrypt(world.package, inner, data, threshold=threshold, aad=AADS[aad], cipher=DEMS[dem])
            )
        session = await world.session()
        await client.fetch_keys(session, ptb, threshold=threshold)
        for raw, (_, aad, data) in zip(theirs, cases, strict=True):
            sealed = EncryptedObject.decode(raw)
            assert sealed.encode() == raw
            assert sealed.aad == (AADS[aad] or b"")
            assert await client.decrypt(raw, session, ptb) == data
        for consistency in (False, True):
            answer = await official.ask(
                "decrypt",
                **common,
                threshold=threshold,
                ids=ids,
                objects=[raw.hex() for raw in ours],
                consistency=consistency,
            )
            assert answer == {"plaintexts": [data.hex() for _, _, data in cases]}
        for raw in ours:
            assert await official.ask("reencode", object=raw.hex()) == {"object": raw.hex()}


@pytest.mark.parametrize("setup", SETUPS)
async def test_the_official_client_is_refused_what_the_policy_refuses(
    world: World, official: OfficialClient, setup: str
) -> None:
    threshold = await start(world, setup)
    common = described(world) | {"seed": world.stranger.seed.hex()}
    inner = world.inner_id()
    async with SealClient(world.known) as client:
        sealed = client.encrypt(world.package, inner, b"hello", threshold=threshold)
    answer = await official.ask("decrypt", **common, threshold=threshold, ids=[inner.hex()], objects=[sealed.hex()])
    assert answer["error"] == "NoAccessError"


async def test_the_official_client_verifies_our_proofs_of_possession(world: World, official: OfficialClient) -> None:
    await start(world, "2-of-3")
    inner = world.inner_id()
    for version in (1, 2):
        common = described(world, version)
        answer = await official.ask("encrypt", **common, threshold=2, id=inner.hex(), data="00", dem="aes", verify=True)
        assert "object" in answer
    first, second = world.known[:2]
    wrong = KeyServer(object_id=first.object_id, url=first.url, public_key=second.public_key)
    common["servers"][0] = on_chain(wrong)
    answer = await official.ask("encrypt", **common, threshold=2, id=inner.hex(), data="00", dem="aes", verify=True)
    assert answer["error"] == "InvalidKeyServerError"


async def test_names_of_packages_stand_for_their_ids(world: World, official: OfficialClient) -> None:
    await start(world, "1-of-1")
    common = described(world)
    inner = world.inner_id()
    async with SealClient(world.known) as client:
        sealed = client.encrypt(world.package, inner, b"hello", threshold=1)
        session = await world.session(mvr_name="@test/access")
        assert await client.decrypt(sealed, session, world.ledger.approve(world.access, inner)) == b"hello"
    request = {**common, "threshold": 1, "ids": [inner.hex()], "objects": [sealed.hex()]}
    answer = await official.ask("decrypt", **request, mvrName="@test/access")
    assert answer == {"plaintexts": [b"hello".hex()]}
    answer = await official.ask("decrypt", **request, mvrName="@test/another")
    assert answer["error"] == "InvalidMVRNameError"


async def test_one_server_of_three_may_be_away(world: World, official: OfficialClient) -> None:
    await start(world, "2-of-3")
    common = described(world)
    first = world.known[0]
    gone = KeyServer(object_id=first.object_id, url="http://127.0.0.1:9", public_key=first.public_key)
    common["servers"][0] = on_chain(gone)
    inner = world.inner_id()
    async with SealClient(world.known) as client:
        sealed = client.encrypt(world.package, inner, b"hello", threshold=2)
    answer = await official.ask("decrypt", **common, threshold=2, ids=[inner.hex()], objects=[sealed.hex()])
    assert answer == {"plaintexts": [b"hello".hex()]}


async def test_both_build_the_same_transaction(world: World, official: OfficialClient) -> None:
    inners = [world.inner_id(bytes([number])) for number in range(3)]
    answer = await official.ask("transaction", **described(world), ids=[inner.hex() for inner in inners])
    theirs = bytes.fromhex(answer["bytes"])[1:]
    assert parse_ptb(theirs).inner_ids == tuple(inners)
    assert world.ledger.approve(world.access, *inners) == theirs


SEEDS = [os.urandom(32).hex() for _ in range(3)]
ACCOUNTS: dict[str, dict[str, Any]] = {
    "ed25519": {"scheme": "ed25519", "seed": SEEDS[0]},
    "secp256k1": {"scheme": "secp256k1", "seed": SEEDS[1]},
    "secp256r1": {"scheme": "secp256r1", "seed": SEEDS[2]},
    "multisig": {
        "multisig": {
            "threshold": 2,
            "members": [
                {"scheme": scheme, "seed": seed}
                for scheme, seed in zip(("secp256k1", "secp256r1", "ed25519"), SEEDS, strict=True)
            ],
        }
    },
}


@pytest.mark.parametrize("account", ACCOUNTS)
async def test_accounts_of_each_scheme_get_their_keys_and_a_changed_signature_gets_none(
    world: World, official: OfficialClient, account: str
) -> None:
    await start(world, "1-of-1")
    message = b"a personal message"
    signed = await official.ask("sign", **ACCOUNTS[account], message=message.hex())
    address = parse_address(signed["address"])
    verify_personal_message(message, signed["signature"], address)
    for other_message, other_address in ((b"another", address), (message, os.urandom(32))):
        with pytest.raises(DaasError):
            verify_personal_message(other_message, signed["signature"], other_address)
    access = world.ledger.create_access([address])
    inner = world.inner_id(access=access)
    async with SealClient(world.known) as client:
        sealed = client.encrypt(world.package, inner, b"hello", threshold=1)
    common = described(world)
    common["access"] = {"objectId": format_address(access.object_id), "version": access.initial_version}
    del common["seed"]
    answer = await official.ask(
        "decrypt", **common, **ACCOUNTS[account], threshold=1, ids=[inner.hex()], objects=[sealed.hex()]
    )
    assert answer == {"plaintexts": [b"hello".hex()]}
