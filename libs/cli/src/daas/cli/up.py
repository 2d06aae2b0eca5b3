"""`daas up` and `daas demo`: the development stack from the command line; needs the `dev` extra of this package."""

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.panel import Panel
from rich.table import Table

from daas.cli.terminal import console
from daas.common.errors import ConfigurationError
from daas.placement import Policy

if TYPE_CHECKING:
    from daas.devstack.stack import Stack

DEFAULT_STATE = Path(".daas")

State = Annotated[Path, typer.Option("--state", help="where the stack keeps its state")]


def make_stack(state: Path, *, enclaves: int = 1) -> "Stack":
    """The development stack, which only this command and the tests may import.

    Raises:
        ConfigurationError: `no-devstack` where the stand-ins are not installed, as on every production machine.
    """
    try:
        from daas.devstack.stack import Stack  # noqa: PLC0415 - absent in production
    except ImportError:
        raise ConfigurationError(
            "the development stand-ins are not installed here (k3s-daas-cli[dev])", reason="no-devstack"
        ) from None

    def progress(name: str, detail: str) -> None:
        console.print(f"  [green]✓[/] {name:<10} [dim]{detail}[/]", soft_wrap=True)

    return Stack(state, policy=Policy().digest(), progress=progress, enclaves=enclaves)


def up(
    state: State = DEFAULT_STATE,
    *,
    enclaves: Annotated[int, typer.Option(min=1, max=4, help="enclaves; all but one stand by")] = 1,
) -> None:
    """Runs the whole system on this machine until Ctrl-C; the state stays for the next time."""
    asyncio.run(_up(state, enclaves))


async def _up(state: Path, enclaves: int) -> None:
    console.print("[bold]K3s-DaaS[/] starts; every part below is a development stand-in or runs against one")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    starting = asyncio.create_task(_start(make_stack(state, enclaves=enclaves)))
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        return
    stack = await starting
    try:
        _welcome(stack)
        await stop.wait()
    finally:
        console.print("stopping …")
        await stack.stop()
        console.print("stopped; the state is kept in", str(stack.state_dir))


async def _start(stack: "Stack") -> "Stack":
    try:
        await stack.start()
    except BaseException:
        await stack.stop()
        raise
    return stack


def _welcome(stack: "Stack") -> None:
    context = stack.context()
    table = Table.grid(padding=(0, 2))
    for name, value in (
        ("kubeconfig", context["kubeconfig"]),
        ("NATS", context["nats_url"]),
        ("ledger", context["ledger_url"]),
        ("registry", context["registry"]),
        ("etcd", ", ".join(context["etcd_endpoints"])),
        ("Walrus", ", ".join(context["walrus_aggregators"])),
    ):
        table.add_row(f"[bold]{name}[/]", value)
    daas = Path(sys.argv[0])
    command = str(daas) if daas.name == "daas" else "daas"
    table.add_row("", "")
    table.add_row("[bold]type next[/]", f"export KUBECONFIG={context['kubeconfig']} DAAS_CONTEXT={stack.context_path}")
    table.add_row("", "kubectl get nodes")
    table.add_row("", f"{command} status")
    table.add_row("", f"{command} watch --subject placement")
    table.add_row("", f"{command} verify pod NAMESPACE NAME")
    console.print(Panel(table, title="running — [black on yellow]simulated[/]", subtitle="Ctrl-C stops all of it"))


def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="keep the state directory")] = False,
) -> None:
    """Creates nodes and pods, shows how they are placed, proved and bound, verifies one, breaks a byte, and stops."""
    from daas.cli.demo.run import run  # noqa: PLC0415 - only this command needs it

    state = Path(tempfile.mkdtemp(prefix="daas-demo-"))
    try:
        code = asyncio.run(run(make_stack(state)))
    finally:
        if keep:
            console.print("state kept in", str(state))
        else:
            shutil.rmtree(state, ignore_errors=True)
    raise typer.Exit(code)
