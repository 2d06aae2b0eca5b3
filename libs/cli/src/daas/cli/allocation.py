"""`daas allocation plan`: where the pending pods would best go, and how much better anything could be at most."""

import asyncio
import secrets
from typing import Annotated, Any

import typer
from rich.table import Table

from daas.cli.plans import Save, VerifiedPlan, plan, save
from daas.cli.report import Format, print_json, print_report, report_fields
from daas.cli.terminal import console
from daas.cli.verify import Offline, Output, command_context
from daas.common.errors import InvalidInput
from daas.common.plans import AllocationPlan
from daas.common.subjects import ALLOCATION_PLAN
from daas.evidence.plans import certificate_bytes
from daas.placement.allocation import Certificate, Objective, build_model, placements

allocation_app = typer.Typer(help="Where pending pods would best go, with a proof.", no_args_is_help=True)

#: Rows of the table; JSON has all.
ROWS = 50


@allocation_app.callback()
def allocation_commands() -> None:
    """Where pending pods would best go, with a proof."""


@allocation_app.command("plan")
def allocation_plan(
    *,
    weight: Annotated[
        list[str] | None, typer.Option("--weight", help="NAME=VALUE of the objective, e.g. per_pod=1000; repeat")
    ] = None,
    file: Save = None,
    offline: Offline = False,
    output: Output = Format.TEXT,
) -> None:
    """Asks the enclave for an allocation of all pending pods and checks its certificate. Nothing is bound by it."""
    objective = parse_weights(weight or [])
    request = AllocationPlan(request_id=secrets.token_hex(8), objective=objective)
    found = asyncio.run(plan(command_context(), ALLOCATION_PLAN, request, offline=offline))
    save(found, file)
    rows = _rows(found) if found.report.ok else []
    if output is Format.JSON:
        print_json({"plan": found.planned, "places": rows, "report": report_fields(found.report)})
    else:
        if rows:
            table = Table("pod", "node", title=f"{len(rows)} pods would be placed")
            for row in rows[:ROWS]:
                table.add_row(f"{row['namespace']}/{row['name']}", row["node"])
            console.print(table)
        print_report(found.report, output)
    raise typer.Exit(0 if found.report.ok else 1)


def parse_weights(given: list[str]) -> dict[str, int]:
    """Weights of the objective.

    Raises:
        InvalidInput: `objective`.
    """
    known = Objective.__struct_fields__
    weights: dict[str, int] = {}
    for text in given:
        name, _, value = text.partition("=")
        if name not in known or not value.isdecimal():
            raise InvalidInput(f"expected NAME=VALUE, NAME of {', '.join(known)}, not {text!r}", reason="objective")
        weights[name] = int(value)
    return weights


def _rows(found: VerifiedPlan) -> list[dict[str, Any]]:
    moment = found.require()
    model = build_model(moment.cluster, Objective(**found.planned.asked.get("objective", {})))
    pods = {pod.metadata.uid: pod.metadata for pod in moment.cluster.pending}
    places = placements(model, Certificate.unpack(certificate_bytes(found.planned)))
    return [
        {"namespace": pods[uid].namespace, "name": pods[uid].name, "uid": uid, "node": node} for uid, node in places
    ]
