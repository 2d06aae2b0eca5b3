"""`daas trace pod`: one pod's way through the services, from the messages on the bus. Needs no collector."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
import typer
from rich.table import Table

from daas.cli.context import Context, load_context
from daas.cli.report import Format
from daas.cli.terminal import console
from daas.cli.verify import evidence_store
from daas.common import envelope, subjects
from daas.common.bus import Bus, BusSettings, StoredMessage
from daas.common.errors import NotFound
from daas.common.facts import fact_of
from daas.common.messages import PlacementAnchored, PlacementBound, StorageStored
from daas.common.subjects import Service, Stream
from daas.evidence import EvidenceBundle
from daas.evidence.arrival import brings
from daas.evidence.checks import PodName

trace_app = typer.Typer(help="One object's way through the services.", no_args_is_help=True)

#: The fact of the evidence is looked for among the newest ones.
_STORED_MAX: Final = 20_000


@dataclass(frozen=True, slots=True)
class Step:
    """One message about the pod.

    Attributes:
        subject: what it says.
        service: who said it.
        time_ms: when its stream had it.
        sequence: where it stands there.
        trace_id: of the trace that it belongs to; empty where it has none.
    """

    subject: str
    service: str
    time_ms: int
    sequence: int
    trace_id: str


def _step(name: str, stored: StoredMessage) -> Step:
    place = envelope.parse_traceparent(stored.headers.get(envelope.TRACEPARENT))
    service = stored.headers.get(envelope.CE_SOURCE, "?")
    return Step(name, service, stored.time_ms, stored.sequence, place.trace_id if place is not None else "")


async def steps_of(context: Context, pod: PodName) -> list[Step]:
    """The messages about the newest anchored decision on a pod, as they came; what is not there (yet) is left out.

    Raises:
        NotFound: `no-evidence`, or the bus has removed the messages by age.
    """
    settings = BusSettings(nats_url=context.nats_url, cluster=context.cluster)
    async with evidence_store(context) as store, await Bus.connect(Service.CLI, settings) as bus:
        decision = await store.newest_decision(pod.namespace, pod.name, pod.uid)
        bundle = await store.bundle(decision.sequence)
        steps = [
            _step("log.cluster", await bus.fetch(Stream.LOG, _entry(bundle, pod))),
            _step("placement.decided", await bus.fetch(Stream.PLACEMENT, bundle.anchored.decided_sequence)),
        ]
        steps += await _placement(bus, bundle.anchored, decision.uid, wants_bound=decision.node is not None)
        steps += await _stored(bus, decision.sequence)
    return steps


def _entry(bundle: EvidenceBundle, pod: PodName) -> int:
    """The entry that brought the pod; the one that was answered, where an earlier one had brought it."""
    found = [entry.sequence for entry in bundle.log if brings(entry.data, pod)]
    return found[-1] if found else bundle.decision().header.log_sequence


async def _placement(bus: Bus, anchored: PlacementAnchored, uid: str, *, wants_bound: bool) -> list[Step]:
    rows = (subjects.PLACEMENT_ANCHORED, subjects.PLACEMENT_BOUND)
    _, last = await bus.stream_bounds(Stream.PLACEMENT)
    found: dict[str, Step] = {}
    async for stored in bus.read(Stream.PLACEMENT, start=anchored.decided_sequence, subjects=rows):
        if stored.subject.endswith(subjects.PLACEMENT_ANCHORED.name):
            fact = fact_of(stored, subjects.PLACEMENT_ANCHORED, PlacementAnchored)
            if fact.sequence == anchored.sequence:
                found.setdefault("placement.anchored", _step("placement.anchored", stored))
        else:
            bound = fact_of(stored, subjects.PLACEMENT_BOUND, PlacementBound)
            if bound.sequence == anchored.sequence and uid in {pod.pod_uid for pod in bound.pods}:
                found.setdefault("placement.bound", _step("placement.bound", stored))
        if len(found) == 1 + wants_bound or stored.sequence >= last:
            break
    return sorted(found.values(), key=lambda step: step.sequence)


async def _stored(bus: Bus, sequence: int) -> list[Step]:
    first, last = await bus.stream_bounds(Stream.STORAGE)
    if last < max(first, 1):
        return []
    async for stored in bus.read(Stream.STORAGE, start=max(first, last - _STORED_MAX, 1)):
        fact = fact_of(stored, subjects.STORAGE_STORED, StorageStored)
        if (fact.kind, fact.sequence) == ("evidence", sequence):
            return [_step("storage.stored", stored)]
        if stored.sequence >= last:
            break
    return []


@trace_app.command("pod")
def trace_pod(
    namespace: Annotated[str, typer.Argument(help="namespace of the pod")],
    name: Annotated[str, typer.Argument(help="name of the pod")],
    *,
    output: Annotated[Format, typer.Option("--output", "-o", help="how to print")] = Format.TEXT,
) -> None:
    """Shows when each service said what about a pod, and the trace to look for in the collector."""
    try:
        steps = asyncio.run(steps_of(load_context(), PodName(namespace, name)))
    except NotFound as error:
        console.print(f"pod {namespace}/{name}: {error.message}", soft_wrap=True)
        raise typer.Exit(1) from None
    if output is Format.JSON:
        console.file.write(msgspec.json.format(msgspec.json.encode(steps), indent=2).decode() + "\n")
        return
    traces = sorted({step.trace_id for step in steps if step.trace_id})
    table = Table("after", "message", "by", "stream sequence", "at", title=f"pod {namespace}/{name}")
    for step in steps:
        at = datetime.fromtimestamp(step.time_ms / 1000, UTC).isoformat(timespec="milliseconds")
        table.add_row(f"{step.time_ms - steps[0].time_ms} ms", step.subject, step.service, str(step.sequence), at)
    console.print(table)
    console.print("trace", *traces, soft_wrap=True)
