"""An announced anchor counts where the ledger holds it: this batch, in this registry, in a good transaction."""

from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from support.full_node import FullNode
from support.relay import Enclave, RelayStage, relay_stage

from daas.common.errors import ConfigurationError, NotFound, Refused, Unavailable
from daas.common.messages import PlacementAnchored
from daas.gateway.settings import GatewaySettings
from daas.gateway.webhooks.enclaves import EnclaveKeys
from daas.gateway.witness import LedgerWitness
from daas.ledger import Ledger, MoveAbortError, SignedBatch

pytestmark = [pytest.mark.connected, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RelayStage]:
    async with relay_stage(tmp_path_factory.mktemp("witness")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def anchored(stage: RelayStage) -> list[PlacementAnchored]:
    """Three anchors as the relay announces them."""
    enclave = await stage.enclave()
    for decided in enclave.chain(3, 1, "00" * 32):
        await stage.publish(decided)
    return await stage.wait_anchored(3)


def witness(stage: RelayStage, url: str | None = None, registry: str | None = None) -> LedgerWitness:
    async def connect() -> Ledger:
        return await Ledger.connect(url or stage.ledger_url, package=stage.package)

    return LedgerWitness(connect, registry or stage.registry.address, CollectorRegistry())


async def test_a_key_that_facts_call_registered_signs_only_where_the_ledger_has_it_too(
    stage: RelayStage, anchored: list[PlacementAnchored]
) -> None:
    async def connect() -> Ledger:
        return await Ledger.connect(stage.ledger_url, package=stage.package)

    real = (await stage.registrations())[-1]
    forged = msgspec.structs.replace(real, public_key="ab" * 32)
    keys = EnclaveKeys(CollectorRegistry(), clock_ms=lambda: real.registered_ms, clock_s=lambda: 0.0, connect=connect)
    keys._complete.set()
    for fact in (real, forged):
        keys.fold(fact)
    await keys.check(real.public_key, real.registry)
    with pytest.raises(Refused, match="the ledger says"):
        await keys.check(forged.public_key, forged.registry)
    nowhere = msgspec.structs.replace(forged, enclave="0x" + "cd" * 32)
    keys.fold(nowhere)
    with pytest.raises(Refused, match="the ledger"):
        await keys.check(nowhere.public_key, nowhere.registry)
    await keys.close()


async def test_what_the_relay_anchored_is_on_the_ledger(stage: RelayStage, anchored: list[PlacementAnchored]) -> None:
    looks = witness(stage)
    for fact in (*anchored, *anchored):
        await looks.check(fact)
    await looks.close()


async def test_another_batch_number_registry_or_transaction_is_refused(
    stage: RelayStage, anchored: list[PlacementAnchored]
) -> None:
    operator = await stage.as_operator()
    deposit = await operator.staking.deposit(stage.registry.address, 1)
    one, two, _ = anchored
    for false in (
        msgspec.structs.replace(one, payload_digest=two.payload_digest),
        msgspec.structs.replace(one, sequence=2),
        msgspec.structs.replace(one, tx_digest=deposit.digest),
    ):
        looks = witness(stage)
        with pytest.raises(Refused) as refused:
            await looks.check(false)
        assert refused.value.reason == "not-anchored"
        await looks.close()
    elsewhere = witness(stage, registry="0x" + "ab" * 32)
    with pytest.raises(Refused):
        await elsewhere.check(one)
    await elsewhere.close()


async def test_a_transaction_that_failed_has_anchored_nothing(
    stage: RelayStage, anchored: list[PlacementAnchored]
) -> None:
    enclave = Enclave(stage)
    decided = enclave.decide(4, anchored[-1].payload_digest)
    operator = await stage.as_operator()
    batch = SignedBatch(
        header=decided.header,
        timestamp_ms=decided.timestamp_ms,
        signature=bytes(64),
        enclave=(await stage.registrations())[-1].enclave,
    )
    with pytest.raises(MoveAbortError) as failed:
        await operator.submit(await operator.build_anchor(batch))
    effects = failed.value.effects
    assert effects is not None
    looks = witness(stage)
    false = msgspec.structs.replace(
        anchored[-1], sequence=4, payload_digest=decided.payload_digest, tx_digest=effects.digest
    )
    with pytest.raises(Refused) as refused:
        await looks.check(false)
    assert refused.value.reason == "not-anchored"
    await looks.close()


async def test_what_nobody_knows_and_nobody_answering_are_reasons_to_ask_again(
    stage: RelayStage, anchored: list[PlacementAnchored]
) -> None:
    async with FullNode(stage.ledger_url) as node:
        looks = witness(stage, node.url)
        with pytest.raises(NotFound) as unknown:
            await looks.check(msgspec.structs.replace(anchored[0], tx_digest="4" * 43))
        assert unknown.value.reason == "anchor-not-seen"
        node.away = True
        with pytest.raises(Unavailable):
            await looks.check(anchored[0])
        node.away = False
        await looks.check(anchored[0])
        await looks.close()


async def test_a_ledger_without_registry_is_no_setting() -> None:
    with pytest.raises(ConfigurationError) as refused:
        GatewaySettings.model_validate({"nats_url": "nats://127.0.0.1:1", "gateway_ledger_url": "http://127.0.0.1:1"})
    assert refused.value.reason == "contradictory-settings"
