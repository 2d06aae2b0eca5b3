"""The plugin as a process, with a real ledger and key servers: start, outages, rotation, restarts, refusals."""

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.kms import REQUIRED_STAKE_MIST, KmsStage, eventually, kms_stage

from daas.common.errors import ConfigurationError, InvalidInput, NotFound, Refused
from daas.kms import envelope
from daas.ledger import Rules
from daas.seal import EncryptedObject
from daas.sealkeeper.kms import listener

pytestmark = [pytest.mark.connected, pytest.mark.asyncio(loop_scope="module")]

DEK = bytes(range(32))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KmsStage]:
    async with kms_stage(tmp_path_factory.mktemp("kms")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def stage(shared: KmsStage) -> AsyncIterator[KmsStage]:
    yield shared
    await shared.reset()


async def test_a_data_key_goes_round_with_its_sealed_seed_thousands_of_times_at_once(stage: KmsStage) -> None:
    async with stage.plugin(), stage.client() as client:
        status = await client.status()
        assert (status.version, status.healthz) == ("v2", "ok")
        wrapped = await client.encrypt(DEK, "uid-1")
        assert wrapped.key_id == status.key_id
        assert len(wrapped.ciphertext) < 1024
        sealed = EncryptedObject.decode(wrapped.annotations[envelope.ANNOTATION])
        assert len(sealed.services) == 3
        opened = await client.decrypt(wrapped.ciphertext, wrapped.key_id, wrapped.annotations, "uid-2")
        assert opened == DEK
        assert stat.S_IMODE(stage.socket.lstat().st_mode) == 0o600
        with pytest.raises(NotFound, match="kms-unknown-key"):
            await client.decrypt(wrapped.ciphertext, "daas-kms-9-0", wrapped.annotations, "uid-3")
        with pytest.raises(InvalidInput, match="kms-annotations"):
            await client.decrypt(wrapped.ciphertext, wrapped.key_id, {}, "uid-4")
        changed = wrapped.ciphertext[:-1] + bytes([wrapped.ciphertext[-1] ^ 1])
        with pytest.raises(Refused, match="kms-tag"):
            await client.decrypt(changed, wrapped.key_id, wrapped.annotations, "uid-5")
        # Thousands at once: gRPC's own bounds would cancel most of them.
        answers = await asyncio.gather(
            *(client.decrypt(wrapped.ciphertext, wrapped.key_id, wrapped.annotations, str(n)) for n in range(5000))
        )
        assert answers == [DEK] * 5000


async def test_key_servers_that_are_away_at_the_start_are_the_reason_until_they_are_back(stage: KmsStage) -> None:
    await stage.stop_key_servers()
    await stage.plugin(announces=False).start()
    await stage.refuses("Unavailable", "generation 1", "key-servers-unavailable")
    await stage.start_key_servers()
    await eventually(lambda: _healthy(stage))


async def test_one_key_server_of_three_may_be_missing(stage: KmsStage) -> None:
    await stage.stop_key_servers()
    await stage.start_key_servers(count=2)
    async with stage.plugin():
        assert await stage.key_id()


async def test_a_rotation_is_taken_up_without_a_restart_and_old_keys_still_open(stage: KmsStage) -> None:
    async with stage.plugin(), stage.client() as client:
        old = await client.encrypt(DEK, "old")
        keyring = stage.rotate()
        new_id = keyring.generations[-1].key_id
        assert new_id != old.key_id

        async def rotated() -> bool:
            return (await client.status()).key_id == new_id

        await eventually(rotated)
        new = await client.encrypt(DEK, "new")
        assert new.key_id == new_id
        for one in (old, new):
            assert await client.decrypt(one.ciphertext, one.key_id, one.annotations, "both") == DEK
        with pytest.raises(InvalidInput, match="kms-annotations"):
            await client.decrypt(old.ciphertext, new_id, old.annotations, "crossed")


async def test_a_new_generation_is_encrypted_with_only_once_it_is_open(stage: KmsStage) -> None:
    async with stage.plugin() as plugin, stage.client() as client:
        old_id = (await client.status()).key_id
        await stage.stop_key_servers()
        stage.rotate()

        async def noticed() -> bool:
            return "a seed can't be opened yet" in plugin.log_path.read_text()

        await eventually(noticed)
        assert (await client.status()).key_id == old_id
        await stage.start_key_servers()

        async def rotated() -> bool:
            return (await client.status()).key_id != old_id

        await eventually(rotated)


async def test_a_broken_keyring_changes_nothing_that_is_in_force(stage: KmsStage) -> None:
    async with stage.plugin() as plugin, stage.client() as client:
        key_id = (await client.status()).key_id
        stage.keyring_path.write_text("{}")

        async def noticed() -> bool:
            return "the keyring can't be used" in plugin.log_path.read_text()

        await eventually(noticed)
        assert (await client.status()).key_id == key_id


async def test_no_stake_no_seed_and_the_refusal_names_the_rule(stage: KmsStage) -> None:
    rules = Rules(required_stake_mist=2 * REQUIRED_STAKE_MIST)
    await stage.new_keyring(await stage.ledger.policies.create(stage.registry, rules))
    await stage.plugin(announces=False).start()
    await stage.refuses("Unavailable", "ENotEnoughStake", "no-access")
    await stage.stake()
    await eventually(lambda: _healthy(stage))


async def test_a_killed_plugin_leaves_a_socket_that_the_next_one_replaces(stage: KmsStage) -> None:
    first = stage.plugin()
    await first.start()
    before = await stage.key_id()
    with pytest.raises(ConfigurationError, match="another process listens"):
        listener.prepare(stage.socket)
    await first.kill()
    assert stage.socket.exists()
    async with stage.plugin():
        assert await stage.key_id() == before
    assert not stage.socket.exists()


async def test_an_open_seed_serves_without_ledger_and_key_servers_and_a_restart_without_them_says_so(
    tmp_path: Path,
) -> None:
    async with kms_stage(tmp_path) as stage:
        async with stage.plugin(), stage.client() as client:
            wrapped = await client.encrypt(DEK, "before")
            await stage.ledger_process.kill()
            await stage.stop_key_servers()
            assert (await client.status()).healthz == "ok"
            assert await client.decrypt(wrapped.ciphertext, wrapped.key_id, wrapped.annotations, "after") == DEK
            assert (await client.encrypt(DEK, "after")).key_id == wrapped.key_id
            await stage.start_key_servers()
        await stage.plugin(announces=False).start()
        await stage.refuses("Unavailable", "key-servers-unavailable")


async def _healthy(stage: KmsStage) -> bool:
    return not await stage.status_error()
