"""A webhook server that records what it is asked, and the files that point an API server at it."""

import base64
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from daas.kube.install import Authority

#: Token of the administrator, who in the recordings is called `admin`.
RECORDED_ADMIN = "recorded-admin"
VECTORS = Path(__file__).parents[1] / "vectors" / "webhooks"


@dataclass
class Exchange:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: Any
    client_certificate: bool


@dataclass
class WebhookServer:
    """HTTPS on a port the system chooses; `answers` maps a path to what makes the answer (None: status 500)."""

    directory: Path
    answers: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        self.authority = Authority.create()
        self.authority.write(self.directory)
        self.authority.server("gateway", ["127.0.0.1"]).write(self.directory, "gateway")
        self.authority.client("kube-apiserver").write(self.directory, "apiserver")
        self.start(0)

    def start(self, port: int) -> None:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                path = self.path.partition("?")[0]
                shown = bool(self.connection.getpeercert())
                owner.exchanges.append(Exchange(self.path, dict(self.headers), body, shown))
                time.sleep(owner.delay_s)
                answer = owner.answers[path](body) if path in owner.answers else {}
                raw = json.dumps(answer).encode() if answer is not None else b"broken"
                self.send_response(200 if answer is not None else 500)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                pass

            def handle(self) -> None:
                try:
                    super().handle()
                except (ConnectionError, ssl.SSLError):
                    self.close_connection = True

        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.directory / "gateway.crt", self.directory / "gateway.key")
        tls.load_verify_locations(self.directory / "ca.crt")
        tls.verify_mode = ssl.CERT_OPTIONAL
        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port: int = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def asked(self, path: str) -> list[Exchange]:
        return [one for one in self.exchanges if one.path.startswith(path)]

    # Files -----------------------------------------------------------------------------------------------------

    def kubeconfig(self, path: str) -> Path:
        file = self.directory / f"{path.strip('/')}.kubeconfig"
        cluster = {"server": self.url + path, "certificate-authority": "ca.crt"}
        user = {"client-certificate": "apiserver.crt", "client-key": "apiserver.key"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "w", "cluster": cluster}],
            "users": [{"name": "w", "user": user}],
            "contexts": [{"name": "w", "context": {"cluster": "w", "user": "w"}}],
            "current-context": "w",
        }
        file.write_text(yaml.safe_dump(config))
        return file

    def flags(self, *, authorization: str = "") -> list[str]:
        """The flags under which the recordings were made; the files are those that a real server accepted."""
        authz = authorization or (VECTORS / "authorization.yaml").read_text()
        place = str(self.kubeconfig("/authz"))
        (self.directory / "authz.yaml").write_text(authz.replace("/etc/rancher/k3s/daas/authz.kubeconfig", place))
        (self.directory / "tokens.csv").write_text(f'{RECORDED_ADMIN},admin,,"system:masters"\n')
        return [
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            f"--authentication-token-webhook-config-file={self.kubeconfig('/authn')}",
            "--authentication-token-webhook-version=v1",
            "--authentication-token-webhook-cache-ttl=30s",
            f"--authorization-config={self.directory / 'authz.yaml'}",
            f"--audit-policy-file={VECTORS / 'audit-policy.yaml'}",
            f"--audit-webhook-config-file={self.kubeconfig('/audit')}",
            "--audit-webhook-mode=batch",
            "--audit-webhook-batch-max-wait=200ms",
            "--api-audiences=https://127.0.0.1:26443",
        ]

    def manifests(self) -> list[dict[str, Any]]:
        """The recorded admission objects, pointed here."""
        bundle = base64.b64encode((self.directory / "ca.crt").read_bytes()).decode()
        text = (VECTORS / "admission.yaml").read_text()
        return list(yaml.safe_load_all(text.replace("https://GATEWAY", self.url).replace("BASE64_OF_CA", bundle)))


def recorded(kind: str) -> list[dict[str, Any]]:
    """The recorded exchanges of one kind."""
    return [one for one in json.loads((VECTORS / "exchanges.json").read_text()) if one["kind"] == kind]


def shape(value: Any) -> Any:
    """A value with every leaf replaced by its type, lists by the union of their items' shapes."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__
