"""etcd as production has it: TLS, a certificate from every client and, where asked for, users with roles."""

import asyncio
import datetime as dt
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from daas.devstack.etcd import etcd_binary
from daas.etcd import Tls

START_S = 30.0
_SERVING = b'serving client traffic securely","address":"'


def make_certificate() -> tuple[bytes, bytes]:
    """A self-signed certificate for 127.0.0.1 and its key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "etcd test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return certificate.public_bytes(pem), key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class GuardedEtcd:
    """One member on a port of its choice, as an async context manager.

    Args:
        folder: gets `cert.pem`, `key.pem` (of server and clients alike), the database and the log.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.endpoint = ""
        self.certificate, self.key = make_certificate()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def tls(self) -> Tls:
        """Trust and identity of a client that is let in."""
        return Tls(self.certificate, self.certificate, self.key)

    async def __aenter__(self) -> Self:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "cert.pem").write_bytes(self.certificate)
        (self.folder / "key.pem").write_bytes(self.key)
        log = self.folder / "log"
        with log.open("wb") as out:
            self._process = await asyncio.create_subprocess_exec(
                etcd_binary(),
                *("--data-dir", "d", "--listen-client-urls", "https://127.0.0.1:0"),
                *("--advertise-client-urls", "https://127.0.0.1:0", "--initial-cluster", "default=unix://localhost:1"),
                *("--listen-peer-urls", "unix://localhost:1", "--initial-advertise-peer-urls", "unix://localhost:1"),
                *("--cert-file", "cert.pem", "--key-file", "key.pem", "--enable-grpc-gateway=false"),
                *("--client-cert-auth", "--trusted-ca-file", "cert.pem"),
                cwd=self.folder,
                stdout=out,
                stderr=out,
            )
        try:
            async with asyncio.timeout(START_S):
                while _SERVING not in (text := log.read_bytes()):  # noqa: ASYNC110 - etcd writes it
                    await asyncio.sleep(0.02)
        except BaseException:
            await self.__aexit__()
            raise
        self.endpoint = "https://" + text.partition(_SERVING)[2].partition(b'"')[0].decode()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def etcdctl(self, *arguments: str) -> None:
        """Runs a command of etcd's own client."""
        argv = [str(etcd_binary().with_name("etcdctl")), "--endpoints", self.endpoint]
        argv += ["--cacert", "cert.pem", "--cert", "cert.pem", "--key", "key.pem"]
        process = await asyncio.create_subprocess_exec(
            *argv, *arguments, stdout=asyncio.subprocess.DEVNULL, cwd=self.folder
        )
        assert await process.wait() == 0, arguments
