"""`daas login` and `daas kubeconfig`: who you are is your Sui key; kubectl asks for fresh tokens by itself."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
import yaml

from daas.cli.terminal import console
from daas.common.errors import ConfigurationError
from daas.identity import issue, load_signer
from daas.identity.credential import Login, exec_credential
from daas.identity.credential import kubeconfig as kubeconfig_of
from daas.kube import load_configuration

SUI_KEYSTORE = Path("~/.sui/sui_config/sui.keystore")
#: The audience of a K3s or kubeadm API server unless it was told otherwise.
AUDIENCE = "https://kubernetes.default.svc.cluster.local"

Keystore = Annotated[Path, typer.Option(help="Sui keystore, or a file with one key; mode 0600")]
Address = Annotated[str | None, typer.Option(help="which key of the keystore")]
Cluster = Annotated[str, typer.Option(help="name of the cluster; a token holds in no other")]
Audience = Annotated[str, typer.Option(help="audience of the API server (--api-audiences)")]
Lifetime = Annotated[int, typer.Option(min=60, max=3600, help="seconds until the token expires")]


def login(
    *,
    cluster: Cluster,
    keystore: Keystore = SUI_KEYSTORE,
    address: Address = None,
    audience: Audience = AUDIENCE,
    lifetime_s: Lifetime = 600,
    exec_: Annotated[bool, typer.Option("--exec", help="print an ExecCredential, as kubectl asks for it")] = False,
) -> None:
    """Prints a short-lived login token signed by your Sui key."""
    signer = load_signer(keystore.expanduser(), address)
    now_ms = time.time_ns() // 1_000_000
    token = asyncio.run(issue(signer, cluster=cluster, audience=audience, now_ms=now_ms, lifetime_ms=lifetime_s * 1000))
    sys.stdout.write((json.dumps(exec_credential(token)) if exec_ else token) + "\n")


def kubeconfig(
    *,
    cluster: Cluster,
    server: Annotated[str | None, typer.Option(help="https URL of the API server")] = None,
    authority: Annotated[Path | None, typer.Option(help="PEM file with the API server's authority")] = None,
    like: Annotated[Path | None, typer.Option(help="take server and authority from this kubeconfig")] = None,
    keystore: Keystore = SUI_KEYSTORE,
    address: Address = None,
    audience: Audience = AUDIENCE,
    lifetime_s: Lifetime = 600,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="file to write; default: stdout")] = None,
) -> None:
    """Writes a kubeconfig that logs in by Sui key; it holds no secret."""
    if like is not None:
        found = asyncio.run(load_configuration(like))
        server = server or found.host
        authority = authority or (Path(found.ssl_ca_cert) if found.ssl_ca_cert else None)
    if server is None or authority is None:
        text = "expected --server and --authority, or --like KUBECONFIG"
        raise ConfigurationError(text, reason="kubeconfig-server", field="server")
    wanted = Login(str(keystore.expanduser().resolve()), cluster, audience, address, lifetime_s)
    command = [sys.executable, "-m", "daas.cli"]
    content = kubeconfig_of(server=server, authority_pem=authority.read_bytes(), login=wanted, command=command)
    text = yaml.safe_dump(content, sort_keys=False)
    if output is None:
        sys.stdout.write(text)
        return
    output.write_text(text, encoding="utf-8")
    console.print(f"wrote {output}: [bold]kubectl --kubeconfig {output} auth whoami[/]")
