"""`daas bus`: what the subject catalogue asks of NATS, applied and shown."""

import asyncio
from typing import Annotated

import typer
from rich.table import Table

from daas.cli.context import load_context
from daas.cli.terminal import console
from daas.common import subjects
from daas.common.bus import Bus, BusSettings
from daas.common.subjects import Service

bus_app = typer.Typer(help="Streams and subjects of the bus.", no_args_is_help=True)


@bus_app.command("apply")
def apply(
    nats_url: Annotated[str | None, typer.Option(help="NATS server; default: that of the running stack")] = None,
    cluster: Annotated[str | None, typer.Option(help="cluster name; default: that of the running stack")] = None,
) -> None:
    """Declares every stream of the catalogue; safe to repeat."""
    if nats_url is None or cluster is None:
        context = load_context()
        nats_url, cluster = nats_url or context.nats_url, cluster or context.cluster
    asyncio.run(_apply(nats_url, cluster))


async def _apply(nats_url: str, cluster: str) -> None:
    async with await Bus.connect(Service.OPERATOR, BusSettings(nats_url=nats_url, cluster=cluster)) as bus:
        await bus.declare()
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
