"""The command: asks everything at once, prints what was found, and exits with 1 where something is wrong."""

import asyncio
import sys
import time
from typing import Annotated

import typer

from daas.cli.context import Context, load_context
from daas.cli.doctor import servers, services
from daas.cli.findings import print_findings
from daas.cli.report import Format
from daas.common.bus.inspection import Finding, Grade

_PYTHON_MIN = (3, 11)


async def examine(context: Context) -> list[Finding]:
    """Every finding, worst first within what belongs together."""
    answers, *found = await asyncio.gather(
        services.ask(context.services),
        servers.looked("NATS", lambda: servers.bus(context), "start it; look at its log and at nats_url"),
        servers.looked(
            "etcd",
            lambda: servers.etcd(context),
            "start it, or mend etcd_* in the context; evidence waits on the bus meanwhile",
        ),
        servers.looked("ledger", lambda: servers.ledger(context), "name a full node that answers (ledger_url)"),
        servers.looked("Kubernetes", lambda: servers.kubernetes(context), "look at the API server and the kubeconfig"),
    )
    python = ".".join(map(str, sys.version_info[:3]))
    findings = [servers.version("Python here", python, _PYTHON_MIN)]
    for some in found:
        findings += some
    now_ms = time.time_ns() // 1_000_000
    for answer in answers:
        findings += services.judge(answer, now_ms)
    findings += services.roles(answers)
    return sorted(findings, key=lambda finding: _ORDER[finding.grade])


_ORDER = {Grade.WRONG: 0, Grade.WARNING: 1, Grade.OK: 2}


def doctor(output: Annotated[Format, typer.Option("--output", "-o", help="how to print")] = Format.TEXT) -> None:
    """Looks at servers, streams, permissions, clocks, registrations, gas and backlog, and says what to do.

    Exit code 1 where something is wrong.
    """
    context = load_context()
    findings = asyncio.run(examine(context))
    print_findings(findings, output, title=f"cluster {context.cluster}")
    raise typer.Exit(1 if any(finding.grade is Grade.WRONG for finding in findings) else 0)
