"""Keys of short life: each is replaced before its registration ends, and the chain of decisions knows no gap."""

import asyncio
import time
from pathlib import Path

import pytest
from support.cluster import create_namespace, create_nodes, create_pods, node, pod, wait_for_pods
from support.facts import assert_chain_is_whole, assert_every_bind_was_anchored_first, kube_of, placement_facts, running

from daas.ledger import Ledger, Limits, Signer

pytestmark = [pytest.mark.connected, pytest.mark.timeout(300)]

NAMESPACE = "rotation"
KEYS = 2


@pytest.mark.parametrize(
    ("life_ms", "grace_ms"),
    [
        # Renewed at two thirds of its life: two keys take some ten seconds.
        pytest.param(9_000, "120000", id="ended-by-time"),
        pytest.param(24_000, "3000", id="ended-by-the-relay", marks=pytest.mark.soak),
    ],
)
async def test_keys_are_replaced_while_pods_come_in_and_no_decision_is_lost(
    tmp_path: Path, life_ms: int, grace_ms: str
) -> None:
    async with running(tmp_path, DAAS_RELAY_RETIRE_REPLACED_MS=grace_ms) as stack, kube_of(stack) as client:
        assert stack.deployment is not None
        context = stack.context()
        signer = Signer.from_file(stack.state_dir / "operator.key")
        async with await Ledger.connect(context["ledger_url"], signer, package=context["package"]) as ledger:
            await ledger.set_limits(stack.deployment.registry, Limits(registration_ttl_ms=life_ms))
        await stack.kill("enclave")
        await stack.start_service("enclave")
        await create_nodes(client, [node(f"node-{n}") for n in range(5)])
        await create_namespace(client, NAMESPACE)
        deadline = time.monotonic() + 150
        made, signers = 0, set[str]()
        while len(signers) < KEYS:
            assert time.monotonic() < deadline, f"{len(signers)} keys have signed"
            await create_pods(client, [pod(f"p-{made + n}", NAMESPACE, cpu="1m", memory="1Mi") for n in range(3)])
            made += 3
            await wait_for_pods(client, NAMESPACE, lambda seen: all(p.spec.node_name for p in seen), timeout_s=90)
            signers = {anchor.public_key for anchor in (await placement_facts(stack)).anchored}
            await asyncio.sleep(0.3)
        facts = await placement_facts(stack, bound=made)
        await assert_chain_is_whole(stack, facts)

    assert_every_bind_was_anchored_first(facts)
    assert len(facts.bound) == made
    assert not facts.refused, "no decision was signed by a key that was over"
