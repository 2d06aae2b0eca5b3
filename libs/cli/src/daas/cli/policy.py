"""`daas policy`: is a folder of access policies sound, which digest must the registry require, were decisions right?"""

import asyncio
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.table import Table

from daas.cli.context import Context
from daas.cli.report import Format, print_json, print_report, report_fields
from daas.cli.terminal import console, errors
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
    write_evidence,
)
from daas.common import subjects
from daas.common.access import PolicyDecided
from daas.common.bus import Bus, BusSettings
from daas.common.errors import DaasError, Refused
from daas.common.facts import fact_of
from daas.common.messages import EnclaveRegistered, decode
from daas.common.subjects import Service, Stream
from daas.evidence import Report
from daas.evidence.access import AccessFile, AccessKeys, collect_access, decode_access, encode_access
from daas.placement import Policy
from daas.policy import BUILTIN, Evaluator, load_folder
from daas.policy.record import verify

policy_app = typer.Typer(help="Access policies and the decisions made by them.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="folder with set.json and *.cedar; default: the set that comes along")]


@policy_app.command("check")
def check(folder: Folder = BUILTIN, *, output: Output = Format.TEXT) -> None:
    """Loads a policy set as an enclave would; what is wrong is shown with source, line and column."""
    found = load_folder(folder)
    access = found.digest.hex()
    fields = {
        "version": found.version,
        "policies": list(found.ids),
        "tiers": {tier.name: tier.stake_sui for tier in found.tiers},
        "digest": access,
        "registry_policy": Policy(access=access).digest().hex(),
    }
    if output is Format.JSON:
        print_json(fields)
        return
    table = Table.grid(padding=(0, 2))
    for name, value in fields.items():
        table.add_row(name.replace("_", " "), ", ".join(value) if isinstance(value, list) else str(value))
    console.print(table)
    console.print("[green]sound[/]: registry policy is what the registry has to require (default placement policy)")


@policy_app.command("verify")
def verify_decisions(
    folder: Folder = BUILTIN,
    *,
    archive: Annotated[bool, typer.Option("--archive", help="read the cluster's store instead of the bus")] = False,
    evidence: Evidence = None,
    offline: Offline = False,
    output: Output = Format.TEXT,
) -> None:
    """Checks every access decision: signed by a registered key, and what these policies say.

    From the bus the keys are those that it says were registered. From the store or an exported file each key needs its
    attestation document, for these measurements and policies, and its registration on the ledger.
    """
    context = command_context()
    evaluator = Evaluator(load_folder(folder))
    if archive or evidence is not None:
        found = asyncio.run(_verify_archived(context, evaluator, evidence, offline=offline))
    else:
        found = asyncio.run(_verify_bus(context, evaluator))
    if output is Format.JSON:
        keys = [report_fields(report) for report in found.keys]
        print_json({"ok": not found.wrong, "verified": found.good, "refused": found.wrong, "keys": keys})
    else:
        for report in found.keys:
            print_report(report, output)
        for line in found.wrong:
            errors.print(f"[bold red]✗[/] {line}")
        refused = f", {len(found.wrong)} facts refused" if found.wrong else ""
        console.print(f"{found.good} access decisions verified{refused}")
    raise typer.Exit(1 if found.wrong else 0)


class Verified(NamedTuple):
    """How many decisions hold, what is wrong with the other facts, and what was checked of the keys."""

    good: int
    wrong: list[str]
    keys: tuple[Report, ...] = ()


@evidence_app.command("access")
def export_access(
    file: Annotated[Path, typer.Argument(help="file to write")],
    *,
    first: Annotated[int, typer.Option("--from", min=1, help="first place in the stream POLICY")] = 1,
) -> None:
    """Writes all archived access decisions, with what vouches for their keys, to a file that verifies anywhere."""
    found = asyncio.run(_collect(command_context(), first))
    data = encode_access(found)
    write_evidence(file, data)
    console.print(f"{len(found.facts)} facts of access decisions: {len(data)} bytes in {file}", soft_wrap=True)


async def _collect(context: Context, first: int = 1) -> AccessFile:
    async with evidence_store(context) as store:
        return await collect_access(store, first=first)


async def _verify_archived(context: Context, evaluator: Evaluator, evidence: Path | None, *, offline: bool) -> Verified:
    """All decisions of a file, or of the archive."""
    file = await _collect(context) if evidence is None else decode_access(read_evidence(evidence))
    good = 0
    wrong: list[str] = []
    async with anchor_source(context, offline=offline) as source:
        keys = AccessKeys(file, trust_of(context), source=source, now_ms=now_ms(), offline=offline)
        for one in file.facts:
            try:
                fact = decode(one.data, PolicyDecided)
                await keys.check(fact)
                good += verify(fact, evaluator)
            except DaasError as error:
                wrong.append(f"fact {one.sequence}: {error.message} ({error.reason})")
    return Verified(good, wrong, keys.reports)


async def _verify_bus(context: Context, evaluator: Evaluator) -> Verified:
    good = 0
    wrong: list[str] = []
    settings = BusSettings(nats_url=context.nats_url, cluster=context.cluster)
    async with await Bus.connect(Service.CLI, settings) as bus:
        keys = await _registered(bus)
        first, last = await bus.stream_bounds(Stream.POLICY)
        if last < max(first, 1):
            return Verified(good, wrong)
        async for stored in bus.read(Stream.POLICY, start=max(first, 1)):
            try:
                fact = fact_of(stored, subjects.POLICY_DECIDED, PolicyDecided)
                _ours(context, fact, keys)
                good += verify(fact, evaluator)
            except DaasError as error:
                wrong.append(f"fact {stored.sequence}: {error.message} ({error.reason})")
            if stored.sequence >= last:
                break
    return Verified(good, wrong)


def _ours(context: Context, fact: PolicyDecided, keys: set[str]) -> None:
    if (fact.chain, fact.registry) != (context.chain, context.registry):
        raise Refused("another chain or registry", reason="access-registry", field="registry")
    if fact.public_key not in keys:
        raise Refused(f"key {fact.public_key} was never registered", reason="access-key", field="public_key")


async def _registered(bus: Bus) -> set[str]:
    keys: set[str] = set()
    first, last = await bus.stream_bounds(Stream.ENCLAVE)
    if last < max(first, 1):
        return keys
    async for stored in bus.read(Stream.ENCLAVE, start=max(first, 1)):
        if stored.subject.endswith(subjects.ENCLAVE_REGISTERED.name):
            keys.add(fact_of(stored, subjects.ENCLAVE_REGISTERED, EnclaveRegistered).public_key)
        if stored.sequence >= last:
            break
    return keys
