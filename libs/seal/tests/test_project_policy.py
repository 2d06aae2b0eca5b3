"""Our key servers and the project's own Move policies: stake, tickets and sessions decide who gets a key."""

import asyncio
import json
import os
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from seal_world import FAST, serve

from daas.common import bcs
from daas.ledger import Ledger, MoveAbortError, Parameters, Rules, Signer
from daas.ledger.cluster import Policy
from daas.ledger.transaction import MoveCall, Object
from daas.ledger.transaction import Pure as PureArgument
from daas.seal import (
    ApproveCall,
    Ed25519Signer,
    KeyServer,
    MasterKey,
    NotEnoughKeys,
    Pure,
    SealClient,
    SessionKey,
    Shared,
    build_ptb,
    format_address,
    parse_address,
)
from daas.seal.client import ClientSettings
from daas.seal.ptb import Input
from daas.seal.server import Approval, Denial, KeyServerApp, KeyServerSettings, OpenKeys, PolicyRequest
from daas.seal.session import system_clock_ms

pytestmark = pytest.mark.connected

FUNDS_MIST = 1_000_000_000_000
CLOCK = Shared(bytes(31) + b"\x06", 1)
QUICK = ClientSettings(attempts_max=1)
SETTINGS = KeyServerSettings(
    network_rate=FAST, user_rate=FAST, session_bound=frozenset({"policy::seal_approve_ticket"})
)


class LedgerClientView:
    """A PolicyEvaluator over a full node's simulation, call by call, objects at their current versions."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def first_package_id(self, package_id: bytes) -> bytes:
        return package_id

    async def package_of_name(self, name: str) -> bytes:
        raise NotImplementedError(name)

    async def has_aliases(self, address: bytes) -> bool:
        return not address

    async def evaluate(self, request: PolicyRequest) -> Approval | Denial:
        package = format_address(request.transaction.package_id)
        # The simulated ledger's state is that of the moment.
        now_ms = system_clock_ms()
        for call in request.transaction.calls:
            arguments = tuple(
                PureArgument(each.value) if isinstance(each, Pure) else Object(format_address(each.object_id))
                for each in call.arguments
            )
            move_call = MoveCall(package, call.module, call.function, arguments)
            try:
                await self._ledger.view(move_call, format_address(request.sender))
            except MoveAbortError as error:
                return Denial(error.name or error.reason, now_ms)
        return Approval(now_ms)


class Person:
    """An account with money, its connection to the ledger, and its sessions."""

    def __init__(self, ledger: Ledger, seed: bytes, package: bytes) -> None:
        self.ledger, self.package = ledger, package
        self.signer = Ed25519Signer(seed)

    async def session(self) -> SessionKey:
        return await SessionKey.create(self.signer, self.package)


class Cluster:
    """A ledger process with the project's package, one policy maker, and a key server."""

    def __init__(self, ready: dict[str, Any]) -> None:
        self.ready = ready
        self.package = b""
        self.ledgers: list[Ledger] = []

    async def person(self) -> Person:
        seed = os.urandom(32)
        signer = Signer(seed)
        body = json.dumps({"FixedAmountRequest": {"recipient": signer.address, "amount": FUNDS_MIST}}).encode()
        request = urllib.request.Request(
            self.ready["faucet"], data=body, headers={"Content-Type": "application/json"}, method="POST"
        )
        await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=60).close())
        known = format_address(self.package) if self.package else None
        ledger = await Ledger.connect(self.ready["url"], signer, package=known)
        self.ledgers.append(ledger)
        return Person(ledger, seed, self.package)

    async def start(self) -> None:
        self.maker = await self.person()
        self.package = self.maker.package = parse_address((await self.maker.ledger.publish()).package)
        self.registry = await self.maker.ledger.create_registry(
            simulated=True,
            policy=b"\x0b" * 32,
            pcrs=(b"\x01" * 48, b"\x02" * 48, b"\x03" * 48),
            parameters=Parameters(),
        )
        self.pool = Object((await self.maker.ledger.places(self.registry.address))[0])

    def ptb(
        self, policy: Policy, function: str, sealed_id: bytes, *extra: Input, head: tuple[Input, ...] = ()
    ) -> bytes:
        # Key servers resolve versions anew: those in the transaction may be of any time.
        policy_object = Shared(parse_address(policy.address), 1)
        pool = Shared(parse_address(self.pool.object_id), 1)
        call = ApproveCall(
            module="policy",
            function=function,
            inner_id=sealed_id,
            arguments=(*head, policy_object, pool, *extra, CLOCK),
        )
        return build_ptb(self.package, [call])


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "daas.devstack.ledger", "--state", str(tmp_path), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    cluster = Cluster(json.loads(await process.stdout.readline()))
    try:
        await cluster.start()
        yield cluster
    finally:
        for ledger in cluster.ledgers:
            await ledger.close()
        process.terminate()
        await process.wait()


@pytest.fixture
async def seal(cluster: Cluster) -> AsyncIterator[SealClient]:
    key, object_id = MasterKey.generate(), os.urandom(32)
    app = KeyServerApp(OpenKeys(object_id, key), LedgerClientView(cluster.maker.ledger), settings=SETTINGS)
    async with serve(app.application()) as url:
        known = KeyServer(object_id=object_id, url=url, public_key=key.public_key)
        async with SealClient([known], settings=QUICK) as client:
            yield client


async def refused(client: SealClient, sealed: bytes, session: SessionKey, ptb: bytes, reason: str) -> None:
    with pytest.raises(NotEnoughKeys, match=reason) as caught:
        await client.decrypt(sealed, session, ptb)
    assert caught.value.reason == "no-access"


async def test_stake_opens_and_its_lack_is_the_reason_given(cluster: Cluster, seal: SealClient) -> None:
    policy = await cluster.maker.ledger.policies.create(cluster.registry.address, Rules(required_stake_mist=200_000))
    inner = policy.namespace + b"db/password"
    sealed = seal.encrypt(cluster.package, inner, b"hello", threshold=1)
    ptb = cluster.ptb(policy, "seal_approve", inner)
    await refused(seal, sealed, await cluster.maker.session(), ptb, "ENotEnoughStake")
    await cluster.maker.ledger.staking.deposit(cluster.registry.address, 200_000)
    assert await seal.decrypt(sealed, await cluster.maker.session(), ptb) == b"hello"
    stranger = await cluster.person()
    await refused(seal, sealed, await stranger.session(), ptb, "ENotEnoughStake")


async def test_three_tickets_give_three_sessions_a_key_and_no_other(cluster: Cluster, seal: SealClient) -> None:
    policy = await cluster.maker.ledger.policies.create(
        cluster.registry.address, Rules(usage_limit=3, ticket_ttl_ms=600_000)
    )
    inner = policy.namespace + b"db/password"
    sealed = seal.encrypt(cluster.package, inner, b"hello", threshold=1)
    people = [await cluster.person() for _ in range(4)]
    sessions = [await person.session() for person in people]
    bought = await asyncio.gather(
        *(
            person.ledger.policies.buy_ticket(policy, inner, session.verification_key)
            for person, session in zip(people, sessions, strict=True)
        ),
        return_exceptions=True,
    )
    tickets = [ticket for ticket in bought if not isinstance(ticket, BaseException)]
    assert len(tickets) == 3
    await refused(seal, sealed, sessions[0], cluster.ptb(policy, "seal_approve", inner), "ETicketRequired")

    def with_ticket(address: str, session: SessionKey) -> bytes:
        head = (Pure(bcs.bytes_(session.verification_key)),)
        return cluster.ptb(policy, "seal_approve_ticket", inner, Shared(parse_address(address), 1), head=head)

    for person, session, ticket in zip(people, sessions, bought, strict=True):
        if isinstance(ticket, BaseException):
            assert isinstance(ticket, MoveAbortError)
            assert ticket.name == "ELimitReached"
            await refused(seal, sealed, session, with_ticket(tickets[0].address, session), "EWrongTicket")
            continue
        assert await seal.decrypt(sealed, session, with_ticket(ticket.address, session)) == b"hello"
        # The same person with a new session: neither by naming it nor by naming the old one.
        again = await person.session()
        await refused(seal, sealed, again, with_ticket(ticket.address, again), "EWrongTicket")
        await refused(seal, sealed, again, with_ticket(ticket.address, session), "another session")
