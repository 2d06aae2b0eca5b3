"""How the command line prints: one console for results, one for errors, and the words for what is simulated."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any

from rich.console import Console
from rich.text import Text

#: A cancellation that arrives together with an awaited result can get lost (asyncio.wait_for in Python 3.11): it is
#: repeated until it is heeded.
CANCEL_AGAIN_S = 0.5

#: A pipe has no width of its own; 120 columns keep tables readable in logs.
WIDTH = None if os.isatty(1) else 120

console = Console(width=WIDTH, highlight=False)
errors = Console(stderr=True, width=WIDTH, highlight=False)


async def until_interrupted(work: Coroutine[Any, Any, None]) -> None:
    """Runs until the work ends or SIGINT or SIGTERM comes; then the work is cancelled and awaited."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    task = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        task.result()
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)


def simulated_mark(*, simulated: bool) -> Text:
    """A mark that no reader can miss where the enclave is the development stand-in."""
    return Text("simulated", style="black on yellow") if simulated else Text("attested by AWS Nitro", style="green")


def short(value: str, length: int = 10) -> str:
    """The beginning of a digest or key, enough for the eye."""
    return value if len(value) <= length else f"{value[:length]}…"
