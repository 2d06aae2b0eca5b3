"""One pod's way through all services as one trace: every process sends its spans to a collector, which joins them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.cluster import create_namespace, create_nodes, create_pods, node, pod, wait_for_pods
from support.facts import kube_of, running

from daas.cli.context import Context
from daas.cli.trace import steps_of
from daas.evidence.checks import PodName

pytestmark = [pytest.mark.connected, pytest.mark.timeout(300)]

NAMESPACE = "traced"


@dataclass(frozen=True)
class Span:
    service: str
    name: str
    trace: str
    span: str
    parent: str
    attributes: dict[str, str]


class Collector:
    """An OTLP/HTTP collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    async def take(self, request: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for of_service in sent.resource_spans:
            resource = {a.key: a.value.string_value for a in of_service.resource.attributes}
            for scope in of_service.scope_spans:
                self.spans += [
                    Span(
                        resource["service.name"],
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        {a.key: a.value.string_value for a in span.attributes},
                    )
                    for span in scope.spans
                ]
        return web.Response(body=b"", content_type="application/x-protobuf")


@asynccontextmanager
async def collecting() -> AsyncIterator[tuple[Collector, str]]:
    collector = Collector()
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield collector, f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    finally:
        await runner.cleanup()


def trace_of(spans: list[Span], name: str) -> list[Span]:
    """All spans of the trace in which the pod was bound."""
    bound = [s for s in spans if s.name == "bind" and s.attributes["pod.name"] == name]
    return [s for s in spans if bound and s.trace == bound[-1].trace]


WANTED = {
    ("gateway", "append"),
    ("gateway", "publish log.cluster"),
    ("relay", "handle placement.decided"),
    ("relay", "anchor"),
    ("relay", "publish placement.anchored"),
    ("gateway", "handle placement.anchored"),
    ("gateway", "bind"),
    ("gateway", "publish placement.bound"),
    ("storage", "handle placement.anchored"),
    ("storage", "store evidence"),
    ("storage", "publish storage.stored"),
}


async def test_a_pods_way_from_the_log_to_the_evidence_is_one_trace(tmp_path: Path) -> None:
    async with (
        collecting() as (collector, url),
        running(tmp_path, DAAS_TRACE_OTLP_URL=url) as stack,
        kube_of(stack) as client,
    ):
        await create_nodes(client, [node("node-1")])
        await create_namespace(client, NAMESPACE)
        await create_pods(client, [pod("seen", NAMESPACE)])
        await wait_for_pods(client, NAMESPACE, lambda seen: all(p.spec.node_name for p in seen), timeout_s=120)
        deadline = time.monotonic() + 100
        while not {(s.service, s.name) for s in trace_of(collector.spans, "seen")} >= WANTED:
            assert time.monotonic() < deadline, sorted({(s.service, s.name) for s in collector.spans})
            await asyncio.sleep(0.1)
        spans = trace_of(collector.spans, "seen")
        steps = await steps_of(msgspec.convert(stack.context(), Context), PodName(NAMESPACE, "seen"))

    ids = {span.span for span in spans}
    roots = [span for span in spans if span.parent not in ids]
    assert [(root.service, root.name, root.parent) for root in roots] == [("gateway", "append", "")], "one tree"
    assert not [span for span in collector.spans if span.service == "enclave"], "it exports nothing, and carries on"
    assert [step.subject for step in steps] == [
        "log.cluster",
        "placement.decided",
        "placement.anchored",
        "placement.bound",
        "storage.stored",
    ]
    assert {step.trace_id for step in steps} == {spans[0].trace}
