"""The stage on which connected tests play."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from daas.devstack.nats import NatsServer

sys.path.insert(0, str(Path(__file__).parent / "support"))

from bus_stage import Stage


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(NatsServer(tmp_path / "nats"))
        yield Stage(server, stack)
