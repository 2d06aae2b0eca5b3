"""`daas policy`: is a folder of access policies sound, which digest must the registry require, were decisions right?"""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from daas.cli.context import Context
from daas.cli.report import Format, print_json
from daas.cli.terminal import console, errors
from daas.cli.verify import Output, command_context
from daas.common import subjects
from daas.common.access import PolicyDecided
from daas.common.bus import Bus, BusSettings
from daas.common.errors import DaasError, Refused
from daas.common.facts import fact_of
from daas.common.messages import EnclaveRegistered
from daas.common.subjects import Service, Stream
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
def verify_decisions(folder: Folder = BUILTIN, *, output: Output = Format.TEXT) -> None:
    """Checks every access decision on the bus: signed by a registered key, and what these policies say."""
    context = command_context()
    good, wrong = asyncio.run(_verify(context, Evaluator(load_folder(folder))))
    if output is Format.JSON:
        print_json({"ok": not wrong, "verified": good, "refused": wrong})
    else:
        for line in wrong:
            errors.print(f"[bold red]✗[/] {line}")
        console.print(f"{good} access decisions verified" + (f", {len(wrong)} facts refused" if wrong else ""))
    raise typer.Exit(1 if wrong else 0)


async def _verify(context: Context, evaluator: Evaluator) -> tuple[int, list[str]]:
    good = 0
    wrong: list[str] = []
    settings = BusSettings(nats_url=context.nats_url, cluster=context.cluster)
    async with await Bus.connect(Service.CLI, settings) as bus:
        keys = await _registered(bus)
        first, last = await bus.stream_bounds(Stream.POLICY)
        if last < max(first, 1):
            return good, wrong
        async for stored in bus.read(Stream.POLICY, start=max(first, 1)):
            try:
                fact = fact_of(stored, subjects.POLICY_DECIDED, PolicyDecided)
                _ours(context, fact, keys)
                good += verify(fact, evaluator)
            except DaasError as error:
                wrong.append(f"fact {stored.sequence}: {error.message} ({error.reason})")
            if stored.sequence >= last:
                break
    return good, wrong


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
