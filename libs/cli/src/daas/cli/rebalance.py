"""`daas rebalance`: moves that even the load out, certified by the enclave; applied one by one, each checked again."""

import asyncio
import secrets
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from daas.cli import live
from daas.cli.context import Context
from daas.cli.ledger import Yes, confirm
from daas.cli.plans import Save, VerifiedPlan, plan, save
from daas.cli.report import Format, print_json, print_report, report_fields
from daas.cli.terminal import console, errors
from daas.cli.verify import Offline, Output, command_context
from daas.common.errors import ConfigurationError, DaasError
from daas.common.plans import RebalancePlan
from daas.common.subjects import REBALANCE_PLAN
from daas.evidence.plans import certificate_bytes
from daas.kube import KubeClient
from daas.placement.balance import Move, PastMove, RebalancePolicy, check_step
from daas.placement.balance import RebalancePlan as Moves
from daas.placement.balance.situation import owner_of

rebalance_app = typer.Typer(help="Moves that even the load out, with a proof.", no_args_is_help=True)

MovesMax = Annotated[int, typer.Option("--max-moves", min=1, max=10_000, help="moves of the plan")]
NodeMax = Annotated[int, typer.Option("--max-per-node", min=1, max=10_000, help="moves off and onto each node")]
OwnerMax = Annotated[int, typer.Option("--max-per-owner", min=1, max=10_000, help="pods of one owner")]


@rebalance_app.callback()
def rebalance_commands() -> None:
    """Moves that even the load out, with a proof."""


@rebalance_app.command("plan")
def rebalance_plan(
    *,
    max_moves: MovesMax = 100,
    max_per_node: NodeMax = 5,
    max_per_owner: OwnerMax = 1,
    file: Save = None,
    offline: Offline = False,
    output: Output = Format.TEXT,
) -> None:
    """Asks the enclave for moves and checks their certificate. Nothing is moved."""
    policy = RebalancePolicy(max_moves=max_moves, max_per_node=max_per_node, max_per_owner=max_per_owner)
    found = asyncio.run(_plan(command_context(), policy, offline=offline))
    save(found, file)
    _show(found, output)
    raise typer.Exit(0 if found.report.ok else 1)


@rebalance_app.command("apply")
def rebalance_apply(
    *,
    max_moves: MovesMax = 100,
    max_per_node: NodeMax = 5,
    max_per_owner: OwnerMax = 1,
    patience_s: Annotated[float, typer.Option("--patience-s", min=1, help="for a budget, and for each successor")] = 60,
    offline: Offline = False,
    yes: Yes = False,
) -> None:
    """Plans, checks, and makes the moves one by one: each is checked again in the cluster as it is at that moment.

    A pod is evicted through the Eviction API, so disruption budgets hold; its owner makes another, which the scheduler
    places by a decision of its own. The first step that no longer holds ends it. Exit code 1 where a step was not made.
    """
    context = command_context()
    policy = RebalancePolicy(max_moves=max_moves, max_per_node=max_per_node, max_per_owner=max_per_owner)
    found = asyncio.run(_plan(context, policy, offline=offline))
    _show(found, Format.TEXT)
    if not found.report.ok:
        raise typer.Exit(1)
    moves = moves_of(found)
    if not moves:
        console.print("nothing to move")
        return
    confirm(f"evict {len(moves)} pods, one after the other?", yes=yes)
    made = asyncio.run(_apply(context, policy, moves, patience_s))
    console.print(f"{made} of {len(moves)} moves made")
    raise typer.Exit(0 if made == len(moves) else 1)


def moves_of(found: VerifiedPlan) -> tuple[Move, ...]:
    """The moves of a plan that holds."""
    found.require()
    return Moves.from_bcs(certificate_bytes(found.planned)).moves


async def _plan(context: Context, policy: RebalancePolicy, *, offline: bool) -> VerifiedPlan:
    request = RebalancePlan(request_id=secrets.token_hex(8), policy=msgspec.to_builtins(policy))
    return await plan(context, REBALANCE_PLAN, request, offline=offline)


async def _kube(context: Context) -> KubeClient:
    if context.kubeconfig is None:
        raise ConfigurationError("the context names no kubeconfig", reason="no-kubeconfig", field="kubeconfig")
    return await KubeClient.connect(Path(context.kubeconfig))


async def _apply(context: Context, policy: RebalancePolicy, moves: tuple[Move, ...], patience_s: float) -> int:
    """How many moves were made before the first that could not be."""
    past: tuple[PastMove, ...] = ()
    async with await _kube(context) as client:
        for number, move in enumerate(moves, start=1):
            try:
                line, done = await _step(client, policy, move, past, patience_s)
            except DaasError as error:
                errors.print(f"[bold red]✗[/] move {number}: {error.message} [dim]({error.reason})[/]")
                return number - 1
            past = (*past, done)
            console.print(f"[green]✓[/] move {number}: {line}", soft_wrap=True)
    return len(moves)


async def _step(
    client: KubeClient, policy: RebalancePolicy, move: Move, past: tuple[PastMove, ...], patience_s: float
) -> tuple[str, PastMove]:
    """One move: checked now, evicted, its successor awaited."""
    now = await live.situation_now(client, policy, past)
    gain = check_step(now, move)
    pod = live.find(now.cluster, move.uid)
    owner = owner_of(pod)
    assert owner is not None, "a pod without an owner is refused by the check"
    before = frozenset(one.pod.metadata.uid for one in now.cluster.running if owner_of(one.pod) == owner)
    before |= {one.metadata.uid for one in now.cluster.pending if owner_of(one) == owner}
    await live.evict(client, pod, patience_s=patience_s)
    made = await live.successor(client, pod, before, patience_s=patience_s)
    node = made.spec.node_name or ""
    where = f"{node} as planned" if node == move.target else f"{node} instead of {move.target}"
    name = f"{pod.metadata.namespace}/{pod.metadata.name}"
    at_ms = time.time_ns() // 1_000_000
    line = f"{name} off {move.source} (gain {gain}); {made.metadata.name} runs on {where}"
    return line, PastMove(owner=owner, source=move.source, target=node, at_ms=at_ms)


def _show(found: VerifiedPlan, output: Format) -> None:
    rows = _rows(found) if found.report.ok else []
    if output is Format.JSON:
        print_json({"plan": found.planned, "moves": rows, "report": report_fields(found.report)})
        return
    if rows:
        table = Table("pod", "from", "to", "gain", title=f"{len(rows)} moves")
        for row in rows:
            table.add_row(f"{row['namespace']}/{row['name']}", row["source"], row["target"], row["gain"])
        console.print(table)
    print_report(found.report, output)


def _rows(found: VerifiedPlan) -> list[dict[str, Any]]:
    pods = {one.pod.metadata.uid: one.pod.metadata for one in found.require().cluster.running}
    return [
        {
            "namespace": pods[move.uid].namespace,
            "name": pods[move.uid].name,
            "uid": move.uid,
            "source": move.source,
            "target": move.target,
            "gain": str(move.gain),
        }
        for move in moves_of(found)
    ]
