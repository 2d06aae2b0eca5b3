"""Resident memory of an idle stack: each service below 120 MB, everything below 900 MB."""

import asyncio
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from support.facts import running

SERVICE_LIMIT_MB = 120
STACK_LIMIT_MB = 900
SERVICES = {"gateway", "enclave", "relay", "storage"}
#: Long enough for start-up garbage to be gone.
IDLE_S = 5.0


async def run() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as directory:
        async with running(Path(directory)) as stack:
            await asyncio.sleep(IDLE_S)
            sizes = {name: size / 2**20 for name, size in stack.rss_bytes().items()}
    table = Table("process", "MB", "limit", "of limit", box=None)
    for name, size in sorted(sizes.items()):
        limit = SERVICE_LIMIT_MB if name in SERVICES else None
        table.add_row(name, f"{size:.0f}", str(limit or ""), f"{size / limit:.0%}" if limit else "")
    total = sum(sizes.values())
    table.add_row("all", f"{total:.0f}", str(STACK_LIMIT_MB), f"{total / STACK_LIMIT_MB:.0%}")
    Console().print(table)
