"""Writes nats-server configurations from the subject catalogue: `python infra/nats/render.py [--check | OPTIONS]`.

Without options it writes the examples beside this file, for a cluster named `example` whose NKeys belong to nobody.
With `--keys DIR --out DIR` it writes the real thing: DIR holds `<service>.pub`, as `daas bus keys DIR` makes them.
"""

import argparse
import base64
import binascii
import sys
from collections.abc import Mapping
from pathlib import Path

from daas.common.errors import ConfigurationError
from daas.common.nats_config import permissions
from daas.common.nats_server import Routes, Tls, production_config
from daas.common.subjects import Service

HERE = Path(__file__).resolve().parent
SERVERS = ("nats-1", "nats-2", "nats-3")
STORE = Path("/data/jetstream")
TLS = Tls(Path("/etc/nats/server.pem"), Path("/etc/nats/server.key"), Path("/etc/nats/ca.pem"))


def example_nkey(service: Service) -> str:
    """A public NKey that nobody has the seed of: it spells the service's name."""
    data = bytes([20 << 3]) + service.value.encode().ljust(32, b".")
    return base64.b32encode(data + binascii.crc_hqx(data, 0).to_bytes(2, "little")).decode().rstrip("=")


def read_nkeys(directory: Path) -> dict[Service, str]:
    """The public NKey of every service that has a file.

    Raises:
        ConfigurationError: `nats-credentials` where there is none at all.
    """
    paths = {service: directory / f"{service.value}.pub" for service in Service}
    found = {service: path.read_text(encoding="ascii").strip() for service, path in paths.items() if path.exists()}
    if not found:
        raise ConfigurationError(f"{directory} holds no <service>.pub", reason="nats-credentials")
    return found


def configurations(cluster: str, nkeys: Mapping[Service, str]) -> dict[str, str]:
    """File name to contents: a server alone (R1), three that know each other (R3)."""
    single = production_config(cluster, server_name="nats-1", store_dir=STORE, tls=TLS, nkeys=nkeys)
    routes = Routes(f"daas-{cluster}", "0.0.0.0:6222", [f"{server}:6222" for server in SERVERS])
    three = {
        f"r3-{server}.conf": production_config(
            cluster, server_name=server, store_dir=STORE, tls=TLS, nkeys=nkeys, routes=routes
        )
        for server in SERVERS
    }
    return {"r1.conf": single, **three}


def permission_table(cluster: str) -> str:
    """What each service may do, for people."""
    lines = [
        "# What each service may do on the bus",
        "",
        "Written by `infra/nats/render.py` from the subject catalogue.",
    ]
    for service in Service:
        granted = permissions(cluster, service)
        for title, subjects in (("publish", granted.publish), ("subscribe", granted.subscribe)):
            lines += ["", f"## {service.value}: {title}", "", *(f"- `{subject}`" for subject in subjects)]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Writes or checks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail where an example is stale; write nothing")
    parser.add_argument("--cluster", default="example", help="name of the K3s-DaaS cluster")
    parser.add_argument("--keys", type=Path, help="folder with <service>.pub")
    parser.add_argument("--out", type=Path, default=HERE / "examples", help="where to write")
    options = parser.parse_args()
    try:
        nkeys = read_nkeys(options.keys) if options.keys else {service: example_nkey(service) for service in Service}
        files = configurations(options.cluster, nkeys) | {"permissions.md": permission_table(options.cluster)}
    except ConfigurationError as error:
        sys.stderr.write(f"render: {error}\n")
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    stale = []
    for name, text in files.items():
        path = options.out / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not options.check:
                path.write_text(text, encoding="utf-8")
    sys.stdout.write(f"stale: {', '.join(stale)}\n" if stale else "all current\n")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
