"""Nodes that crash, hold another state or speak TLS, and a client that keeps its footing."""

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from daas.ledger import Anchored, Ledger, RpcError, Signer

if TYPE_CHECKING:
    from libs.ledger.tests.conftest import Cluster, Server

pytestmark = pytest.mark.connected


async def test_a_transaction_on_an_old_coin_is_refused_and_the_client_recovers(
    server: "Server", operator: Signer, ledger: Ledger, cluster: "Cluster"
) -> None:
    stale = await ledger.build_anchor(cluster.batch(1))
    async with await Ledger.connect(server.url, operator, package=ledger.package) as other:
        await other.set_policy(cluster.registry.address, bytes(32))
    with pytest.raises(RpcError) as refused:
        await ledger.submit(stale)
    assert refused.value.reason == "stale-object"
    assert await ledger.transaction(stale.digest) is None
    await ledger.submit(await ledger.build_anchor(cluster.batch(1)))


async def test_signed_bytes_survive_a_kill_of_the_node(
    own_server: "Server", create_cluster: Callable[[Ledger], Awaitable["Cluster"]]
) -> None:
    own = own_server
    own.start()
    signer = Signer(os.urandom(32))
    own.fund(signer.address)
    async with await Ledger.connect(own.url, signer) as ledger:
        await ledger.publish()
        cluster = await create_cluster(ledger)
        first = await ledger.submit(await ledger.build_anchor(cluster.batch(1)))
        batch = cluster.batch(2, first.only(Anchored).payload_digest.hex())
        transaction = await ledger.build_anchor(batch)
        package = ledger.package
        own.kill()
        with pytest.raises(RpcError) as refused:
            await ledger.submit(transaction)
        assert refused.value.retryable
    own.start()
    async with await Ledger.connect(own.url, signer, package=package) as ledger:
        assert (await ledger.registry(cluster.registry.address)).sequence == 1
        effects = await ledger.submit(transaction)
        assert effects.only(Anchored).sequence == 2


@pytest.fixture
async def tls_url(server: "Server", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A TLS front of the plaintext node, with a certificate that only this test's process trusts."""
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    host, port = server.url.removeprefix("http://").split(":")
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        node_reader, node_writer = await asyncio.open_connection(host, int(port))
        tasks.update({asyncio.create_task(pump(reader, node_writer)), asyncio.create_task(pump(node_reader, writer))})

    front = await asyncio.start_server(forward, "127.0.0.1", 0, ssl=context)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    yield f"https://localhost:{front.sockets[0].getsockname()[1]}"
    front.close()
    if tasks:
        await asyncio.wait(tasks, timeout=10)
    await front.wait_closed()


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now, day = datetime.now(UTC), timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


async def test_a_node_behind_tls_answers_the_same(tls_url: str, ledger: Ledger, cluster: "Cluster") -> None:
    async with await Ledger.connect(tls_url) as secured:
        assert await secured.chain_digest() == await ledger.chain_digest()
        assert (await secured.registry(cluster.registry.address)).address == cluster.registry.address


async def test_a_node_whose_certificate_nobody_vouches_for_is_not_spoken_to(
    tls_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(RpcError):
        await Ledger.connect(tls_url, timeout_ms=3000)
