"""A NATS server as production has it (TLS before the greeting, an NKey each) refuses a service what is not its own.

The attacker here has stolen one service's key and speaks the NATS protocol himself, so that nothing but the server
stands in his way.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from daas.common.nats_config import inbox_prefix, permissions
from daas.common.nats_server import Tls, production_config
from daas.common.nkeys import nkey_public, nkey_secret, nkey_seed
from daas.common.subjects import (
    ADVISORIES,
    CATALOGUE,
    PLACEMENT_DECIDED,
    SECRET_SEAL,
    SNAPSHOT_BUCKET,
    Kind,
    Service,
    Stream,
    bucket_name,
    durable_name,
    stream_name,
)
from daas.devstack.identities import keep_certificate
from daas.devstack.nats import nats_server_binary
from daas.devstack.process import Process

pytestmark = [pytest.mark.connected, pytest.mark.timeout(300)]

CLUSTER = "dev"
SEEDS = {service: nkey_seed(bytes([number]) * 32) for number, service in enumerate(Service, start=1)}
SERVICES = sorted(set(Service) - {Service.OPERATOR})


@dataclass
class Thief:
    """A client of its own making, with a stolen seed. Refusals are collected as the server words them."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    service: Service
    seed: str
    refused: set[str] = field(default_factory=set)
    answers: dict[str, dict[str, object]] = field(default_factory=dict)

    async def sign_in(self) -> None:
        info = json.loads((await self.reader.readline()).removeprefix(b"INFO "))
        signature = base64.urlsafe_b64encode(nkey_secret(self.seed).sign(info["nonce"].encode())).decode().rstrip("=")
        options = {"nkey": nkey_public(self.seed), "sig": signature, "verbose": False, "pedantic": False}
        options |= {"protocol": 1, "headers": True, "no_responders": True, "lang": "test", "version": "0"}
        self.writer.write(b"CONNECT " + json.dumps(options).encode() + b"\r\n")
        await self.settle()

    async def settle(self) -> None:
        """Everything sent so far has been judged by the server."""
        self.writer.write(b"PING\r\n")
        await self.writer.drain()
        while (line := await asyncio.wait_for(self.reader.readline(), 100)).strip() != b"PONG":
            if not line:
                raise ConnectionError("the server has hung up")
            if line.startswith(b"-ERR"):
                if b"Permissions Violation" not in line:
                    raise ConnectionError(line.decode())
                self.refused.add(line.decode().split('"')[1])
            elif line.startswith((b"MSG", b"HMSG")):
                parts = line.split()
                body = await self.reader.readexactly(int(parts[-1]) + 2)
                start = int(parts[-2]) if line.startswith(b"HMSG") else 0
                if body[start:].startswith(b"{"):
                    self.answers[parts[1].decode()] = json.loads(body[start:])
            elif line == b"PING\r\n":
                self.writer.write(b"PONG\r\n")

    async def publish(self, subjects: Iterable[str], body: bytes = b"{}") -> set[str]:
        """Tries each, with an answer wanted at an inbox of its own; returns which were refused."""
        self.refused.clear()
        inbox = f"{inbox_prefix(self.service)}.x"
        for subject in subjects:
            self.writer.write(b"PUB %s %s %d\r\n%s\r\n" % (subject.encode(), inbox.encode(), len(body), body))
        await self.settle()
        return set(self.refused)

    async def subscribe(self, subjects: Iterable[str]) -> set[str]:
        """Tries each; returns which were refused."""
        self.refused.clear()
        for number, subject in enumerate(subjects):
            self.writer.write(f"SUB {subject} {number}\r\n".encode())
        await self.settle()
        return set(self.refused)

    async def ask(self, subject: str, body: dict[str, object] | None = None) -> dict[str, object]:
        """A JetStream request and its answer."""
        inbox = f"{inbox_prefix(self.service)}.{len(self.answers)}"
        payload = json.dumps(body or {}).encode()
        self.writer.write(f"SUB {inbox} ask{len(self.answers)}\r\nPUB {subject} {inbox} {len(payload)}\r\n".encode())
        self.writer.write(payload + b"\r\n")
        async with asyncio.timeout(100):
            while inbox not in self.answers:
                await self.settle()
        return self.answers[inbox]


class Server:
    """One nats-server with the production configuration, on a port that it chose."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = 0
        keep_certificate(directory / "tls", ["127.0.0.1"])
        tls = Tls(directory / "tls/server.pem", directory / "tls/server.key", directory / "tls/ca.pem")
        text = production_config(
            CLUSTER,
            server_name="guarded",
            store_dir=directory / "store",
            tls=tls,
            nkeys={service: nkey_public(seed) for service, seed in SEEDS.items()},
            host="127.0.0.1",
            port=-1,
            monitor_port=-1,
        )
        (directory / "nats.conf").write_text(text)
        argv: list[str | Path] = [nats_server_binary(), "-c", directory / "nats.conf", "--ports_file_dir", directory]
        self.process = Process("nats", argv, log_path=directory / "nats.log", announces=False)

    async def start(self) -> None:
        await self.process.start()
        async with asyncio.timeout(100):
            while not (found := list(self.directory.glob("*.ports"))) or not found[0].read_text().endswith("}"):
                assert self.process.running, self.process.log_tail()
                await asyncio.sleep(0.02)
        self.port = int(json.loads(found[0].read_text())["nats"][0].rpartition(":")[2])

    @asynccontextmanager
    async def thief(self, service: Service) -> AsyncIterator[Thief]:
        trusted = ssl.create_default_context(cafile=self.directory / "tls/ca.pem")
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=trusted, limit=2**20)
        try:
            thief = Thief(reader, writer, service, SEEDS[service])
            await thief.sign_in()
            yield thief
        finally:
            writer.close()
            await writer.wait_closed()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    running = Server(tmp_path)
    await running.start()
    try:
        async with running.thief(Service.OPERATOR) as operator:
            for stream in (Stream.LOG, Stream.PLACEMENT):
                name = stream_name(CLUSTER, stream)
                subjects = [s.full(CLUSTER) for s in CATALOGUE if s.stream is stream]
                made = await operator.ask(f"$JS.API.STREAM.CREATE.{name}", {"name": name, "subjects": subjects})
                assert "error" not in made, made
        yield running
    finally:
        await running.process.terminate()


def every_subject() -> list[str]:
    """Each subject of the catalogue, in this cluster and in another; dead letters, advisories, JetStream's own."""
    names = [stream_name(CLUSTER, stream) for stream in Stream] + [f"OBJ_{bucket_name(CLUSTER, SNAPSHOT_BUCKET)}"]
    streams = [
        f"$JS.API.STREAM.{verb}.{name}"
        for name in names
        for verb in ("CREATE", "UPDATE", "DELETE", "PURGE", "RESTORE", "SNAPSHOT", "MSG.DELETE", "MSG.GET", "INFO")
    ]
    durables = [
        f"$JS.API.CONSUMER.{verb}.{stream_name(CLUSTER, subject.stream)}.{durable_name(consumer, subject)}"
        for subject in CATALOGUE
        if subject.stream is not None
        for consumer in subject.consumers
        for verb in ("DELETE", "CREATE", "INFO", "MSG.NEXT", "PAUSE", "LEADER.STEPDOWN")
    ]
    return [
        *(subject.full(cluster) for subject in CATALOGUE for cluster in (CLUSTER, "other")),
        *streams,
        *durables,
        *(f"{advisory}.{name}.x" for advisory in ADVISORIES for name in names),
        *(
            f"$JS.API.{what}"
            for what in ("INFO", "STREAM.NAMES", "STREAM.LIST", "ACCOUNT.PURGE.x", "META.LEADER.STEPDOWN")
        ),
        *(f"$JS.ACK.{name}.x.1.2.3.4.5" for name in names),
        *(f"$O.{bucket_name(cluster, SNAPSHOT_BUCKET)}.{part}.x" for cluster in (CLUSTER, "other") for part in "MC"),
        *(f"{inbox_prefix(service)}.x" for service in Service),
        "$SYS.REQ.SERVER.PING",
        "$SYS.ACCOUNT.x",
        "daas.v1.dev.dlq.log",
        "daas.v1.other.dlq.log",
        "anything.else",
    ]


def allows(patterns: Iterable[str], subject: str) -> bool:
    """Whether one of NATS' subject patterns covers a subject."""
    tokens = subject.split(".")
    for pattern in patterns:
        wanted = pattern.split(".")
        for n, token in enumerate(wanted):
            if token == ">" and len(tokens) > n:
                return True
            if n >= len(tokens) or token not in {"*", tokens[n]}:
                break
        else:
            if len(wanted) == len(tokens):
                return True
    return False


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_is_refused_every_subject_that_is_not_its_own(server: Server, service: Service) -> None:
    granted = permissions(CLUSTER, service)
    foreign = [s for s in every_subject() if not allows(granted.publish, s)]
    assert len(foreign) > 200
    async with server.thief(service) as thief:
        assert await thief.publish(foreign) == set(foreign)

        own = {s for s in CATALOGUE if service in s.consumers and s.kind is Kind.REQUEST}
        deaf = [s.full(CLUSTER) for s in CATALOGUE if s not in own and not allows(granted.subscribe, s.full(CLUSTER))]
        deaf += [f"{inbox_prefix(other)}.>" for other in Service if other is not service]
        deaf += [">", "$JS.>", "$SYS.>", "daas.v1.>", "daas.v1.other.>", "_INBOX.>", "*.*.*.*.*", "$JS.API.>", "$O.>"]
        assert await thief.subscribe(deaf) == set(deaf)


async def test_a_stolen_gateway_key_forges_no_decision_reads_no_secret_request_and_deletes_no_stream(
    server: Server,
) -> None:
    placement, log = (stream_name(CLUSTER, stream) for stream in (Stream.PLACEMENT, Stream.LOG))
    async with server.thief(Service.GATEWAY) as thief:
        forged = [PLACEMENT_DECIDED.full(CLUSTER), f"$JS.API.STREAM.DELETE.{log}", f"$JS.API.STREAM.PURGE.{placement}"]
        assert await thief.publish(forged) == set(forged)
        listening = [SECRET_SEAL.full(CLUSTER), f"daas.v1.{CLUSTER}.secret.>", f"daas.v1.{CLUSTER}.>"]
        assert await thief.subscribe(listening) == set(listening)
    async with server.thief(Service.OPERATOR) as operator:
        for name in (placement, log):
            state = (await operator.ask(f"$JS.API.STREAM.INFO.{name}"))["state"]
            assert isinstance(state, dict)
            assert state["messages"] == 0


async def test_nothing_is_said_before_tls_and_no_key_means_no_entry(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"CONNECT {}\r\nPING\r\n")
    said = b""
    try:
        async with asyncio.timeout(100):
            said = await reader.read(4096)
    except ConnectionError:
        pass
    assert b"INFO" not in said
    assert b"PONG" not in said
    writer.close()

    strangers = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection("127.0.0.1", server.port, ssl=strangers)

    trusted = ssl.create_default_context(cafile=server.directory / "tls/ca.pem")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusted)
    thief = Thief(reader, writer, Service.GATEWAY, nkey_seed(b"?" * 32))
    with pytest.raises(ConnectionError, match="Authorization Violation"):
        await thief.sign_in()
    writer.close()
