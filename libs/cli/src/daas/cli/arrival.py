"""`daas evidence arrival` and `daas verify arrival`: was a pod that had arrived decided and anchored in time?"""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from daas.cli.anchors import LedgerAnchors, NoAnchors
from daas.cli.context import Context
from daas.cli.report import Format, print_report
from daas.cli.terminal import console
from daas.cli.verify import (
    Evidence,
    Offline,
    Output,
    Uid,
    anchor_source,
    command_context,
    evidence_app,
    evidence_store,
    now_ms,
    read_evidence,
    trust_of,
    verify_app,
)
from daas.common import subjects
from daas.common.bus import Bus, BusSettings
from daas.common.clusterlog import entry_of
from daas.common.errors import NotFound
from daas.common.facts import fact_of, newest
from daas.common.messages import EnclaveAttested, EnclaveRegistered, Header, PlacementReceived, encode
from daas.common.subjects import Service, Stream
from daas.evidence import EvidenceStore, RawEntry, Report, Snapshot
from daas.evidence.arrival import ArrivalCase, HeadSource, brings, encode_arrival, verify_arrival
from daas.evidence.bundle import document_bytes
from daas.evidence.checks import PodName
from daas.evidence.vouching import document_for

#: Longer than a slow ledger takes: decisions are anchored within a second or two, and expire after half a minute.
BOUND_MS = 60_000

Bound = Annotated[int, typer.Option("--bound-ms", min=1, help="how long a decision may take to the ledger")]


async def collect_arrival(context: Context, pod: PodName) -> bytes:
    """The file with everything about a pod's arrival, from the bus and the cluster's store.

    Raises:
        NotFound: `no-receipt`, `no-arrival`, or the key under the receipt is unknown on the bus.
    """
    settings = BusSettings(nats_url=context.nats_url, cluster=context.cluster)
    async with await Bus.connect(Service.CLI, settings) as bus, evidence_store(context) as store:
        found = await newest(bus, subjects.PLACEMENT_RECEIVED, PlacementReceived)
        if found is None:
            raise NotFound("no receipt is on the bus", reason="no-receipt")
        receipt, _ = found
        document, registered = await _vouching(bus, receipt.public_key)
        start, snapshot, entries = await _before_arrival(bus, store, receipt.log_sequence, pod)
    return encode_arrival(
        ArrivalCase(
            cluster=context.cluster,
            receipt=encode(receipt),
            document=document,
            registered=registered,
            start=start,
            snapshot=snapshot,
            log=tuple(entries),
        )
    )


async def _before_arrival(
    bus: Bus, store: EvidenceStore, last: int, pod: PodName
) -> tuple[Header | None, Snapshot | None, list[RawEntry]]:
    """The newest stored state before the pod came, or the beginning of everything, and the entries since."""
    for sequence in reversed(await store.snapshots()):
        header = await store.header(sequence)
        entries = await entries_between(bus, header.log_sequence + 1, last)
        if any(brings(entry.data, pod) for entry in entries):
            return header, await store.snapshot(sequence), entries
    entries = await entries_between(bus, 1, last)
    if any(brings(entry.data, pod) for entry in entries):
        return None, None, entries
    raise NotFound(f"pod {pod} is not in the log under the newest receipt", reason="no-arrival")


async def entries_between(bus: Bus, first: int, last: int) -> list[RawEntry]:
    """Log entries as they are folded, both ends included."""
    entries: list[RawEntry] = []
    if first > last:
        return entries
    async for stored in bus.read(Stream.LOG, start=first):
        entries.append(RawEntry(sequence=stored.sequence, data=entry_of(stored)[0]))
        if stored.sequence >= last:
            break
    return entries


async def _vouching(bus: Bus, public_key: str) -> tuple[bytes, EnclaveRegistered]:
    """The document and the registration of a key; of several documents the one that led to the registration."""
    rows = (subjects.ENCLAVE_ATTESTED, subjects.ENCLAVE_REGISTERED)
    first, last = await bus.stream_bounds(Stream.ENCLAVE)
    documents: list[bytes] = []
    if last >= first > 0:
        async for stored in bus.read(Stream.ENCLAVE, start=first, subjects=rows):
            if stored.subject.endswith(subjects.ENCLAVE_ATTESTED.name):
                attested = fact_of(stored, subjects.ENCLAVE_ATTESTED, EnclaveAttested)
                if attested.public_key == public_key:
                    documents.append(document_bytes(attested.document))
            else:
                registered = fact_of(stored, subjects.ENCLAVE_REGISTERED, EnclaveRegistered)
                if registered.public_key == public_key and (document := document_for(registered, documents)):
                    return document, registered
            if stored.sequence >= last:
                break
    raise NotFound(f"the bus knows no registration of key {public_key}", reason="no-registration")


async def check_arrival(
    context: Context, pod: PodName, *, file: Path | None = None, bound_ms: int = BOUND_MS, offline: bool = False
) -> Report:
    """All checks on an arrival, from a file or from the cluster."""
    data = await collect_arrival(context, pod) if file is None else read_evidence(file)
    async with anchor_source(context, offline=offline) as source:
        head: HeadSource | None = source if isinstance(source, LedgerAnchors | NoAnchors) else None
        return await verify_arrival(
            data, pod, trust_of(context), bound_ms=bound_ms, source=head, now_ms=now_ms(), offline=offline
        )


@verify_app.command("arrival")
def arrival(
    namespace: Annotated[str, typer.Argument(help="namespace of the pod")],
    name: Annotated[str, typer.Argument(help="name of the pod")],
    *,
    uid: Uid = None,
    evidence: Evidence = None,
    bound_ms: Bound = BOUND_MS,
    offline: Offline = False,
    output: Output = Format.TEXT,
) -> None:
    """Checks by the enclave's receipt whether a pod's decision is being kept back."""
    pod = PodName(namespace, name, uid)
    report = asyncio.run(check_arrival(command_context(), pod, file=evidence, bound_ms=bound_ms, offline=offline))
    print_report(report, output)
    raise typer.Exit(0 if report.ok else 1)


@evidence_app.command("arrival")
def export_arrival(
    what: Annotated[str, typer.Argument(metavar="POD", help="NAMESPACE/NAME of a pod")],
    file: Annotated[Path, typer.Argument(help="file to write")],
) -> None:
    """Writes the newest receipt and the log under it to a file that proves a pod's arrival anywhere."""
    namespace, slash, name = what.partition("/")
    if not (slash and namespace and name):
        raise typer.BadParameter(f"{what!r} is not NAMESPACE/NAME", param_hint="POD")
    data = asyncio.run(collect_arrival(command_context(), PodName(namespace, name)))
    try:
        file.write_bytes(data)
    except OSError as error:
        raise typer.BadParameter(f"{file} can't be written: {error.strerror}", param_hint="FILE") from None
    console.print(f"arrival of {what}: {len(data)} bytes in {file}", soft_wrap=True)
