"""A door in front of a key server: lets requests through, holds them, tells lies, or is shut."""

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Self

import aiohttp
from aiohttp import web

#: As long as a slow server takes; nobody waits for it, since who asked hangs up.
SLOW_S = 30.0


class Door:
    """Use as `async with`; `way` says what happens to requests: open, slow, lying, shut."""

    def __init__(self, url: str) -> None:
        self.behind = url
        self.way = "open"
        self.url = ""
        self.asked = 0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._http = await self._stack.enter_async_context(aiohttp.ClientSession())
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._pass)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if self.way == "slow":
            await asyncio.sleep(SLOW_S)
        if self.way == "shut":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        headers = {k: v for k, v in request.headers.items() if k.lower() not in {"host", "content-length"}}
        body = await request.read()
        async with self._http.request(request.method, self.behind + request.path_qs, data=body, headers=headers) as got:
            answer = await got.read()
            if self.way == "lying" and got.status == 200:
                answer = lie(answer)
            kept = {k: v for k, v in got.headers.items() if k.lower().startswith("x-keyserver")}
            return web.Response(status=got.status, body=answer, headers=kept, content_type=got.content_type)


def lie(answer: bytes) -> bytes:
    """The answer with the second half of each encrypted key replaced by the first: points, but of a wrong key."""
    content: dict[str, Any] = json.loads(answer)
    for key in content["decryption_keys"]:
        first, second = key["encrypted_key"]
        assert base64.b64decode(first) != base64.b64decode(second)
        key["encrypted_key"] = [first, first]
    return json.dumps(content).encode()


def shifted(clock: Callable[[], int], by_ms: int) -> Callable[[], int]:
    """A clock that is off."""
    return lambda: clock() + by_ms
