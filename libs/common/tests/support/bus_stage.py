"""A real nats-server with buses and services on it, and waiting for a condition."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from daas.common.bus import Bus
from daas.common.errors import DaasError
from daas.common.service import ServiceApp, ServiceSettings
from daas.common.subjects import Service
from daas.devstack.nats import NatsServer

#: Matters only where something fails: a machine that is busy with other tests takes its time.
DEADLINE_S = 100.0


class Stage:
    """A nats-server with everything that a test puts on it; all of it ends with the test."""

    def __init__(self, server: NatsServer, stack: AsyncExitStack) -> None:
        self.server = server
        self._stack = stack

    def settings(self, **changes: Any) -> ServiceSettings:
        return ServiceSettings(**{"nats_url": self.server.url, "nats_start_timeout_s": 60, **changes})

    async def bus(self, service: Service, **changes: Any) -> Bus:
        return await self._stack.enter_async_context(Bus(service, self.settings(**changes)))

    def app(self, service: Service, **changes: Any) -> ServiceApp:
        return ServiceApp(service, self.settings(**changes))

    @asynccontextmanager
    async def serving(self, app: ServiceApp, *, ready: bool = True) -> AsyncIterator[asyncio.Task[int]]:
        serving = asyncio.create_task(app.serve())
        try:
            if ready:
                waiting = asyncio.create_task(app.ready.wait())
                await asyncio.wait({serving, waiting}, timeout=DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                assert app.ready.is_set(), "the service ended before it was ready"
            yield serving
        finally:
            app.stop()
            await serving

    @staticmethod
    async def until(condition: Callable[[], object | Awaitable[object]], what: str = "the condition") -> None:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                holds = condition()
                if isinstance(holds, Awaitable):
                    holds = await holds
            except DaasError as error:
                holds, what = None, f"{what} ({error})"
            if holds:
                return
            assert time.monotonic() < deadline, f"{what} did not come true in {DEADLINE_S} s"
            await asyncio.sleep(0.02)
