"""nats-server's configuration where it is not alone on a machine: TLS before its greeting, one NKey a service, routes.

Everything beyond the listeners comes from the subject catalogue by way of `nats_config`. Production runs three servers
that know each other by mutual TLS (streams R3); one server alone sets `sync_always`, since nobody holds a second copy.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from daas.common.errors import ConfigurationError
from daas.common.nats_config import authorization, server_config
from daas.common.subjects import Service

#: Four services in two or three instances, people with the command line, and room for reconnections.
MAX_CONNECTIONS: Final = 256
#: The largest service reads ten streams; ordered readers and request inboxes add a handful more.
MAX_SUBSCRIPTIONS: Final = 1024
CLUSTER_SIZES: Final = (1, 3, 5)


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of one server: its certificate and key, and the CA of both clients' trust and the other servers'."""

    certificate: Path
    key: Path
    ca: Path

    def block(self, *, mutual: bool) -> dict[str, object]:
        """The `tls` block. Clients prove themselves by NKey, servers to each other by certificate (`mutual`)."""
        files: dict[str, object] = {"cert_file": str(self.certificate), "key_file": str(self.key), "min_version": "1.3"}
        if mutual:
            return files | {"ca_file": str(self.ca), "verify": True, "timeout": 5}
        return files | {"handshake_first": True, "timeout": 5}


@dataclass(frozen=True, slots=True)
class Routes:
    """The servers of one NATS cluster.

    Attributes:
        name: of the NATS cluster.
        listen: `host:port` for the other servers.
        peers: `host:port` of every server, this one included; 3 or 5.
    """

    name: str
    listen: str
    peers: Sequence[str]


def production_config(
    cluster: str,
    *,
    server_name: str,
    store_dir: Path,
    tls: Tls,
    nkeys: Mapping[Service, str],
    host: str = "0.0.0.0",  # noqa: S104 - a server for other machines; nobody without an NKey gets further
    port: int = 4222,
    monitor_port: int = 8222,
    routes: Routes | None = None,
) -> str:
    """The whole configuration file of one server.

    Args:
        cluster: of K3s-DaaS; whose subjects the services may use.
        server_name: unique among the servers of a NATS cluster.
        store_dir: where JetStream keeps its files.
        tls: its files; the same certificate serves clients and routes.
        nkeys: public NKey (`U...`) of each service.
        host: address for clients and for monitoring, which tells numbers, but no contents.
        port: for clients.
        monitor_port: for /healthz, /varz, /jsz.
        routes: the other servers; None for a server alone.

    Raises:
        ConfigurationError: `nats-credentials` where a service has no NKey of its own; `nats-cluster-size`.
    """
    strangers = [service.value for service, key in nkeys.items() if not key.startswith("U")]
    if strangers or not nkeys:
        raise ConfigurationError(
            f"each service needs a public user NKey (U...); {', '.join(strangers) or 'none at all'} is none",
            reason="nats-credentials",
        )
    basic = server_config(
        server_name=server_name,
        store_dir=store_dir,
        host=host,
        port=port,
        monitor_port=monitor_port,
        sync_always=routes is None,
    )
    more: dict[str, object] = {
        "max_connections": MAX_CONNECTIONS,
        "max_subscriptions": MAX_SUBSCRIPTIONS,
        "max_control_line": 4096,
        "write_deadline": "10s",
        "ping_interval": "20s",
        "ping_max": 3,
        "tls": tls.block(mutual=False),
    }
    if routes is not None:
        if len(routes.peers) not in CLUSTER_SIZES:
            raise ConfigurationError(
                f"a NATS cluster has 3 or 5 servers, not {len(routes.peers)}", reason="nats-cluster-size"
            )
        more["cluster"] = {
            "name": routes.name,
            "listen": routes.listen,
            "routes": [f"nats-route://{peer}" for peer in routes.peers],
            "tls": tls.block(mutual=True),
        }
    blocks = "".join(f"{key}: {json.dumps(value, indent=1)}\n" for key, value in more.items())
    return basic + blocks + authorization(cluster, nkeys)
