"""`daas bus`: what the subject catalogue asks of NATS, applied and shown."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from daas.cli.bus_keys import check_configuration, make_keys
from daas.cli.context import load_context
from daas.cli.findings import print_findings
from daas.cli.report import Format
from daas.cli.terminal import console
from daas.common import subjects
from daas.common.bus import Bus, BusSettings
from daas.common.bus.inspection import Finding, Grade, inspect
from daas.common.subjects import Service

bus_app = typer.Typer(help="Streams and subjects of the bus.", no_args_is_help=True)


@bus_app.command("apply")
def apply(
    nats_url: Annotated[str | None, typer.Option(help="NATS server; default: that of the running stack")] = None,
    cluster: Annotated[str | None, typer.Option(help="cluster name; default: that of the running stack")] = None,
    *,
    consumers: Annotated[
        bool, typer.Option("--consumers", help="durables too, for services with DAAS_NATS_DECLARE=false")
    ] = False,
) -> None:
    """Declares every stream of the catalogue; safe to repeat."""
    asyncio.run(_apply(*_where(nats_url, cluster), consumers=consumers))


def _where(nats_url: str | None, cluster: str | None) -> tuple[str, str]:
    if nats_url is None or cluster is None:
        context = load_context()
        nats_url, cluster = nats_url or context.nats_url, cluster or context.cluster
    return nats_url, cluster


async def _apply(nats_url: str, cluster: str, *, consumers: bool) -> None:
    async with await Bus.connect(Service.OPERATOR, BusSettings(nats_url=nats_url, cluster=cluster)) as bus:
        await bus.declare(consumers=consumers)
        table = Table("stream", "subjects", "messages kept", title=f"bus of cluster {cluster}")
        for stream in subjects.Stream:
            first, last = await bus.stream_bounds(stream)
            rows = "\n".join(subjects.stream_subjects(cluster, stream))
            table.add_row(subjects.stream_name(cluster, stream), rows, str(max(0, last - first + 1)))
        console.print(table)


@bus_app.command("subjects")
def catalogue() -> None:
    """Prints the catalogue: who publishes and who consumes what."""
    table = Table("subject", "kind", "published by", "consumed by", "stream")
    for subject in subjects.CATALOGUE:
        table.add_row(
            subject.name,
            subject.kind.value,
            ", ".join(sorted(s.value for s in subject.publishers)),
            ", ".join(sorted(s.value for s in subject.consumers)),
            subject.stream.value if subject.stream else "-",
        )
    console.print(table)


@bus_app.command("check")
def check(
    nats_url: Annotated[str | None, typer.Option(help="NATS server; default: that of the running stack")] = None,
    cluster: Annotated[str | None, typer.Option(help="cluster name; default: that of the running stack")] = None,
    configuration: Annotated[
        Path | None, typer.Option("--config", exists=True, dir_okay=False, help="also a server's configuration file")
    ] = None,
    keys: Annotated[Path | None, typer.Option(file_okay=False, help="folder with <service>.pub for --config")] = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="how to print")] = Format.TEXT,
) -> None:
    """Compares streams, durables, bucket and permissions with the catalogue. Exit code 1 where something is wrong."""
    nats_url, cluster = _where(nats_url, cluster)
    findings = asyncio.run(_inspect(nats_url, cluster))
    if configuration is not None:
        findings += check_configuration(configuration, cluster, keys)
    print_findings(findings, output, title=f"bus of cluster {cluster}")
    raise typer.Exit(1 if any(finding.grade is Grade.WRONG for finding in findings) else 0)


async def _inspect(nats_url: str, cluster: str) -> list[Finding]:
    async with await Bus.connect(Service.OPERATOR, BusSettings(nats_url=nats_url, cluster=cluster)) as bus:
        return await inspect(bus)


@bus_app.command("keys")
def keys(directory: Annotated[Path, typer.Argument(file_okay=False, help="folder; made if missing")]) -> None:
    """Makes an NKey for each service: <service>.seed (mode 0600) and <service>.pub. Keys that are there stay."""
    for service, (public, new) in make_keys(directory).items():
        console.print(f"{service.value:<12} {public} {'made' if new else 'kept'}", highlight=False, soft_wrap=True)
