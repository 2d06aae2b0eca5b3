"""`daas watch`: the event stream, a readable line for each fact, and for each pod that was bound."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from daas.cli.context import Context, load_context
from daas.cli.terminal import console, short, until_interrupted
from daas.common import subjects
from daas.common.bus import Bus, BusSettings, StoredMessage
from daas.common.errors import InvalidInput
from daas.common.subjects import Service, Stream

Body = dict[str, Any]


def _log(body: Body) -> str:
    kinds: dict[str, int] = {}
    for event in body.get("events", ()):
        kinds[event.get("type", "?")] = kinds.get(event.get("type", "?"), 0) + 1
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "tick"


def _decided(body: Body) -> str:
    header, leaves = body["header"], body["leaves"]
    placed = sum(1 for leaf in leaves if leaf["node"] is not None)
    return (
        f"#{header['sequence']} {placed} placed, {len(leaves) - placed} not, "
        f"payload {short(body['payload_digest'])} signed by {short(body['public_key'])}"
    )


#: How each fact reads in one line; facts not named here show their fields.
LINES: dict[str, Callable[[Body], str]] = {
    "log.cluster": _log,
    "placement.decided": _decided,
    "placement.anchored": lambda b: f"#{b['sequence']} tx {short(b['tx_digest'])} checkpoint {b['checkpoint']}",
    "placement.refused": lambda b: f"#{b['sequence']} {b['reason']}: {b['message']}",
    "placement.bind_failed": lambda b: f"{b['namespace']}/{b['name']} -> {b['node']} {b['reason']}: {b['message']}",
    "enclave.attested": lambda b: f"key {short(b['public_key'])}, document of {len(b['document']) * 3 // 4} bytes",
    "enclave.registered": lambda b: f"key {short(b['public_key'])} as {short(b['enclave'])}",
    "storage.stored": lambda b: f"{b['kind']} {b['key']} ({b['size']} bytes)",
}


def _bound(body: Body) -> list[str]:
    return [f"{p['namespace']}/{p['name']} -> {p['node']} (#{body['sequence']}/{p['index']})" for p in body["pods"]]


#: Facts about several things at once: a line for each.
MANY: dict[str, Callable[[Body], list[str]]] = {"placement.bound": _bound}


def lines(stored: StoredMessage, cluster: str) -> list[Text]:
    """One fact as lines: time, subject, what it says, and whether it is simulated."""
    name = stored.subject.removeprefix(subjects.prefix(cluster) + ".")
    when = datetime.fromtimestamp(stored.time_ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
    head = Text.assemble((when, "dim"), " ", (f"{name:<24}", "bold cyan"), " ")
    try:
        body = msgspec.json.decode(stored.data)
        told = MANY[name](body) if name in MANY else [LINES.get(name, _fields)(body)]
        end = Text(" simulated", style="yellow") if body.get("simulated") else Text()
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return [head + Text(f"unreadable, {len(stored.data)} bytes", style="red")]
    return [head + Text(one) + end for one in told]


def _fields(body: Body) -> str:
    return " ".join(
        f"{key}={short(str(value), 40)}" for key, value in body.items() if key not in {"schema", "simulated"}
    )


def choose(wanted: list[str]) -> dict[Stream, list[subjects.Subject]]:
    """The catalogue rows that `--subject` names (a prefix is enough), by stream.

    Raises:
        InvalidInput: `unknown-subject` when nothing matches.
    """
    chosen: dict[Stream, list[subjects.Subject]] = {}
    for subject in subjects.CATALOGUE:
        if subject.stream is not None and (not wanted or any(_matches(subject.name, w) for w in wanted)):
            chosen.setdefault(subject.stream, []).append(subject)
    if not chosen:
        known = ", ".join(sorted(s.name for s in subjects.CATALOGUE if s.stream))
        raise InvalidInput(f"no subject {', '.join(wanted)}; known: {known}", reason="unknown-subject", field="subject")
    return chosen


def _matches(name: str, wanted: str) -> bool:
    wanted = wanted.removesuffix(".>").removesuffix(".*")
    return name == wanted or name.startswith(wanted + ".")


async def follow(context: Context, wanted: list[str], *, from_start: bool) -> None:
    """Prints facts for ever, in the order of each stream."""
    chosen = choose(wanted)
    async with await Bus.connect(
        Service.MONITOR, BusSettings(nats_url=context.nats_url, cluster=context.cluster)
    ) as bus:

        async def one(stream: Stream, rows: list[subjects.Subject]) -> None:
            start = 1 if from_start else (await bus.stream_bounds(stream))[1] + 1
            async for stored in bus.read(stream, start=start, subjects=rows):
                for line in lines(stored, context.cluster):
                    console.print(line, soft_wrap=True)

        async with asyncio.TaskGroup() as group:
            for stream, rows in chosen.items():
                group.create_task(one(stream, rows))


def watch(
    subject: Annotated[
        list[str] | None,
        typer.Option("--subject", "-s", help="only these, e.g. placement or placement.bound; may be given again"),
    ] = None,
    *,
    from_start: Annotated[bool, typer.Option("--from-start", help="also what happened before")] = False,
) -> None:
    """Shows the event stream as it happens; Ctrl-C ends it."""
    asyncio.run(until_interrupted(follow(load_context(), subject or [], from_start=from_start)))
