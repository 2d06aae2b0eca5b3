"""`daas explain pod`: per filter how many nodes it refused, the best five scores, and the tenant's turn."""

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from daas.cli.context import Context
from daas.cli.report import Format, print_json, print_report, report_fields
from daas.cli.terminal import console, errors, simulated_mark
from daas.cli.verify import (
    Evidence,
    Offline,
    Output,
    Uid,
    anchor_source,
    command_context,
    evidence_store,
    now_ms,
    read_evidence,
    trust_of,
)
from daas.common.errors import InvalidInput
from daas.evidence.bundle import Case, decode_file
from daas.evidence.checks import PodName
from daas.evidence.explain import Explained, explain_pod, require
from daas.placement.explain import Explanation

explain_app = typer.Typer(help="Why the cluster decided as it did, from signed evidence.", no_args_is_help=True)


@explain_app.callback()
def explain_commands() -> None:
    """Why the cluster decided as it did, from signed evidence."""


@explain_app.command("pod")
def explain(
    pod: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME")],
    *,
    uid: Uid = None,
    evidence: Evidence = None,
    offline: Offline = False,
    output: Output = Format.TEXT,
) -> None:
    """Makes the newest decision about a pod again, from the evidence, and shows what led to it."""
    name = pod_name(pod, uid)
    found = asyncio.run(_explain(command_context(), name, evidence, offline=offline))
    if output is Format.JSON:
        seen = None if found.explanation is None else msgspec.to_builtins(found.explanation)
        print_json({"explanation": seen, "report": report_fields(found.report)})
        raise typer.Exit(0 if found.report.ok and seen else 1)
    if not found.report.ok:
        print_report(found.report, output)
        errors.print("[bold red]nothing is explained from evidence that does not hold[/]")
        raise typer.Exit(1)
    print_explanation(name, found, require(found))


def pod_name(text: str, uid: str | None) -> PodName:
    """A pod by NAMESPACE/NAME.

    Raises:
        InvalidInput: `pod-name`.
    """
    namespace, slash, name = text.partition("/")
    if not (slash and namespace and name) or "/" in name:
        raise InvalidInput(f"expected NAMESPACE/NAME, not {text!r}", reason="pod-name", field="pod")
    return PodName(namespace, name, uid)


async def _explain(context: Context, pod: PodName, evidence: Path | None, *, offline: bool) -> Explained:
    case = await _case(context, pod, evidence)
    async with anchor_source(context, offline=offline) as source:
        return await explain_pod(case, pod, trust_of(context), source=source, now_ms=now_ms(), offline=offline)


async def _case(context: Context, pod: PodName, evidence: Path | None) -> Case:
    if evidence is not None:
        return decode_file(read_evidence(evidence)).case
    async with evidence_store(context) as store:
        newest = await store.newest_decision(pod.namespace, pod.name, pod.uid)
        return await store.case(newest.sequence)


def print_explanation(pod: PodName, found: Explained, seen: Explanation) -> None:
    """Tables for people."""
    title = Text(f"pod {pod}, batch {found.report.sequence}", style="bold")
    if found.report.simulated is not None:
        title.append("  ").append_text(simulated_mark(simulated=found.report.simulated))
    console.print(title)
    where = f"placed on {seen.node} with score {seen.score}" if seen.node else f"not placed: {', '.join(seen.reasons)}"
    console.print(f"{where}; {seen.feasible} of {seen.nodes} nodes would do")
    if seen.refused:
        table = Table("filter", "nodes refused", box=None)
        for name, count in sorted(seen.refused.items(), key=lambda item: (-item[1], item[0])):
            table.add_row(name, str(count))
        console.print(table)
    if seen.best:
        parts = list(seen.best[0].parts)
        table = Table("node", "score", *(part.replace("_", " ") for part in parts), box=None)
        for scored in seen.best:
            values = (str(scored.parts[part]) for part in parts)
            table.add_row(scored.node, str(scored.total), *values, style="bold" if scored.node == seen.node else "")
        console.print(table)
    turn = seen.turn
    if turn is not None:
        console.print(
            f"tenant {turn.namespace} (weight {turn.weight}) held {turn.share_ppm / 10_000:.4f} % of the cluster at "
            f"its turn, place {turn.index + 1} of the batch; {turn.due} of its pods were due"
        )
        table = Table("tenant", "share %", "weight", title="who was waiting", box=None)
        for namespace, share_ppm, weight in turn.waiting:
            table.add_row(namespace, f"{share_ppm / 10_000:.4f}", str(weight))
        console.print(table)
    made = sum(check.passed for check in found.report.checks)
    console.print(Text(f"from evidence: {made} checks passed, the decision made again bit for bit", style="green"))
