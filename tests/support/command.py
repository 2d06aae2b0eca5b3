"""`daas` in a thread of the test's own process: what it imports costs seconds of a core, and is paid once."""

import asyncio
import os
import threading
from pathlib import Path

from typer.testing import CliRunner

from daas.cli.main import app
from daas.common.errors import DaasError

_ONE_AT_A_TIME = threading.Lock()


async def daas_here(context: Path, *arguments: str, timeout_s: float = 120) -> tuple[int, str]:
    """Exit code and output of a command line that asks nothing, as `python -m daas.cli` would give them."""

    def run() -> tuple[int, str]:
        with _ONE_AT_A_TIME:
            environment = {**os.environ, "DAAS_CONTEXT": str(context)}
            done = CliRunner().invoke(app, list(arguments), env=environment)
        if isinstance(done.exception, DaasError):
            return 1, f"{done.output}error: {done.exception.message} ({done.exception.reason})"
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output

    return await asyncio.wait_for(asyncio.to_thread(run), timeout_s)
