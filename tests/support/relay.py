"""A relay between a real bus and a real ledger, with operators and enclaves that the tests play themselves."""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from daas.attestation import NsmClient, commit_policy
from daas.common import decision, merkle, subjects
from daas.common.bus import Bus, BusSettings, StoredMessage
from daas.common.facts import fact_of
from daas.common.messages import (
    DeadLetter,
    DecidedLeaf,
    EnclaveAttested,
    EnclaveChallenged,
    EnclaveRegistered,
    Header,
    Message,
    PlacementAnchored,
    PlacementDecided,
    PlacementRefused,
    decode,
)
from daas.common.subjects import Service, Stream, Subject
from daas.devstack.nats import NatsServer
from daas.devstack.nsm import DevelopmentAuthority, SoftwareNsm, create_root, development_measurement
from daas.devstack.process import Process
from daas.ledger import Ledger, Limits, Registry, Signer

M = TypeVar("M", bound=Message)

POLICY = merkle.digest(b"policy")
CLUSTER = "test"
FAUCET_MIST = 100 * 10**9
DEADLINE_S = 120.0


class _Transport:
    """The software NSM, called instead of connected to."""

    simulated = True

    def __init__(self, nsm: SoftwareNsm) -> None:
        self._nsm = nsm

    def exchange(self, request: bytes) -> bytes:
        return self._nsm.process(request)

    def close(self) -> None:
        """Nothing is open."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def until(condition: Callable[[], Awaitable[bool]], what: str, *, timeout_s: float = DEADLINE_S) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"after {timeout_s} s still not: {what}"
        await asyncio.sleep(0.02)


class Enclave:
    """An enclave's key and what it signs: a chain of batches, as a scheduler would make them."""

    def __init__(self, stage: "RelayStage", measure: tuple[str, ...] = (), *, policy: bytes = POLICY) -> None:
        self.stage = stage
        self.key = Ed25519PrivateKey.generate()
        self.public_key = self.key.public_key().public_bytes_raw().hex()
        nsm = SoftwareNsm(stage.authority, development_measurement(measure), now_ms)
        self.nsm = NsmClient(_Transport(nsm))
        commit_policy(self.nsm, policy)
        self.measurement = development_measurement(measure)

    def document(self, nonce: str, **changes: bytes) -> bytes:
        """An attestation document that answers a nonce."""
        registry = self.stage.registry
        fields = {
            "user_data": merkle.digest(registry.chain + bytes.fromhex(registry.address[2:]) + POLICY),
            "nonce": bytes.fromhex(nonce),
            "public_key": self.key.public_key().public_bytes_raw(),
        }
        return self.nsm.attestation(**(fields | changes))

    async def attest(self, document: bytes, /, **changes: Any) -> int:
        """Publishes `enclave.attested`; returns its stream sequence."""
        fields: dict[str, Any] = {
            "public_key": self.public_key,
            "policy": POLICY.hex(),
            "document": base64.b64encode(document).decode(),
            "simulated": True,
        }
        body = EnclaveAttested(**(fields | changes))
        return await self.stage.enclave_bus.publish(
            subjects.ENCLAVE_ATTESTED, body, message_id=f"attested:{merkle.digest(document).hex()}"
        )

    async def register(self) -> EnclaveRegistered:
        """Attests to the newest challenge and waits until the key is registered."""
        challenge = await self.stage.challenge()
        await self.attest(self.document(challenge.nonce))

        async def mine() -> bool:
            return any(f.public_key == self.public_key for f in await self.stage.registrations())

        await until(mine, "registered")
        return next(f for f in await self.stage.registrations() if f.public_key == self.public_key)

    def decide(
        self, sequence: int, previous: str, *, pods: int = 2, salt: str = "", **changed: Any
    ) -> PlacementDecided:
        """A signed decision. Fields of the header can be given, as can `timestamp_ms` and `simulated`."""
        registry = self.stage.registry
        timestamp_ms = changed.pop("timestamp_ms", now_ms())
        simulated = changed.pop("simulated", True)
        leaves = tuple(
            DecidedLeaf(
                pod_uid=f"uid-{sequence}-{n}{salt}",
                namespace="default",
                name=f"pod-{sequence}-{n}",
                resource_version="1",
                node="node-1",
                score=100,
                reasons=0,
            )
            for n in range(pods)
        )
        fields: dict[str, Any] = {
            "chain": registry.chain.hex(),
            "registry": registry.address,
            "sequence": sequence,
            "previous": previous,
            "log_sequence": sequence,
            "log_root": merkle.digest(b"log").hex(),
            "policy": POLICY.hex(),
            "state_root": merkle.digest(b"state").hex(),
            "decisions": merkle.root([decision.leaf_bcs(leaf) for leaf in leaves]).hex(),
            "count": len(leaves),
            "expires_ms": timestamp_ms + 30_000,
        }
        header = Header(**(fields | changed))
        message = decision.intent_message(1, timestamp_ms, decision.header_bcs(header))
        return PlacementDecided(
            header=header,
            payload_digest=decision.payload_digest(header).hex(),
            timestamp_ms=timestamp_ms,
            public_key=self.public_key,
            signature=self.key.sign(message).hex(),
            simulated=simulated,
            leaves=leaves,
        )

    def chain(self, count: int, first: int, previous: str, **changed: Any) -> list[PlacementDecided]:
        """Decisions that follow each other."""
        made = []
        for sequence in range(first, first + count):
            made.append(self.decide(sequence, previous, **changed))
            previous = made[-1].payload_digest
        return made


class RelayStage:
    """nats-server, ledger, registry, and a relay that can be killed. `await stage.start_relay()` starts it."""

    def __init__(
        self,
        folder: Path,
        *,
        limits: Limits | None = None,
        ledger_clock_ms: int | None = None,
        pinned: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.nats = NatsServer(folder / "nats")
        arguments = [] if ledger_clock_ms is None else ["--clock-ms", str(ledger_clock_ms)]
        arguments += [argument for digest in pinned for argument in ("--package-digest", digest)]
        self.ledger_process = Process(
            "ledger",
            ["python", "-m", "daas.devstack.ledger", "--state", folder / "ledger", *arguments],
            log_path=folder / "ledger.log",
        )
        self.authority = DevelopmentAuthority(create_root(now_ms()))
        self.operator = Signer.generate(folder / "operator.key")
        self.relay: Process | None = None
        self.relay_ledger_url: str | None = None
        self._limits = limits
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.relay is not None:
            await self.relay.terminate()
        await self._stack.aclose()

    async def _start(self) -> None:
        await self._stack.enter_async_context(self.nats)
        await self._stack.enter_async_context(self.ledger_process)
        settings = BusSettings(nats_url=self.nats.url, cluster=CLUSTER)
        self.enclave_bus = await self._stack.enter_async_context(await Bus.connect(Service.ENCLAVE, settings))
        self.monitor = await self._stack.enter_async_context(await Bus.connect(Service.OPERATOR, settings))
        await self.monitor.declare()
        await self.fund(self.operator.address)
        self.ledger = await self._stack.enter_async_context(await Ledger.connect(self.ledger_url, self.operator))
        publication = await self.ledger.publish()
        self.package = publication.package
        self.registry: Registry = await self.ledger.create_registry(
            simulated=True, policy=POLICY, pcrs=self.pcrs(), limits=self._limits
        )

    @staticmethod
    def pcrs(measure: tuple[str, ...] = ()) -> tuple[bytes, bytes, bytes]:
        found = development_measurement(measure)
        return found.pcr0, found.pcr1, found.pcr2

    @property
    def ledger_url(self) -> str:
        return str(self.ledger_process.ready["url"])

    async def fund(self, address: str, amount_mist: int = FAUCET_MIST) -> None:
        body = {"FixedAmountRequest": {"recipient": address, "amount": amount_mist}}
        faucet = self.ledger_process.ready["faucet"]
        async with aiohttp.ClientSession() as session, session.post(faucet, json=body) as answer:
            assert answer.status < 300, await answer.text()

    async def congest(self, transactions: int) -> None:
        """The ledger cancels so many of the next transactions that change shared objects."""
        url, body = self.ledger_process.ready["congestion"], {"transactions": transactions}
        async with aiohttp.ClientSession() as session, session.put(url, json=body) as answer:
            assert answer.status < 300, await answer.text()

    def environment(self, **settings: str) -> dict[str, str]:
        return {
            "DAAS_NATS_URL": self.nats.url,
            "DAAS_CLUSTER": CLUSTER,
            "DAAS_STATE_DIR": str(self.folder / "relay"),
            "DAAS_RELAY_LEDGER_URL": self.relay_ledger_url or self.ledger_url,
            "DAAS_RELAY_PACKAGE": self.package,
            "DAAS_RELAY_REGISTRY": self.registry.address,
            "DAAS_RELAY_KEYSTORE": str(self.folder / "operator.key"),
            "DAAS_RELAY_DEVELOPMENT_ROOT": self.authority.root_sha256.hex(),
            **settings,
        }

    async def start_relay(self, **settings: str) -> None:
        """Starts the relay, or starts it again."""
        log_path = self.folder / "relay.log"
        environment = self.environment(**settings)
        self.relay = Process("relay", ["python", "-m", "daas.relay"], log_path=log_path, env=environment)
        await self.relay.start()

    async def kill_relay(self) -> None:
        assert self.relay is not None
        await self.relay.kill()

    async def stop_relay(self) -> None:
        assert self.relay is not None
        assert await self.relay.terminate() == 0

    async def enclave(self) -> Enclave:
        """A registered enclave."""
        enclave = Enclave(self)
        await enclave.register()
        return enclave

    # The bus as it is.

    async def publish(self, decided: PlacementDecided, attempt: int = 1, bus: Bus | None = None) -> int:
        """Publishes a decision; returns its stream sequence."""
        return await (bus or self.enclave_bus).publish(
            subjects.PLACEMENT_DECIDED,
            decided,
            message_id=f"decided:{decided.payload_digest}:{decided.public_key}:{decided.signature[:8]}:{attempt}",
        )

    async def stored(self, stream: Stream, *wanted: Subject) -> list[StoredMessage]:
        """What a stream holds on some subjects."""
        first, last = await self.monitor.stream_bounds(stream)
        if last < max(first, 1):
            return []
        names = {subject.full(CLUSTER) for subject in wanted}
        found = []
        async with contextlib.aclosing(self.monitor.read(stream, start=first)) as messages:
            async for message in messages:
                if not names or message.subject in names:
                    found.append(message)
                if message.sequence >= last:
                    break
        return found

    async def facts(self, subject: Subject, body: type[M]) -> list[M]:
        """Every fact on a subject, in order."""
        assert subject.stream is not None
        return [fact_of(message, subject, body) for message in await self.stored(subject.stream, subject)]

    async def anchored(self) -> list[PlacementAnchored]:
        return await self.facts(subjects.PLACEMENT_ANCHORED, PlacementAnchored)

    async def refused(self) -> list[PlacementRefused]:
        return await self.facts(subjects.PLACEMENT_REFUSED, PlacementRefused)

    async def registrations(self) -> list[EnclaveRegistered]:
        return await self.facts(subjects.ENCLAVE_REGISTERED, EnclaveRegistered)

    async def challenge(self) -> EnclaveChallenged:
        """The challenge for the registry's nonce of now."""
        nonce = (await self.ledger.registry(self.registry.address)).nonce.hex()
        found: list[EnclaveChallenged] = []

        async def given_out() -> bool:
            found[:] = await self.facts(subjects.ENCLAVE_CHALLENGED, EnclaveChallenged)
            return bool(found) and found[-1].nonce == nonce

        await until(given_out, "the newest nonce is given out")
        return found[-1]

    async def wait_anchored(
        self, sequence: int, *, first: int = 1, timeout_s: float = DEADLINE_S
    ) -> list[PlacementAnchored]:
        """Waits for the anchor of a number; returns those from `first` on."""

        async def there() -> bool:
            last = await self.monitor.last(subjects.PLACEMENT_ANCHORED)
            return last is not None and decode(last.data, PlacementAnchored).sequence >= sequence

        await until(there, f"{sequence} is anchored", timeout_s=timeout_s)
        return [fact for fact in await self.anchored() if fact.sequence >= first]

    async def wait_refused(self, message: int) -> PlacementRefused:
        """Waits until the decision at a stream sequence is refused."""
        found: list[PlacementRefused] = []

        async def there() -> bool:
            found[:] = [f for f in await self.refused() if f.decided_sequence == message]
            return bool(found)

        await until(there, f"message {message} is refused")
        return found[0]

    async def dead_letters(self) -> list[DeadLetter]:
        return [decode(message.data, DeadLetter) for message in await self.stored(Stream.DLQ)]

    async def wait_dead(self, stream: Stream, message: int) -> DeadLetter:
        """Waits for the dead letter about a message."""
        found: list[DeadLetter] = []

        async def there() -> bool:
            letters = await self.dead_letters()
            found[:] = [d for d in letters if d.stream == stream.value and d.stream_sequence == message]
            return bool(found)

        await until(there, f"message {message} of {stream} is a dead letter")
        return found[0]

    async def as_operator(self) -> Ledger:
        """The operator's connection, which looks its coins and capabilities up again: the relay uses the same key."""
        self.ledger.forget()
        return self.ledger

    async def head(self) -> tuple[int, str]:
        """Number and digest of the ledger's newest batch."""
        registry = await self.ledger.registry(self.registry.address)
        return registry.sequence, registry.head.hex()

    async def status(self) -> dict[str, Any]:
        """What the relay says on /status."""
        assert self.relay is not None
        async with aiohttp.ClientSession() as session, session.get(self.relay.ready["http"] + "/status") as answer:
            found: dict[str, Any] = msgspec.json.decode(await answer.read())
            return found

    async def unready(self) -> dict[str, Any]:
        """What keeps the relay from being ready, by check; empty where nothing does."""
        assert self.relay is not None
        async with aiohttp.ClientSession() as session, session.get(self.relay.ready["http"] + "/readyz") as answer:
            found: dict[str, Any] = msgspec.json.decode(await answer.read())
            return {} if answer.status == 200 else found

    async def metric(self, name: str) -> float:
        """A metric of the relay, summed over its labels."""
        assert self.relay is not None
        async with aiohttp.ClientSession() as session, session.get(self.relay.ready["http"] + "/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


@contextlib.asynccontextmanager
async def relay_stage(folder: Path, **options: Any) -> AsyncIterator[RelayStage]:
    """A stage whose relay runs."""
    async with RelayStage(folder, **options) as stage:
        await stage.start_relay()
        yield stage
