"""Memory of an idle stack: each service's resident set below 120 MB, all of it together below 900 MB.

Resident sets count every page that processes share once for each of them; the sum is of proportional set sizes (Pss in
Linux' smaps_rollup), in which a shared page counts once.
"""

import asyncio
import tempfile
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table
from support.facts import running

SERVICE_LIMIT_MB = 120
STACK_LIMIT_MB = 900
SERVICES = {"gateway", "enclave", "relay", "storage", "sealkeeper"}
#: Long enough for start-up garbage to be gone.
IDLE_S = 5.0


async def run() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as directory:
        async with running(Path(directory)) as stack:
            await asyncio.sleep(IDLE_S)
            sizes = {name: psutil.Process(pid).memory_full_info() for name, pid in stack.pids().items()}
    table = Table("process", "resident, MB", "limit", "of limit", "proportional, MB", box=None)
    for name, size in sorted(sizes.items()):
        limit = SERVICE_LIMIT_MB if name in SERVICES else None
        resident = size.rss / 2**20
        share = f"{resident / limit:.0%}" if limit else ""
        table.add_row(name, f"{resident:.0f}", str(limit or ""), share, f"{size.pss / 2**20:.0f}")
    total = sum(size.pss for size in sizes.values()) / 2**20
    resident = sum(size.rss for size in sizes.values()) / 2**20
    table.add_row("all", f"{resident:.0f}", str(STACK_LIMIT_MB), f"{total / STACK_LIMIT_MB:.0%}", f"{total:.0f}")
    Console().print(table)
