"""An API server that is overloaded, loses answers, cuts watches and forgets its history changes nothing but latency."""

import asyncio
from pathlib import Path

import pytest
from support.cluster import create_namespace, create_nodes, create_pods, list_pods, node, pod, wait_for_pods
from support.facts import Facts, assert_chain_is_whole, assert_every_bind_was_anchored_first, kube_of, placement_facts
from support.unruly_api import Moods, UnrulyApiServer

from daas.devstack.stack import Stack
from daas.kube.client import KubeClient
from daas.placement import Policy

NAMESPACE = "unruly"
SETTLE_S = 900.0
#: Events that the server's watch history reaches back after its restart: far fewer than the pods make.
HISTORY = 20


async def _all_told(stack: Stack, pods: int) -> Facts:
    """The facts, once there is one of every bound pod."""
    async with asyncio.timeout(SETTLE_S):
        while True:
            facts = await placement_facts(stack)
            if len(facts.bound) >= pods:
                return facts
            await asyncio.sleep(0.2)


async def _bound(client: KubeClient, count: int) -> None:
    await wait_for_pods(
        client, NAMESPACE, lambda seen: sum(1 for p in seen if p.spec.node_name) >= count, timeout_s=SETTLE_S
    )


async def _run(state: Path, *, pods: int, restarts: int, seed: int) -> None:
    parts: dict[str, Stack] = {}
    proxy = UnrulyApiServer(
        state / "proxy", state / "stack" / "apiserver", lambda: str(parts["stack"].ready("apiserver", "url")), seed
    )
    async with proxy:
        stack = parts["stack"] = Stack(
            state / "stack",
            policy=Policy().digest(),
            environment={"DAAS_GATEWAY_KUBECONFIG": str(proxy.kubeconfig)},
        )
        async with stack:
            async with kube_of(stack) as client:
                await create_nodes(client, [node(f"node-{n}") for n in range(10)])
                await create_namespace(client, NAMESPACE)
            proxy.moods = Moods(overloaded=0.1, failed=0.05, refused=0.03, unanswered=0.05, watch_s=3.0)
            share = pods // (restarts + 1)
            for turn in range(restarts + 1):
                async with kube_of(stack) as client:
                    await create_pods(client, [pod(f"pod-{turn}-{n}", NAMESPACE) for n in range(share)])
                    if turn == restarts:
                        break
                    await _bound(client, turn * share + share // 3)
                await stack.kill("apiserver")
                await asyncio.sleep(0.5)
                await stack.start_apiserver("--history", str(HISTORY))
            async with kube_of(stack) as client:
                await _bound(client, share * (restarts + 1))
                final = await list_pods(client, NAMESPACE)
            proxy.moods = Moods()

            facts = await _all_told(stack, len(final))
            await assert_chain_is_whole(stack, facts)
    assert len(final) == share * (restarts + 1)
    assert {b.pod_uid: b.node for b in facts.bound} == {p.metadata.uid: p.spec.node_name for p in final}
    assert_every_bind_was_anchored_first(facts)
    # A server that overloads one in ten requests is given few at a time: what it can't take in time is decided again.
    assert {one.reason for one in facts.bind_failed} <= {"expired"}
    assert not facts.refused
    assert {"overloaded", "failed", "refused", "unanswered", "watch cut", "away"} <= set(proxy.injected)


@pytest.mark.connected
@pytest.mark.timeout(300)
async def test_a_rude_api_server_that_restarts_with_compacted_history_delays_pods_and_nothing_else(
    tmp_path: Path,
) -> None:
    await _run(tmp_path, pods=240, restarts=1, seed=11)


@pytest.mark.soak
@pytest.mark.connected
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_two_thousand_pods_through_four_restarts(tmp_path: Path, seed: int) -> None:
    await _run(tmp_path, pods=2_000, restarts=4, seed=seed)
