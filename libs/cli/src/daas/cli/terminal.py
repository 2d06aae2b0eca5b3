"""How the command line prints: one console for results, one for errors, and the words for what is simulated."""

import os

from rich.console import Console
from rich.text import Text

#: A pipe has no width of its own; 120 columns keep tables readable in logs.
WIDTH = None if os.isatty(1) else 120

console = Console(width=WIDTH, highlight=False)
errors = Console(stderr=True, width=WIDTH, highlight=False)


def simulated_mark(*, simulated: bool) -> Text:
    """A mark that no reader can miss where the enclave is the development stand-in."""
    return Text("simulated", style="black on yellow") if simulated else Text("attested by AWS Nitro", style="green")


def short(value: str, length: int = 10) -> str:
    """The beginning of a digest or key, enough for the eye."""
    return value if len(value) <= length else f"{value[:length]}…"
