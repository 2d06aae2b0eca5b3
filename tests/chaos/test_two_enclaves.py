"""Two enclaves fold one log: one publishes, the other stands by and takes over; the chain stays single."""

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest
from support.cluster import create_namespace, create_nodes, create_pods, node, pod, wait_for_pods
from support.facts import assert_chain_is_whole, assert_every_bind_was_anchored_first, kube_of, placement_facts, running

from daas.devstack.stack import Stack

pytestmark = [pytest.mark.connected, pytest.mark.timeout(240)]

NAMESPACE = "pair"


async def roles(stack: Stack) -> dict[str, str]:
    """What each enclave says it is."""
    found = {}
    async with aiohttp.ClientSession() as session:
        for name in ("enclave", "enclave-2"):
            if stack.processes[name].running:
                async with session.get(stack.context()["services"][name] + "/status") as answer:
                    found[name] = (await answer.json())["role"]
    return found


async def wait_for_roles(stack: Stack, wanted: list[str]) -> dict[str, str]:
    deadline = time.monotonic() + 100
    while sorted((found := await roles(stack)).values()) != sorted(wanted):
        assert time.monotonic() < deadline, f"the roles are {found}, expected {wanted}"
        await asyncio.sleep(0.1)
    return found


async def test_of_two_enclaves_one_is_active_and_the_other_takes_over_when_it_dies(tmp_path: Path) -> None:
    async with running(tmp_path, enclaves=2) as stack, kube_of(stack) as client:
        await create_nodes(client, [node(f"node-{n}") for n in range(10)])
        await create_namespace(client, NAMESPACE)
        await create_pods(client, [pod(f"first-{n}", NAMESPACE) for n in range(100)])
        await wait_for_pods(client, NAMESPACE, lambda seen: all(p.spec.node_name for p in seen), timeout_s=120)
        found = await wait_for_roles(stack, ["active", "standby"])

        active = next(name for name, role in found.items() if role == "active")
        await stack.kill(active)
        await create_pods(client, [pod(f"second-{n}", NAMESPACE) for n in range(100)])
        await wait_for_pods(
            client, NAMESPACE, lambda seen: len(seen) == 200 and all(p.spec.node_name for p in seen), timeout_s=120
        )
        await wait_for_roles(stack, ["active"])

        await stack.start_service(active)
        await create_pods(client, [pod(f"third-{n}", NAMESPACE) for n in range(100)])
        await wait_for_pods(
            client, NAMESPACE, lambda seen: len(seen) == 300 and all(p.spec.node_name for p in seen), timeout_s=120
        )
        found = await wait_for_roles(stack, ["active", "standby"])
        facts = await placement_facts(stack, bound=300)
        await assert_chain_is_whole(stack, facts)

    assert found[active] == "standby"
    assert_every_bind_was_anchored_first(facts)
    assert len(facts.bound) == 300
    assert len({anchor.public_key for anchor in facts.anchored}) == 2
