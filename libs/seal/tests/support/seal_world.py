"""Key servers on loopback, their clients' view of them, and users: what the tests of client and server share."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from seal_ledger import AccessLedger, LedgerView, user_address

from daas.seal import Ed25519Signer, KeyServer, MasterKey, SessionKey, Shared
from daas.seal.server import (
    Aggregator,
    CommitteeMemberKeys,
    KeyServerApp,
    KeyServerSettings,
    Member,
    OpenKeys,
    Rate,
)

FAST = Rate(per_second=1_000_000.0, burst=1_000_000)
UNLIMITED = KeyServerSettings(network_rate=FAST, user_rate=FAST)


@asynccontextmanager
async def serve(app: web.Application) -> AsyncIterator[str]:
    """The URL under which an application answers on loopback."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@dataclass
class User:
    """An account on the ledger."""

    seed: bytes = field(default_factory=lambda: os.urandom(32))

    @property
    def signer(self) -> Ed25519Signer:
        return Ed25519Signer(self.seed)

    @property
    def address(self) -> bytes:
        return user_address(self.seed)


@dataclass
class Server:
    """One running key server: its application, its secret and how clients know it."""

    app: KeyServerApp | Aggregator
    known: KeyServer
    master_key: MasterKey


class World:
    """A ledger with the policy, users in and outside of its list, and key servers that ask it."""

    def __init__(self, state: Path) -> None:
        self.ledger = AccessLedger(state)
        self.view = LedgerView(self.ledger, {"@test/access": self.ledger.package})
        self.member, self.stranger = User(), User()
        self.access = self.ledger.create_access([self.member.address])
        self.servers: list[Server] = []
        self._stack = AsyncExitStack()

    @property
    def package(self) -> bytes:
        return self.ledger.package

    @property
    def known(self) -> list[KeyServer]:
        return [server.known for server in self.servers]

    async def stop_servers(self) -> None:
        await self._stack.aclose()

    async def close(self) -> None:
        await self.stop_servers()
        self.ledger.close()

    def inner_id(self, name: bytes = b"", access: Shared | None = None) -> bytes:
        """An id that the policy accepts."""
        return (access or self.access).object_id + name

    async def session(self, user: User | None = None, **options: object) -> SessionKey:
        return await SessionKey.create((user or self.member).signer, self.package, **options)  # type: ignore[arg-type]  # keywords of create

    async def add(
        self,
        weight: int = 1,
        settings: KeyServerSettings = UNLIMITED,
        wrap: Callable[[web.Application], web.Application] | None = None,
    ) -> Server:
        """Starts an open key server; `wrap` may put something in front of it."""
        object_id, key = os.urandom(32), MasterKey.generate()
        app = KeyServerApp(OpenKeys(object_id, key), self.view, settings=settings)
        web_app = app.application()
        url = await self._stack.enter_async_context(serve(wrap(web_app) if wrap else web_app))
        known = KeyServer(
            object_id=object_id, url=url, public_key=key.public_key, weight=weight, name=f"server-{len(self.servers)}"
        )
        self.servers.append(Server(app, known, key))
        return self.servers[-1]

    async def add_committee(self, threshold: int, count: int) -> Server:
        """Starts a committee's members and its aggregator."""
        key = MasterKey.generate()
        members = []
        for party, share in enumerate(key.split(threshold, count)):
            app = KeyServerApp(CommitteeMemberKeys(share, 0), self.view, settings=UNLIMITED)
            url = await self._stack.enter_async_context(serve(app.application()))
            server = KeyServer(object_id=bytes(32), url=url, public_key=share.public_key, name=f"member-{party}")
            members.append(Member(party_id=party, server=server))
        aggregator = Aggregator(tuple(members), threshold, key.public_key, self.view)
        url = await self._stack.enter_async_context(serve(aggregator.application()))
        known = KeyServer(
            object_id=os.urandom(32), url=url, public_key=key.public_key, name="committee", committee=True
        )
        self.servers.append(Server(aggregator, known, key))
        return self.servers[-1]

    async def add_application(self, app: web.Application) -> KeyServer:
        """Something that answers in a key server's place, under a key that it does not have."""
        url = await self._stack.enter_async_context(serve(app))
        return KeyServer(object_id=os.urandom(32), url=url, public_key=MasterKey.generate().public_key, name="impostor")


def answering(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.Application:
    """An application that answers every request in one way."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    return app
