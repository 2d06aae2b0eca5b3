"""Runs a real kube-apiserver, from a folder of Kubernetes binaries, where the development one would run.

    python -m daas.devstack.kube_apiserver --binaries DIR --state DIR [any flag of kube-apiserver]

It keeps its objects in an etcd of its own, on this machine, and knows one administrator by a token. Where the folder
holds kube-controller-manager too, that runs beside it, so that namespaces are emptied, accounts made and budgets
counted; no kubelet stands behind its nodes. An etcd in the folder is taken before that of the wheel, which is older
than 3.5.13, the first that streams lists. When ready, one JSON line on stdout says where it is: url, kubeconfig.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import ssl
import sys
from pathlib import Path
from typing import Any, Final

import aiohttp
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from daas.common.errors import ConfigurationError, Unavailable
from daas.devstack.apiserver.access import ADMINISTRATOR, K3S_AUDIENCES
from daas.devstack.apiserver.certificates import Identity, load_identity, write_kubeconfig, write_private
from daas.devstack.etcd import EtcdServer
from daas.devstack.process import Process

#: Folder that holds kube-apiserver; where it is set, a development stack runs on that.
BINARIES_VARIABLE: Final = "DAAS_KUBERNETES_BINARIES"
APISERVER: Final = "kube-apiserver"
CONTROLLERS: Final = "kube-controller-manager"
ETCD: Final = "etcd"
READY_TIMEOUT_S: Final = 120.0
_POLL_S: Final = 0.1
#: Advertised to nobody: an address for documentation, since 127.0.0.1 is refused.
_ADVERTISED: Final = "192.0.2.1"
#: Nothing here sends a node's heartbeat: without this, every node would be tainted as unreachable.
_CONTROLLER_NAMES: Final = "*,-node-lifecycle-controller,-node-ipam-controller,-node-route-controller"


def command(state: Path, *flags: str | Path) -> list[str | Path]:
    """The command of an API server, for `Process`: a real one where `DAAS_KUBERNETES_BINARIES` names its folder.

    Args:
        state: directory for everything it keeps.
        flags: those of kube-apiserver are for either; the rest only for the development server.
    """
    if binaries := os.environ.get(BINARIES_VARIABLE):
        return ["python", "-m", "daas.devstack.kube_apiserver", "--binaries", binaries, "--state", state, *flags]
    return ["python", "-m", "daas.devstack.apiserver", "--state", state, *flags]


def _hold_port() -> socket.socket:
    """A port that the kernel chose, bound but not listened on, so that only a server that shares ports can take it."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("127.0.0.1", 0))
    return held


def _account_key(state: Path) -> Path:
    """The key that signs tokens of service accounts; made once."""
    path = state / "service-accounts.key"
    if not path.exists():
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        form, plain = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        write_private(path, key.private_bytes(serialization.Encoding.PEM, form, plain))
    return path


class KubeApiServer:
    """One kube-apiserver with its etcd, and the controllers where their binary is there.

    Args:
        binaries: the folder of the binaries.
        state: made if missing; found again by a second start.
        flags: for kube-apiserver, after those given here; the last of two wins.

    Raises:
        ConfigurationError: `no-binary`.
    """

    def __init__(self, binaries: Path, state: Path, flags: list[str]) -> None:
        self._binaries = binaries
        self._state = state
        self._flags = flags
        newer = binaries / ETCD
        self._etcd = EtcdServer(state / "etcd", binary=newer if newer.is_file() else None)
        self._processes: list[Process] = []
        self._controlling: asyncio.Task[None] | None = None
        if not (binaries / APISERVER).is_file():
            raise ConfigurationError(f"no {APISERVER} in {binaries}", reason="no-binary")

    async def start(self) -> tuple[str, Path]:
        """Starts all of it.

        Returns:
            Its URL and the administrator's kubeconfig.

        Raises:
            Unavailable: `process-failed`: it ended; `apiserver-not-ready`: not in time. Both quote the end of its log.
        """
        identity = load_identity(self._state)
        account_key = _account_key(self._state)
        tokens = self._state / "tokens.csv"
        write_private(tokens, f'{identity.token},{ADMINISTRATOR},admin,"system:masters"\n'.encode())
        await self._etcd.start()
        with _hold_port() as held:
            port: int = held.getsockname()[1]
            server = self._process(APISERVER, self._arguments(port, identity, account_key, tokens))
            await server.start()
            url = f"https://127.0.0.1:{port}"
            await self._until(f"{url}/readyz?exclude=kms-providers", server, identity)
        kubeconfig = self._state / "admin.kubeconfig"
        write_kubeconfig(kubeconfig, url, identity)
        if (self._binaries / CONTROLLERS).is_file():
            arguments = [
                f"--kubeconfig={kubeconfig}",
                f"--controllers={_CONTROLLER_NAMES}",
                f"--service-account-private-key-file={account_key}",
                f"--root-ca-file={identity.ca_file}",
                "--leader-elect=false",
                "--secure-port=0",
            ]
            self._controlling = asyncio.create_task(self._control(f"{url}/healthz", server, identity, arguments))
        return url, kubeconfig

    async def _control(self, health: str, server: Process, identity: Identity, arguments: list[str]) -> None:
        """Starts the controllers once all is well: they end where it is not, as while a KMS plugin is awaited."""
        await self._until(health, server, identity)
        await self._process(CONTROLLERS, arguments).start()

    def _process(self, name: str, arguments: list[str]) -> Process:
        log = self._state / f"{name}.log"
        made = Process(name, [self._binaries / name, *arguments], log_path=log, announces=False)
        self._processes.append(made)
        return made

    def _arguments(self, port: int, identity: Identity, account_key: Path, tokens: Path) -> list[str]:
        given = [
            f"--etcd-servers={self._etcd.endpoint}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            "--permit-port-sharing=true",
            f"--advertise-address={_ADVERTISED}",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={identity.certificate_file}",
            f"--tls-private-key-file={identity.key_file}",
            f"--token-auth-file={tokens}",
            f"--service-account-issuer={K3S_AUDIENCES[0]}",
            f"--api-audiences={','.join(K3S_AUDIENCES)}",
            f"--service-account-key-file={account_key}",
            f"--service-account-signing-key-file={account_key}",
            "--service-cluster-ip-range=10.43.0.0/16",
        ]
        if not any(flag.startswith("--authorization-config") for flag in self._flags):
            given.append("--authorization-mode=Node,RBAC")
        # No kubelet would take the taint of a new node away, and without controllers no account is made.
        without = ["TaintNodesByCondition"]
        if not (self._binaries / CONTROLLERS).is_file():
            without.append("ServiceAccount")
        return [*given, f"--disable-admission-plugins={','.join(without)}", *self._flags]

    async def _until(self, where: str, server: Process, identity: Identity) -> None:
        """Waits until a health endpoint says that all is well."""
        tls, said = ssl.create_default_context(cafile=str(identity.ca_file)), "no answer"
        headers = {"Authorization": f"Bearer {identity.token}"}
        try:
            async with asyncio.timeout(READY_TIMEOUT_S), aiohttp.ClientSession(headers=headers) as http:
                while True:
                    if not server.running:
                        raise Unavailable(
                            f"{APISERVER} ended with code {server.returncode}; its log ends:\n{server.log_tail()}",
                            reason="process-failed",
                        )
                    try:
                        async with http.get(where, ssl=tls) as answer:
                            said = await answer.text()
                            if answer.status == 200:
                                return
                    except aiohttp.ClientConnectionError as error:
                        said = str(error)
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise Unavailable(
                f"{APISERVER} is not ready after {READY_TIMEOUT_S:.0f} s: {said}; its log ends:\n{server.log_tail()}",
                reason="apiserver-not-ready",
            ) from None

    async def stop(self) -> None:
        """Stops controllers, server and etcd, in that order; the state stays."""
        if self._controlling is not None:
            self._controlling.cancel()
            await asyncio.wait([self._controlling])
        for process in reversed(self._processes):
            await process.terminate()
        await self._etcd.stop()


async def _run(options: argparse.Namespace, flags: list[str]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopping.set)
    options.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    server = KubeApiServer(options.binaries, options.state.resolve(), flags)
    try:
        url, kubeconfig = await server.start()
        line: dict[str, Any] = {"ready": True, "url": url, "kubeconfig": str(kubeconfig), "pid": os.getpid()}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        await stopping.wait()
    finally:
        await server.stop()


def main() -> None:
    """Parses the command line and runs until a signal."""
    parser = argparse.ArgumentParser(prog="python -m daas.devstack.kube_apiserver", description=__doc__)
    parser.add_argument("--binaries", type=Path, required=True, help=f"folder with {APISERVER}")
    parser.add_argument("--state", type=Path, required=True, help="directory for everything it keeps")
    options, flags = parser.parse_known_args()
    try:
        asyncio.run(_run(options, flags))
    except (ConfigurationError, Unavailable) as wrong:
        sys.stderr.write(f"refuses to start: {wrong}\n")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
