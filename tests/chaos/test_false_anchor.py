"""Whoever has the relay's place on the bus can announce an anchor that is not there; nothing is bound by it."""

from pathlib import Path

import pytest
from support.cluster import create_namespace, create_nodes, create_pods, list_pods, node, pod, wait_for_pods
from support.facts import bus_of, dead_letters, kube_of, placement_facts, running
from support.relay import until

from daas.common import subjects
from daas.common.facts import fact_of
from daas.common.messages import EnclaveRegistered, PlacementAnchored
from daas.common.subjects import Service, Stream

pytestmark = [pytest.mark.connected, pytest.mark.timeout(300)]


async def test_a_genuine_decision_is_not_bound_on_the_word_of_the_bus_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as stack, kube_of(stack) as client:
        await create_nodes(client, [node("node-0")])
        await create_namespace(client, "false")
        await create_pods(client, [pod("first", "false")])
        await wait_for_pods(client, "false", lambda seen: all(p.spec.node_name for p in seen), timeout_s=120)
        await stack.kill("relay")
        await create_pods(client, [pod("second", "false")])
        before = len((await placement_facts(stack)).anchored)

        async def decided() -> bool:
            return len((await placement_facts(stack)).decided) > before

        await until(decided, "the pod is decided")
        decision = (await placement_facts(stack)).decided[-1]
        async with bus_of(stack, Service.RELAY) as relay:
            stored = await relay.last(subjects.PLACEMENT_DECIDED)
            registered = await relay.last(subjects.ENCLAVE_REGISTERED)
            assert stored is not None
            assert registered is not None
            genuine = fact_of(registered, subjects.ENCLAVE_REGISTERED, EnclaveRegistered)
            false = PlacementAnchored(
                sequence=decision.header.sequence,
                payload_digest=decision.payload_digest,
                public_key=decision.public_key,
                decided_sequence=stored.sequence,
                tx_digest=genuine.tx_digest,
                checkpoint=None,
                timestamp_ms=decision.timestamp_ms,
                simulated=True,
            )
            sent = await relay.publish(subjects.PLACEMENT_ANCHORED, false, message_id="false-anchor")

        async def refused() -> bool:
            letters = await dead_letters(stack)
            return (Stream.PLACEMENT.value, sent, "not-anchored") in {
                (letter.stream, letter.stream_sequence, letter.reason) for letter in letters
            }

        await until(refused, "the announcement is a dead letter")
        unbound = [p.metadata.name for p in await list_pods(client, "false") if not p.spec.node_name]
        assert unbound == ["second"]

        await stack.start_service("relay")
        await wait_for_pods(client, "false", lambda seen: all(p.spec.node_name for p in seen), timeout_s=90)
