"""An API server that is a bad neighbour: a proxy before it which refuses for load, loses answers and cuts watches."""

import asyncio
import json
import random
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import aiohttp
from aiohttp import web

from daas.common.errors import NotFound
from daas.devstack.apiserver.certificates import load_identity, write_kubeconfig

#: Headers that belong to one connection, not to the request.
HOP = frozenset({"host", "connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding"})


@dataclass(frozen=True)
class Moods:
    """How often which fault happens, as probabilities for each request; watches end after so many seconds.

    Attributes:
        overloaded: 429 with Retry-After, nothing was done.
        failed: 500, nothing was done.
        refused: the connection is closed before anything was done.
        unanswered: the request is carried out and its answer is lost.
        watch_s: longest life of a watch; it is cut in the middle of whatever it was saying.
    """

    overloaded: float = 0.0
    failed: float = 0.0
    refused: float = 0.0
    unanswered: float = 0.0
    watch_s: float = 3600.0


class UnrulyApiServer:
    """A proxy on 127.0.0.1 with its own certificate and kubeconfig, before an API server that may come and go.

    Args:
        state: directory for certificate and kubeconfig.
        behind: the state directory of the development API server behind it, whose token clients use.
        upstream: says where that server listens now.
        seed: of the faults.
    """

    def __init__(self, state: Path, behind: Path, upstream: Callable[[], str], seed: int) -> None:
        behind.mkdir(parents=True, exist_ok=True)
        state.mkdir(parents=True, exist_ok=True)
        self._behind = load_identity(behind)
        self._own = load_identity(state)
        self._upstream = upstream
        self._random = random.Random(seed)
        self.moods = Moods()
        self.kubeconfig = state / "kubeconfig"
        self.injected: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        tls = ssl.create_default_context(cafile=str(self._behind.ca_file))
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, limit=0), auto_decompress=False)
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._own.tls())
        await site.start()
        host, port = self._runner.addresses[0][:2]
        write_kubeconfig(self.kubeconfig, f"https://{host}:{port}", replace(self._own, token=self._behind.token))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def _cut(self, request: web.Request, what: str) -> web.Response:
        self.injected[what] += 1
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    def _status(self, code: int, reason: str, what: str, **headers: str) -> web.Response:
        self.injected[what] += 1
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
        return web.Response(
            status=code, body=json.dumps(status | {"message": what}), content_type="application/json", headers=headers
        )

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        moods = self.moods
        if "watch" in request.query:
            return await self._watch(request, moods)
        dice = self._random.random
        if dice() < moods.overloaded:
            return self._status(429, "TooManyRequests", "overloaded", **{"Retry-After": "0.05"})
        if dice() < moods.failed:
            return self._status(500, "InternalError", "failed")
        if dice() < moods.refused:
            return self._cut(request, "refused")
        lost = dice() < moods.unanswered
        try:
            async with self._send(request, await request.read()) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, NotFound):
            return self._cut(request, "away")
        if lost:
            return self._cut(request, "unanswered")
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP}
        return web.Response(status=answer.status, body=body, headers=kept)

    def _send(self, request: web.Request, body: bytes) -> aiohttp.client._RequestContextManager:
        kept = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        return self._session.request(
            request.method,
            self._upstream() + request.path_qs,
            data=body or None,
            headers=kept,
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def _watch(self, request: web.Request, moods: Moods) -> web.StreamResponse:
        out = web.StreamResponse()
        life_s = moods.watch_s * self._random.uniform(0.3, 1.0)
        try:
            async with asyncio.timeout(life_s), self._send(request, b"") as answer:
                out.set_status(answer.status)
                out.content_type = "application/json"
                await out.prepare(request)
                async for chunk in answer.content.iter_any():
                    await out.write(chunk)
        except (aiohttp.ClientError, ConnectionError, NotFound):
            return self._cut(request, "away")
        except TimeoutError:
            return self._cut(request, "watch cut")
        return out
