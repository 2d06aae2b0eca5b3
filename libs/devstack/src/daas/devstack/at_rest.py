"""What a development system needs to encrypt Secrets at rest: an account with stake, a policy, sealed seeds, a socket.

The account's stake stands for the cluster's: under the policy, key servers open the seeds for it alone. All of it is
made once and found again; only the socket and where the key servers are change from start to start.
"""

import asyncio
import base64
import os
import ssl
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from daas.common.errors import Unavailable
from daas.devstack.deployment import Deployment, fund, operator_key
from daas.kms import keyring as keyrings
from daas.kms import servers as server_files
from daas.kms.keyring import Keyring
from daas.kms.sealing import add_generation
from daas.ledger import Ledger, Rules

#: What the account must have at stake, and has.
STAKE_MIST: Final = 10 * 10**9
_READY_POLL_S: Final = 0.05


class AtRest:
    """The files of one development system's encryption at rest.

    Args:
        directory: where they are kept.
        socket: where the plugin listens.
    """

    def __init__(self, directory: Path, socket: Path) -> None:
        self.socket = socket
        self.keyring = directory / "keyring.json"
        self._keystore = directory / "account.key"
        self._config = directory / "encryption.yaml"

    def write(self) -> None:
        """Writes the API server's EncryptionConfiguration, the same as `daas k3s install` does."""
        self._config.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        kms = {"apiVersion": "v2", "name": "seal-keeper", "endpoint": f"unix://{self.socket}", "timeout": "3s"}
        # Identity reads what an older run stored in clear.
        rule = {"resources": ["secrets"], "providers": [{"kms": kms}, {"identity": {}}]}
        config = {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [rule],
        }
        self._config.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    @property
    def flags(self) -> list[str]:
        """For the API server."""
        return [f"--encryption-provider-config={self._config}"]

    def environment(self, key_servers: Path) -> dict[str, str]:
        """For the plugin."""
        return {
            "DAAS_KMS_SOCKET": str(self.socket),
            "DAAS_KMS_KEYRING": str(self.keyring),
            "DAAS_KMS_KEY_SERVERS": str(key_servers),
            "DAAS_KMS_KEYSTORE": str(self._keystore),
        }

    async def prepare(
        self, deployment: Deployment, *, cluster: str, ledger_url: str, faucet: str, key_servers: Path
    ) -> None:
        """Makes account, stake, policy and the first seed, unless they are there.

        Raises:
            Unavailable: `faucet`.
        """
        if self.keyring.exists():
            return
        signer = operator_key(self._keystore)
        await fund(faucet, signer.address)
        async with await Ledger.connect(ledger_url, signer, package=deployment.package) as ledger:
            policy = await ledger.policies.create(deployment.registry, Rules(required_stake_mist=STAKE_MIST))
            await ledger.staking.deposit(deployment.registry, STAKE_MIST)
            pool, _ = await ledger.places(deployment.registry)
        empty = Keyring(cluster=cluster, package=deployment.package, policy=policy.address, pool=pool)
        servers = server_files.load(key_servers)
        keyrings.save(self.keyring, add_generation(empty, servers, policy.namespace))


def socket_path(name: str) -> Path:
    """A short path: those of Unix sockets end at 108 bytes, and a state directory may lie deep."""
    return Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp")) / f"daas-{os.getpid()}-{name}.sock"  # noqa: S108


async def wait_until_ready(kubeconfig: Path, timeout_s: float) -> None:
    """Returns when an API server says that it is ready: Secrets can be read and written.

    Raises:
        Unavailable: `apiserver-not-ready`: not in time; quotes what it says.
    """
    config: dict[str, Any] = yaml.safe_load(await asyncio.to_thread(kubeconfig.read_text, encoding="utf-8"))
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    said = ""
    try:
        async with asyncio.timeout(timeout_s), aiohttp.ClientSession() as http:
            while True:
                headers = {"Authorization": f"Bearer {user['token']}"}
                async with http.get(f"{cluster['server']}/readyz", ssl=tls, headers=headers) as answer:
                    said = await answer.text()
                    if answer.status == 200:
                        return
                await asyncio.sleep(_READY_POLL_S)
    except TimeoutError:
        raise Unavailable(f"the API server is not ready: {said}", reason="apiserver-not-ready") from None
