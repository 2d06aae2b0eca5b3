"""Those who watch while others die: a monitor on the gateway's event stream, and a watch on etcd; both resume."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from daas.common.errors import DaasError
from daas.devstack.stack import Stack
from daas.etcd import EtcdClient, WatchEvent

_AGAIN_S = 0.2
#: A fact tells of up to 512 pods.
_LINE_BYTES = 1024 * 1024


class Followers:
    """What they have seen."""

    def __init__(self, stack: Stack, etcd: EtcdClient, root: str) -> None:
        self._stack, self._etcd, self._root = stack, etcd, root
        #: Facts of bindings by their number in the stream, as the event stream told them, repetitions included.
        self.bound: list[tuple[int, dict[str, Any]]] = []
        self.resumed = 0
        self.changes: list[WatchEvent] = []

    async def watch_etcd(self) -> None:
        """Every change of the cluster's keys since the beginning."""
        async for event in self._etcd.watch(self._root, start_revision=1):
            self.changes.append(event)

    async def follow_events(self) -> None:
        """As a browser does it: after a lost connection with the number of the last event."""
        async with aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError, OSError, DaasError, TimeoutError, KeyError):
                    await self._listen(session)
                self.resumed += 1
                await asyncio.sleep(_AGAIN_S)

    async def _listen(self, session: aiohttp.ClientSession) -> None:
        async with session.get(f"{self._stack.ready('gateway', 'http')}/status") as answer:
            url = (await answer.json())["api"]
        headers = {"Last-Event-ID": str(self.bound[-1][0])} if self.bound else {}
        timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
        query = {"facts": "placement.bound", "from": "1"}
        async with session.get(
            f"{url}/v1/events", params=query, headers=headers, timeout=timeout, read_bufsize=_LINE_BYTES
        ) as answer:
            event: dict[str, str] = {}
            async for raw in answer.content:
                name, _, value = raw.decode().rstrip("\n").partition(": ")
                if name:
                    event[name] = value
                elif event:
                    if event.get("event") == "placement.bound":
                        self.bound.append((int(event["id"]), json.loads(event["data"])))
                    event = {}


@asynccontextmanager
async def following(stack: Stack, etcd: EtcdClient, root: str) -> AsyncIterator[Followers]:
    """They watch for as long as it is entered."""
    followers = Followers(stack, etcd, root)
    tasks = [asyncio.create_task(followers.watch_etcd()), asyncio.create_task(followers.follow_events())]
    try:
        yield followers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        assert task.cancelled(), task.exception()
