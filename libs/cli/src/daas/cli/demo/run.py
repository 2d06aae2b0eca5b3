"""`daas demo`: starts everything, shows the life of 200 pods, verifies one, breaks a byte, seals a Secret, stops."""

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from daas.cli.demo.film import Film, percentile
from daas.cli.demo.manifests import NAMESPACE, create, load_workloads, write_manifests
from daas.cli.demo.sealed import second_act
from daas.cli.terminal import console, short, simulated_mark
from daas.common import subjects
from daas.common.bus import Bus, BusSettings
from daas.common.errors import Unavailable
from daas.common.subjects import Service, Stream
from daas.placement.reasons import sentence

if TYPE_CHECKING:
    from daas.devstack.stack import Stack

#: The demo promises two minutes in all; pods that have not settled by then are a failure, not a wait.
SETTLE_TIMEOUT_S = 75.0
EXAMPLE = "web-7"
#: How the bytes of a log entry begin in an evidence file.
LOG_ENTRY = b'"data":"'
FACTS = tuple(s for s in subjects.CATALOGUE if s.stream is Stream.PLACEMENT)


async def run(stack: "Stack") -> int:
    """The whole demo; returns the exit code: 0 when everything happened as it should."""
    started = time.monotonic()
    _act("1", "every part starts, on ports that the parts choose")
    pids: dict[str, int] = {}
    async with stack:
        pids = stack.pids()
        follower = None
        try:
            film = Film()
            follower = asyncio.create_task(_follow(stack, film))
            await _create_and_watch(stack, film, follower)
            _summary(film)
            good = await _verify(stack)
            _act("5", "a Secret is sealed; a node with stake opens it, one without is refused, with the reason")
            good = await second_act(stack) and good
            _act("6", "everything stops")
        finally:
            if follower is not None:
                follower.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await follower
    left = _alive(pids)
    if left:
        console.print(f"  [red]✗[/] still there: {', '.join(left)}")
        return 1
    console.print(f"  [green]✓[/] all {len(pids)} processes are gone, {time.monotonic() - started:.0f} s in all")
    return 0 if good else 1


def _alive(pids: dict[str, int]) -> list[str]:
    return [name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()]


def _act(number: str, title: str) -> None:
    console.print()
    console.print(Rule(Text.assemble((f" {number} ", "bold reverse"), " ", (title, "bold")), align="left"))


async def _follow(stack: "Stack", film: Film) -> None:
    settings = BusSettings(nats_url=stack.nats.url, cluster=stack.cluster)
    async with await Bus.connect(Service.MONITOR, settings) as bus:
        async for stored in bus.read(Stream.PLACEMENT, start=1, subjects=FACTS):
            film.take(stack.cluster, stored)


async def _create_and_watch(stack: "Stack", film: Film, follower: "asyncio.Task[None]") -> None:
    context = stack.context()
    workloads = load_workloads()
    total = sum(workload.count for workload in workloads)
    files = write_manifests(stack.state_dir / "manifests")
    _act("2", f"12 nodes and {total} pods are created; each is decided in the enclave, anchored, then bound")
    creating = asyncio.create_task(create(context["kubeconfig"], files))
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    with Live(_screen(film, total), console=console, refresh_per_second=8, transient=True) as live:
        while not (creating.done() and film.settled(total)):
            if creating.done():
                creating.result()
            if follower.done():
                follower.result()
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"after {SETTLE_TIMEOUT_S:.0f} s {film.bound} of {total} pods are bound, {film.unschedulable} wait",
                    reason="demo-timeout",
                )
            live.update(_screen(film, total))
            await asyncio.sleep(0.05)
        tool = creating.result()
    console.print(_screen(film, total))
    console.print(f"  created with {tool} from {len(files)} files", style="dim")


def _screen(film: Film, total: int) -> Group:
    decided = len(film.pods)
    anchored = sum(1 for life in film.pods.values() if life.sequence in film.anchors)
    rows = (("decided", decided, "cyan"), ("anchored", anchored, "blue"), ("bound", film.bound, "green"))
    table = Table.grid(padding=(0, 1))
    for name, count, style in (*rows, ("unschedulable", film.unschedulable, "yellow")):
        bar = ProgressBar(total=total, completed=count, width=48, complete_style=style, finished_style=style)
        table.add_row(f"  {name:<13}", bar, f"{count:>4} of {total}")
    newest = [film.anchors[n] for n in sorted(film.anchors)[-4:]]
    lines = [
        Text.assemble(
            ("  #", "dim"),
            f"{anchor.sequence:<4} payload {short(anchor.payload_digest, 16)} ",
            f"anchored by {short(anchor.tx_digest, 16)} in checkpoint {anchor.checkpoint} ",
            simulated_mark(simulated=anchor.simulated),
        )
        for anchor in newest
    ]
    return Group(table, *lines)


def _summary(film: Film) -> None:
    _act("3", "what happened")
    table = Table("workload", "shows", "pods", "bound", "waiting", "why", box=None, pad_edge=True)
    for workload in load_workloads():
        lives = [p for p in film.pods.values() if p.name.startswith(f"{NAMESPACE}/{workload.name}-")]
        waiting = [p for p in lives if p.bound is None]
        why = sorted({sentence(p.reasons, 12) for p in waiting})
        table.add_row(
            workload.name,
            workload.why,
            str(len(lives)),
            str(len(lives) - len(waiting)),
            f"[yellow]{len(waiting)}[/]" if waiting else "",
            "; ".join(why),
        )
    console.print(table)
    figures = Table("stage", "p50 ms", "p99 ms", box=None, pad_edge=True)
    for stage, values in film.stages_ms().items():
        figures.add_row(stage, str(percentile(values, 50)), str(percentile(values, 99)))
    console.print(figures)
    console.print(
        f"  {len(film.decisions)} decisions, {len(film.anchors)} anchors, {film.refusals} refused, "
        f"{film.bind_failures} binds failed; enclave:",
        simulated_mark(simulated=film.simulated),
    )


async def _verify(stack: "Stack") -> bool:
    _act("4", f"a stranger verifies pod {EXAMPLE}, then breaks one byte of the evidence")
    bundle = stack.state_dir / "evidence.json"
    commands = (
        (0, ("verify", "pod", NAMESPACE, EXAMPLE)),
        (0, ("evidence", "export", f"{NAMESPACE}/{EXAMPLE}", str(bundle))),
    )
    good = True
    for expected, arguments in commands:
        good = await _daas(stack, arguments) == expected and good
    position = await asyncio.to_thread(_break_a_byte, bundle)
    console.print(
        f"\n  [red]✂[/] one bit of byte {position} of {bundle.name} is flipped, in a log entry", highlight=False
    )
    refused = await _daas(stack, ("verify", "pod", NAMESPACE, EXAMPLE, "--evidence", str(bundle)))
    if refused == 1:
        console.print("  [green]✓[/] refused with exit code 1, as it must be")
    return good and refused == 1


async def _daas(stack: "Stack", arguments: tuple[str, ...]) -> int:
    """Runs the command line as a person would, in a process of its own."""
    console.print(f"\n  [bold]$ daas {' '.join(arguments)}[/]", highlight=False, soft_wrap=True)
    environment = {**os.environ, "DAAS_CONTEXT": str(stack.context_path), "COLUMNS": str(console.width)}
    if console.is_terminal:
        environment["FORCE_COLOR"] = "1"
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "daas.cli", *arguments, env=environment)
    return await process.wait()


def _break_a_byte(bundle: Path) -> int:
    """Flips the lowest bit of one byte of the last log entry in the file; returns its position.

    The entry is base64: a byte is chosen that stays a letter or digit, so that the file can still be read.
    """
    data = bytearray(bundle.read_bytes())
    position = data.rindex(LOG_ENTRY) + len(LOG_ENTRY)
    while not chr(data[position]).isalnum() or not chr(data[position] ^ 1).isalnum():
        position += 1
    data[position] ^= 1
    bundle.write_bytes(data)
    return position
