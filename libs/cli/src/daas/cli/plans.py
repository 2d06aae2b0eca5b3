"""Asking the enclave for a plan, and holding what it answers against the evidence before anything is shown of it."""

import asyncio
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from daas.cli.arrival import entries_between
from daas.cli.context import Context
from daas.cli.report import Format, print_report
from daas.cli.terminal import console
from daas.cli.verify import (
    Evidence,
    Offline,
    Output,
    anchor_source,
    command_context,
    evidence_app,
    evidence_store,
    now_ms,
    read_evidence,
    trust_of,
    verify_app,
    write_evidence,
)
from daas.common.bus import Bus, BusSettings
from daas.common.errors import ConfigurationError, NotFound, Refused
from daas.common.messages import Message, decode, encode
from daas.common.plans import ALLOCATION, REBALANCE, Planned
from daas.common.subjects import Service, Subject
from daas.evidence import Case, EvidenceStore, RawEntry, Report
from daas.evidence.plans import PlanFile, collect_plan, decode_plan, encode_plan, verify_plan
from daas.placement.allocation import Moment

#: The enclave gives up before.
TIMEOUT_S = 120.0
#: A batch is anchored and archived within seconds of its decision.
STORED_S = 60.0
POLL_S = 0.3

Save = Annotated[Path | None, typer.Option("--save", help="also write the plan with its evidence to a file")]


WHAT_HELP = (
    "a file written by --save or `daas evidence plan`, or `allocation` or `rebalance` for the newest in the cluster's "
    "store, with /PLACE for that place in the stream PLAN"
)


class VerifiedPlan(NamedTuple):
    """A plan, what was checked of it, and the state it was made from; the state is None where a check failed."""

    planned: Planned
    report: Report
    moment: Moment | None
    file: PlanFile

    def require(self) -> Moment:
        """The state.

        Raises:
            Refused: `plan-unproven`: a check failed.
        """
        if self.moment is None:
            raise Refused(f"the plan does not hold: {', '.join(self.report.failed)}", reason="plan-unproven")
        return self.moment


async def plan(context: Context, subject: Subject, request: Message, *, offline: bool = False) -> VerifiedPlan:
    """Asks, gathers the evidence, and checks."""
    settings = BusSettings(nats_url=context.nats_url, cluster=context.cluster)
    async with await Bus.connect(Service.CLI, settings) as bus, evidence_store(context) as store:
        planned = await bus.request(subject, request, Planned, timeout_s=TIMEOUT_S)
        case = await _case(store, planned.basis.sequence)
        first = case.bundle.decision().header.log_sequence + 1
        tail = await entries_between(bus, first, planned.basis.log_sequence)
    file = PlanFile(planned=encode(planned), case=case, tail=tuple(tail))
    return await check(context, file, offline=offline)


async def _case(store: EvidenceStore, sequence: int) -> Case:
    """The evidence of a batch, as soon as it is archived."""
    deadline = time.monotonic() + STORED_S
    while True:
        try:
            return await store.case(sequence)
        except NotFound:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(POLL_S)


async def check(context: Context, file: PlanFile, *, offline: bool) -> VerifiedPlan:
    """All checks on a plan and on the batch before it."""
    async with anchor_source(context, offline=offline) as source:
        report, moment = await verify_plan(file, trust_of(context), source=source, now_ms=now_ms(), offline=offline)
    return VerifiedPlan(decode(file.planned, Planned), report, moment, file)


def save(plan_: VerifiedPlan, path: Path | None) -> None:
    """Writes the file, if one is wanted.

    Raises:
        ConfigurationError: `plan-file`.
    """
    if path is None:
        return
    try:
        path.write_bytes(encode_plan(plan_.file))
    except OSError as error:
        raise ConfigurationError(f"{path} can't be written: {error.strerror}", reason="plan-file") from None


@verify_app.command("plan")
def verify_plan_file(
    what: Annotated[str, typer.Argument(metavar="FILE|KIND[/PLACE]", help=WHAT_HELP)] = "",
    *,
    evidence: Evidence = None,
    offline: Offline = False,
    output: Output = Format.TEXT,
) -> None:
    """Checks a plan from a file or from the cluster's store: key, state, and certificate, without a solver."""
    context = command_context()
    file = evidence if evidence is not None else Path(what) if what and _archived(what) is None else None
    if file is not None:
        found = asyncio.run(check(context, decode_plan(read_evidence(file)), offline=offline))
    elif what:
        found = asyncio.run(_check_archived(context, what, offline=offline))
    else:
        raise typer.BadParameter("name a file, or a kind of plan in the cluster's store", param_hint="FILE|KIND")
    print_report(found.report, output)
    raise typer.Exit(0 if found.report.ok else 1)


@evidence_app.command("plan")
def export_plan(
    what: Annotated[str, typer.Argument(metavar="KIND[/PLACE]", help=WHAT_HELP)],
    file: Annotated[Path, typer.Argument(help="file to write")],
) -> None:
    """Writes an archived plan with its evidence to a file that verifies anywhere."""
    if _archived(what) is None:
        raise typer.BadParameter(f"{what!r} is no {ALLOCATION} or {REBALANCE}", param_hint="KIND[/PLACE]")
    data = encode_plan(asyncio.run(collect(command_context(), what)))
    write_evidence(file, data)
    console.print(f"evidence of the plan: {len(data)} bytes in {file}", soft_wrap=True)


def _archived(what: str) -> tuple[str, int | None] | None:
    """Kind and place of a plan in the archive; None where it is not so named."""
    kind, slash, place = what.partition("/")
    if kind not in (ALLOCATION, REBALANCE) or (slash and not place.isdecimal()):
        return None
    return kind, int(place) if slash else None


async def collect(context: Context, what: str) -> PlanFile:
    """A plan out of the archive. Log entries that are not archived yet come from the bus, where one answers."""
    named = _archived(what)
    assert named is not None, what
    kind, place = named
    settings = BusSettings(nats_url=context.nats_url, cluster=context.cluster)

    async def from_bus(first: int, last: int) -> list[RawEntry]:
        async with await Bus.connect(Service.CLI, settings) as bus:
            return await entries_between(bus, first, last)

    async with evidence_store(context) as store:
        return await collect_plan(store, kind, place, entries=from_bus)


async def _check_archived(context: Context, what: str, *, offline: bool) -> VerifiedPlan:
    return await check(context, await collect(context, what), offline=offline)
