"""Facts are published once even when the bus has long forgotten their message ids."""

import pytest
from support.relay import CLUSTER, RelayStage

from daas.common import subjects
from daas.common.bus import Bus, BusSettings
from daas.common.messages import ChainStakeChanged
from daas.common.subjects import Service, Stream
from daas.relay.facts import Facts

pytestmark = [pytest.mark.connected, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

FACT = ChainStakeChanged(
    registry="0x" + "11" * 32,
    tx_digest="tx",
    event_index=0,
    checkpoint=1,
    timestamp_ms=1,
    simulated=True,
    account="0x" + "22" * 32,
    change="deposited",
    amount_mist=1,
    bonded_mist=1,
    unbonding_mist=0,
)


async def test_what_stands_in_the_stream_after_the_stored_position_is_not_published_again(stage: RelayStage) -> None:
    settings = BusSettings(nats_url=stage.nats.url, cluster=CLUSTER)
    async with await Bus.connect(Service.RELAY, settings) as bus:

        async def publish(facts: Facts, name: str) -> bool:
            return await facts.publish(subjects.CHAIN_STAKE_CHANGED, FACT, message_id=name, time_ms=1)

        before_crash = Facts(bus)
        await before_crash.read_back({})
        assert await publish(before_crash, "one")
        stored = dict(before_crash.positions)
        assert await publish(before_crash, "two")

        after = Facts(bus)
        await after.read_back(stored)
        assert not await publish(after, "two")
        assert await publish(after, "three")
        assert after.positions[Stream.CHAIN.value] > stored[Stream.CHAIN.value]
        # Once all that was read back is behind, ids are the bus's business again.
        after.forget()
        assert await publish(after, "four")
