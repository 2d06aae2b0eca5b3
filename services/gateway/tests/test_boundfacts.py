"""Telling what was bound: many pods in one message, and each exactly once whoever else tells."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from daas.common.bus import Bus, BusSettings
from daas.common.errors import Conflict, Unavailable
from daas.common.messages import BoundPod, PlacementAnchored, PlacementBound, PodBound, decode
from daas.common.subjects import PLACEMENT_ANCHORED, PLACEMENT_BOUND, Service, Stream
from daas.devstack.nats import NatsServer
from daas.gateway.boundfacts import BoundFacts, Telling

pytestmark = pytest.mark.connected


def pod(index: int) -> BoundPod:
    return BoundPod(
        pod_uid=f"u{index}", namespace="default", name=f"p{index}", node="n1", index=index, created_ms=1, bound_ms=2
    )


class Told:
    """The bus of two gateways, and what stands on it."""

    def __init__(self, one: Bus, two: Bus, relay: Bus, make: Any) -> None:
        self.one, self.two, self.relay = one, two, relay
        self._make = make

    async def anchored(self, sequence: int) -> tuple[PlacementAnchored, int]:
        decided, anchor = self._make
        fact = anchor(decided(sequence, [("u", "p", "n1")]), 1)
        return fact, await self.relay.publish(PLACEMENT_ANCHORED, fact, message_id=f"anchored/{sequence}")

    async def facts(self) -> list[PlacementBound]:
        _, last = await self.relay.stream_bounds(Stream.PLACEMENT)
        found = []
        async with aclosing(self.relay.read(Stream.PLACEMENT)) as messages:
            async for message in messages:
                if message.subject.endswith(PLACEMENT_BOUND.name):
                    found.append(decode(message.data, PlacementBound))
                if message.sequence >= last:
                    break
        return found

    async def pods(self) -> list[PodBound]:
        return [one for fact in await self.facts() for one in fact.each()]


@pytest.fixture
async def told(tmp_path: Path, decide: Any, anchor: Any) -> AsyncIterator[Told]:
    async with NatsServer(tmp_path / "nats") as nats:
        settings = BusSettings(nats_url=nats.url, cluster="test")
        async with (
            Bus(Service.GATEWAY, settings) as one,
            Bus(Service.GATEWAY, settings) as two,
            Bus(Service.RELAY, settings) as relay,
        ):
            await relay.declare()
            yield Told(one, two, relay, (decide, anchor))


async def begin(facts: BoundFacts, anchored: PlacementAnchored, since: int, stored: list[int]) -> Telling:
    return await facts.telling(anchored, since, decided_ms=1, simulated=True, stored=stored.append)


async def test_a_fact_is_stored_only_behind_the_one_that_its_teller_knows(told: Told) -> None:
    first = await told.one.publish(PLACEMENT_BOUND, b"1", message_id="1", after=0)
    with pytest.raises(Conflict) as refused:
        await told.two.publish(PLACEMENT_BOUND, b"2", message_id="2", after=0)
    assert refused.value.reason == "not-after"
    assert await told.two.publish(PLACEMENT_BOUND, b"2", message_id="2", after=first) > first


async def test_pods_that_are_bound_together_come_in_one_fact(told: Told) -> None:
    anchored, since = await told.anchored(1)
    facts, stored = BoundFacts(lambda: told.one), list[int]()
    telling = await begin(facts, anchored, since, stored)
    for index in range(100):
        telling.add(pod(index), now=True)
    await telling.finish()
    (fact,) = await told.facts()
    assert [one.index for one in fact.pods] == list(range(100)) == stored
    assert (fact.sequence, fact.payload_digest, fact.simulated) == (1, anchored.payload_digest, True)
    assert {one.tx_digest for one in fact.each()} == {anchored.tx_digest}


async def test_a_pod_does_not_wait_for_the_last_of_its_decision(told: Told, until: Any) -> None:
    anchored, since = await told.anchored(1)
    facts, stored = BoundFacts(lambda: told.one), list[int]()
    telling = await begin(facts, anchored, since, stored)
    telling.add(pod(0), now=True)
    await until(lambda: stored, "not told")
    telling.add(pod(1), now=True)
    await telling.finish()
    assert [[one.index for one in fact.pods] for fact in await told.facts()] == [[0], [1]]


async def test_after_a_kill_what_was_told_is_not_told_again(told: Told) -> None:
    """The second sees pods on their nodes that it did not bind: some were told before the kill, some were not."""
    anchored, since = await told.anchored(1)
    before = await begin(BoundFacts(lambda: told.one), anchored, since, [])
    for index in range(0, 10, 2):
        before.add(pod(index), now=True)
    await before.finish()
    stored: list[int] = []
    after = await begin(BoundFacts(lambda: told.two), anchored, since, stored)
    for index in range(10):
        after.add(pod(index), now=index > 7)
    await after.finish()
    assert sorted(one.index for one in await told.pods()) == list(range(10))
    assert stored == list(range(10))


async def test_two_that_tell_the_same_at_once_tell_it_once(told: Told) -> None:
    """Both lead, as each believes: whoever comes second reads first what the other has told."""
    decisions = [await told.anchored(sequence) for sequence in range(1, 5)]
    tellers = (BoundFacts(lambda: told.one), BoundFacts(lambda: told.two))

    async def tell(facts: BoundFacts, anchored: PlacementAnchored, since: int) -> None:
        telling = await begin(facts, anchored, since, [])
        for index in range(40):
            telling.add(pod(index), now=facts is tellers[index % 2])
            if index % 10 == 0:
                telling._send()
        await telling.finish()
        facts.end(telling)

    await asyncio.gather(*(tell(facts, *one) for one in decisions for facts in tellers))
    pods = await told.pods()
    assert sorted((one.sequence, one.index) for one in pods) == [(n, i) for n in range(1, 5) for i in range(40)]


async def test_what_could_not_be_stored_is_told_by_whoever_finishes(
    memory_facts: Any, decide: Any, anchor: Any
) -> None:
    anchored, stored = anchor(decide(1, [("u", "p", "n1")]), 1), list[int]()
    telling = await begin(BoundFacts(lambda: memory_facts), anchored, 1, stored)
    memory_facts.refusals = 1
    telling.add(pod(0), now=True)
    with pytest.raises(Unavailable):
        await telling.finish()
    assert not stored
