"""How the development API server is made to ask the gateway who somebody is and what they may do.

The files are those of an installation for K3s; of its flags those for audit and encryption are left out, since a
development stack has no one to read the one and no keeper for the other.
"""

import asyncio
import socket
from pathlib import Path
from typing import Final

import yaml

from daas.kube import KubeClient, KubeConflict
from daas.kube.client import MERGE_PATCH
from daas.kube.install import Installation, install

_FLAGS: Final = ("authentication-token-webhook-", "authorization-config", "admission-control-config-file")


class AccessFiles:
    """The files of one stack, written anew at each start with the address that the gateway will listen on.

    The API server has to know that address before the gateway, which needs the API server, can be started; and a
    gateway that is started again has to come back to it. So the system is asked for a free port first.

    Args:
        directory: made if missing; its authority and certificates are kept.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.port = 0
        self.flags: list[str] = []

    def write(self) -> None:
        """Writes the files, and says under which flags the API server reads them."""
        self.port = _free_port()
        wanted = Installation(f"https://127.0.0.1:{self.port}", prefix=self._directory, kms_socket=None)
        install(self._directory, wanted)
        config = yaml.safe_load((self._directory / "config.yaml").read_text(encoding="utf-8"))
        self.flags = [f"--{one}" for one in config["kube-apiserver-arg"] if one.startswith(_FLAGS)]

    def gateway_settings(self) -> dict[str, str]:
        """What the gateway needs to answer."""
        pki = self._directory / "pki"
        return {
            "DAAS_GATEWAY_WEBHOOK_PORT": str(self.port),
            "DAAS_GATEWAY_WEBHOOK_CERTIFICATE_FILE": str(pki / "gateway.crt"),
            "DAAS_GATEWAY_WEBHOOK_KEY_FILE": str(pki / "gateway.key"),
            "DAAS_GATEWAY_WEBHOOK_CLIENT_CA_FILE": str(pki / "ca.crt"),
        }

    async def admit(self, client: KubeClient) -> None:
        """Puts the admission webhooks and policies on the API server, in place of those of an earlier start."""
        path = self._directory / "manifests" / "daas-admission.yaml"
        for manifest in yaml.safe_load_all(await asyncio.to_thread(path.read_text)):
            kind = str(manifest["kind"])
            plural = f"{kind.lower()[:-1]}ies" if kind.endswith("y") else f"{kind.lower()}s"
            where = f"/apis/{manifest['apiVersion']}/{plural}"
            try:
                await client.request("POST", where, body=manifest)
            except KubeConflict:
                # A merge needs no resource version; lists are replaced as a whole.
                body = {"metadata": {}} | {name: value for name, value in manifest.items() if name != "metadata"}
                name = manifest["metadata"]["name"]
                await client.request("PATCH", f"{where}/{name}", body=body, content_type=MERGE_PATCH)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
