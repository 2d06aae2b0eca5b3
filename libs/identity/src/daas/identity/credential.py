"""How kubectl gets login tokens by itself: the answer of an exec credential plugin, and a kubeconfig that names it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from daas.identity.tokens import read_claims

Object = dict[str, Any]

API_VERSION: Final = "client.authentication.k8s.io/v1"
#: kubectl asks again this long before the token ends, so that no request arrives with a token just expired.
EARLY_MS: Final = 30_000


@dataclass(frozen=True, slots=True)
class Login:
    """The arguments of `daas login`, as they stand in a kubeconfig."""

    keystore: str
    cluster: str
    audience: str
    address: str | None = None
    lifetime_s: int = 600

    def arguments(self) -> list[str]:
        """For the command line."""
        out = ["login", "--exec", "--keystore", self.keystore, "--cluster", self.cluster, "--audience", self.audience]
        if self.address is not None:
            out += ["--address", self.address]
        return [*out, "--lifetime-s", str(self.lifetime_s)]


def exec_credential(token: str) -> Object:
    """ExecCredential with a token and when to ask for the next."""
    claims, _, _ = read_claims(token)
    renew_ms = max(claims.issued_ms, claims.expires_ms - EARLY_MS)
    renew = datetime.fromtimestamp(renew_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": API_VERSION,
        "kind": "ExecCredential",
        "spec": {"interactive": False},
        "status": {"expirationTimestamp": renew, "token": token},
    }


def kubeconfig(
    *,
    server: str,
    authority_pem: bytes,
    login: Login,
    command: str | Sequence[str] = "daas",
    namespace: str = "default",
) -> Object:
    """A kubeconfig whose user logs in by Sui key. It holds no secret: the key stays in the keystore.

    Args:
        server: https URL of the API server.
        authority_pem: whom its certificate must come from.
        login: who logs in, and to what.
        namespace: where kubectl works unless told otherwise.
        command: how to run `daas`; of several words the first is the program.
    """
    words = [command] if isinstance(command, str) else list(command)
    plugin = {
        "apiVersion": API_VERSION,
        "command": words[0],
        "args": [*words[1:], *login.arguments()],
        "interactiveMode": "Never",
        "provideClusterInfo": False,
        "installHint": "the daas command of K3s-DaaS logs you in with your Sui key",
    }
    authority = base64.b64encode(authority_pem).decode()
    name = login.cluster
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": "sui", "user": {"exec": plugin}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "sui", "namespace": namespace}}],
        "current-context": name,
    }
