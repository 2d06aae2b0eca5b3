"""The relay is kept from anchoring: the enclave's receipt proves that the pod's decision is being kept back."""

import asyncio
import time
from pathlib import Path

import msgspec
import pytest
from support.cluster import create_namespace, create_nodes, create_pods, node, pod, wait_for_pods
from support.facts import kube_of, running

from daas.cli.arrival import check_arrival, collect_arrival
from daas.cli.context import Context
from daas.common.errors import NotFound
from daas.evidence import Report
from daas.evidence.checks import PodName

pytestmark = [pytest.mark.connected, pytest.mark.timeout(300)]

NAMESPACE = "kept"


async def arrived(context: Context, name: PodName, file: Path) -> None:
    """Waits until a receipt covers the pod, and keeps the file."""
    deadline = time.monotonic() + 100
    while True:
        try:
            data = await collect_arrival(context, name)
        except NotFound:
            assert time.monotonic() < deadline, "no receipt covers the pod"
            await asyncio.sleep(0.1)
        else:
            await asyncio.to_thread(file.write_bytes, data)
            return


def verdict(report: Report) -> tuple[tuple[str, ...], str]:
    return report.failed, report.checks[-1].compared


async def test_a_withheld_decision_is_proved_by_the_receipt_and_cleared_by_the_anchor(tmp_path: Path) -> None:
    async with running(tmp_path) as stack, kube_of(stack) as client:
        context = msgspec.convert(stack.context(), Context)
        await create_nodes(client, [node("node-1")])
        await create_namespace(client, NAMESPACE)
        await create_pods(client, [pod("before", NAMESPACE)])
        await wait_for_pods(client, NAMESPACE, lambda seen: all(p.spec.node_name for p in seen), timeout_s=120)
        await stack.kill("relay")
        await create_pods(client, [pod("kept", NAMESPACE)])
        name, file = PodName(NAMESPACE, "kept"), tmp_path / "arrival.json"
        await arrived(context, name, file)

        patient = await check_arrival(context, name, file=file, bound_ms=3_600_000)
        assert patient.ok, patient
        assert "still in time" in verdict(patient)[1]
        failed, text = verdict(await check_arrival(context, name, file=file, bound_ms=1))
        assert failed == ("in time",)
        assert "WITHHELD" in text

        await stack.start_service("relay")
        await wait_for_pods(client, NAMESPACE, lambda seen: all(p.spec.node_name for p in seen), timeout_s=120)
        assert (await check_arrival(context, name, file=file, bound_ms=1)).ok, "the same file, now that it is anchored"
