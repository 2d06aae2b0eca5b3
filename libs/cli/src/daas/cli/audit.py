"""`daas audit`: what the API server's audit log, archived by storage, says about who did what."""

import asyncio
import contextlib
import datetime as dt
import re
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.table import Table

from daas.cli.context import Context, load_context
from daas.cli.stores import etcd_of
from daas.cli.terminal import console
from daas.common.errors import DaasError, InvalidInput
from daas.evidence import Keys
from daas.evidence.audit import AuditArchive, AuditQuery, resource_of, user_of, verdict_of
from daas.evidence.values import ValueReader
from daas.walrus import WalrusClient

audit_app = typer.Typer(help="Search the archived audit log.", no_args_is_help=True)

_SPAN: Final = re.compile(r"(\d{1,6})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LIMIT_MAX: Final = 100_000


class Shape(StrEnum):
    """How events are printed."""

    TABLE = "table"
    JSON = "json"


def moment_ms(text: str, now_ms: int) -> int:
    """A moment: `2026-03-01T12:00:00Z` (without a zone: UTC), or how long ago: `90s`, `15m`, `2h`, `7d`.

    Raises:
        InvalidInput: `usage`.
    """
    span = _SPAN.fullmatch(text)
    if span is not None:
        return now_ms - int(span.group(1)) * _SECONDS[span.group(2)] * 1000
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{text!r} is neither a time nor a span such as 15m", reason="usage", field="time") from None
    return int((found if found.tzinfo else found.replace(tzinfo=dt.UTC)).timestamp() * 1000)


@contextlib.asynccontextmanager
async def audit_archive(context: Context) -> AsyncIterator[AuditArchive]:
    """The cluster's archive."""
    keys = Keys(context.cluster)
    async with contextlib.AsyncExitStack() as stack:
        etcd = await stack.enter_async_context(etcd_of(context))
        walrus = None
        if context.walrus_aggregators:
            walrus = await stack.enter_async_context(WalrusClient([], context.walrus_aggregators))
        yield AuditArchive(etcd, keys, ValueReader(etcd, keys, walrus))


async def find(context: Context, query: AuditQuery, limit: int) -> list[dict[str, Any]]:
    """The events that match, at most `limit`."""
    async with audit_archive(context) as archive:
        return [event async for event in archive.search(query, limit=limit)]


@audit_app.callback()
def audit_commands() -> None:
    """Search the archived audit log."""


@audit_app.command("search")
def search(
    *,
    since: Annotated[str, typer.Option("--since", help="from then on: a time, or a span such as 15m, 2h, 7d")] = "1d",
    until: Annotated[str, typer.Option("--until", help="up to then, likewise")] = "0s",
    user: Annotated[str | None, typer.Option("--user", help="name of the user, in full")] = None,
    resource: Annotated[
        str | None, typer.Option("--resource", help="pods, pods/binding, or pods/NAMESPACE/NAME")
    ] = None,
    verdict: Annotated[str | None, typer.Option("--verdict", help="allow, forbid or error")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=LIMIT_MAX, help="at most so many events")] = 1000,
    output: Annotated[Shape, typer.Option("--output", "-o", help="table, or json: one event a line")] = Shape.TABLE,
) -> None:
    """Finds events by time, user, resource and verdict. Bytes are held to the digests in the index."""
    now_ms = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
    try:
        context = load_context()
        query = AuditQuery(
            since_ms=max(0, moment_ms(since, now_ms)),
            until_ms=max(0, moment_ms(until, now_ms)),
            user=user,
            resource=resource,
            verdict=verdict,
        )
    except DaasError as error:
        raise typer.BadParameter(error.message, param_hint=error.field) from None
    events = asyncio.run(find(context, query, limit))
    if output is Shape.JSON:
        for event in events:
            typer.echo(msgspec.json.encode(event))
        return
    table = Table("time", "verdict", "user", "verb", "resource", "object", "code")
    for event in events:
        table.add_row(*_row(event))
    console.print(table)
    more = f"; there may be more: --limit is {limit}" if len(events) == limit else ""
    console.print(f"{len(events)} events{more}")


def _row(event: dict[str, Any]) -> tuple[str, ...]:
    reference, status = event.get("objectRef") or {}, event.get("responseStatus") or {}
    verdict = verdict_of(event)
    colour = {"allow": "green", "forbid": "red", "error": "yellow"}[verdict]
    place = "/".join(part for part in (reference.get("namespace"), reference.get("name")) if part)
    return (
        str(event.get("stageTimestamp") or event.get("requestReceivedTimestamp") or ""),
        f"[{colour}]{verdict}[/]",
        user_of(event),
        str(event.get("verb", "")),
        resource_of(event),
        place,
        str(status.get("code", "")),
    )
