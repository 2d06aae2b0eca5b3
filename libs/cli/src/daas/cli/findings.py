"""How a list of findings looks: what was looked at, what it says, and what to do about it."""

from collections.abc import Sequence
from typing import Final

import msgspec
from rich.table import Table
from rich.text import Text

from daas.cli.report import Format
from daas.cli.terminal import console
from daas.common.bus.inspection import Finding, Grade

_SIGNS: Final = {
    Grade.OK: Text("✓", style="green"),
    Grade.WARNING: Text("!", style="bold yellow"),
    Grade.WRONG: Text("✗", style="bold red"),
}


def print_findings(findings: Sequence[Finding], output: Format, *, title: str) -> None:
    """A table for people, or one JSON object `{ok, findings}`."""
    wrong = sum(finding.grade is Grade.WRONG for finding in findings)
    warnings = sum(finding.grade is Grade.WARNING for finding in findings)
    if output is Format.JSON:
        value = {"ok": not wrong, "findings": [msgspec.to_builtins(finding) for finding in findings]}
        console.file.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
        return
    table = Table("", "what", "says", "what to do", title=title)
    for finding in findings:
        table.add_row(_SIGNS[finding.grade], finding.what, finding.says, finding.advice)
    console.print(table)
    verdict = f"{wrong} wrong, {warnings} to look at, {len(findings) - wrong - warnings} as it should be"
    console.print(Text(verdict, style="bold red" if wrong else "yellow" if warnings else "bold green"))
