"""How verification reports look: a tick or a cross per check and what was compared, or JSON."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec
from rich.table import Table
from rich.text import Text

from daas.cli.terminal import console, simulated_mark
from daas.evidence import Outcome, Report


class Format(StrEnum):
    """How to print."""

    TEXT = "text"
    JSON = "json"


_SIGNS = {
    Outcome.PASSED: Text("✓", style="green"),
    Outcome.FAILED: Text("✗", style="bold red"),
    Outcome.UNCHECKED: Text("-", style="yellow"),
}


def print_report(report: Report, output: Format) -> None:
    """One report."""
    if output is Format.JSON:
        print_json(report_fields(report))
        return
    title = Text(report.subject, style="bold")
    if report.simulated is not None:
        title.append("  ").append_text(simulated_mark(simulated=report.simulated))
    console.print(title)
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in report.checks:
        style = "" if check.outcome is Outcome.PASSED else "red" if check.outcome is Outcome.FAILED else "yellow"
        table.add_row(_SIGNS[check.outcome], Text(check.name, style=style), Text(check.compared, style=style or "dim"))
    console.print(table)
    console.print(_verdict(report))


def _verdict(report: Report) -> Text:
    made = sum(check.outcome is not Outcome.UNCHECKED for check in report.checks)
    if not report.ok:
        return Text(f"refused by: {', '.join(report.failed)}", style="bold red")
    left_out = len(report.checks) - made
    if left_out:
        return Text(f"{made} checks passed, {left_out} not made (offline)", style="yellow")
    return Text(f"verified: all {made} checks passed", style="bold green")


def print_summary(reports: Sequence[Report], output: Format) -> None:
    """Many reports: as JSON all of them, as text how many are good and which are not."""
    if output is Format.JSON:
        print_json({"ok": bool(reports) and all(r.ok for r in reports), "reports": [report_fields(r) for r in reports]})
        return
    if not reports:
        console.print(Text("there is no evidence of any batch", style="bold red"))
        return
    bad = [str(report.sequence or report.subject) for report in reports if not report.ok]
    title = Text(f"{len(reports)} batches", style="bold")
    if reports[0].simulated is not None:
        title.append("  ").append_text(simulated_mark(simulated=any(report.simulated for report in reports)))
    console.print(title)
    if bad:
        console.print(Text(f"✗ refused: {', '.join(bad)}", style="bold red"))
    else:
        checks = sum(len(report.checks) for report in reports)
        console.print(Text(f"✓ one unbroken chain: {checks} checks passed, the whole log replayed", style="bold green"))


def report_fields(report: Report) -> dict[str, object]:
    """A report as it stands in JSON."""
    return {**msgspec.to_builtins(report), "ok": report.ok, "failed": list(report.failed)}


def print_json(value: object) -> None:
    """JSON as it is: no wrapping, no colours, so that programs can read it."""
    console.file.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
