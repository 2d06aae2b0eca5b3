"""`daas k3s`: the files that make a K3s server ask the gateway, and a check of what is there."""

import asyncio
import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from daas.cli.terminal import console
from daas.kube import KubeClient
from daas.kube.install import Installation, check_cluster, check_files, install, issue_leaves, rotate
from daas.kube.install.check import Finding

k3s_app = typer.Typer(help="Configuration of K3s servers.", no_args_is_help=True)

Directory = Annotated[Path, typer.Argument(help="where the files are")]
Gateway = Annotated[str, typer.Option(help="https URL of the gateway's webhooks, as API servers reach it")]
Prefix = Annotated[Path, typer.Option(help="where the directory will lie on the server")]


class Renew(StrEnum):
    """What is to be made anew."""

    AUTHORITY = "authority"
    CERTIFICATES = "certificates"


@k3s_app.command("install")
def write(
    *,
    directory: Directory,
    gateway: Gateway,
    prefix: Prefix = Path("/etc/rancher/k3s/daas"),
    name: Annotated[list[str] | None, typer.Option(help="further names of the gateway; repeat")] = None,
    kms: Annotated[bool, typer.Option(help="Secrets at rest under seal-keeper's KMS plugin")] = True,
    renew: Annotated[
        Renew | None,
        typer.Option(help="first `authority` (both are trusted); when every server has the files, `certificates`"),
    ] = None,
) -> None:
    """Writes every file that a K3s server needs; keys and certificates that are there already are kept."""
    wanted = Installation(gateway, tuple(name or ()), prefix)
    if not kms:
        wanted = dataclasses.replace(wanted, kms_socket=None)
    if renew is Renew.AUTHORITY:
        rotate(directory / "pki")
    elif renew is Renew.CERTIFICATES:
        issue_leaves(directory, wanted)
    for path in install(directory, wanted):
        console.print(path, highlight=False)
    console.print(
        f"\nCopy them to [bold]{prefix}[/] on every server, config.yaml to /etc/rancher/k3s/config.yaml.d/daas.yaml; "
        "start the gateway with pki/gateway.crt, pki/gateway.key and pki/ca.crt, restart K3s, apply manifests/.",
        highlight=False,
    )


@k3s_app.command("check")
def check(
    directory: Directory,
    kubeconfig: Annotated[Path | None, typer.Option(help="also look at the running cluster")] = None,
) -> None:
    """Says what is missing or wrong; exit code 1 if anything is."""
    findings = check_files(directory)
    if kubeconfig is not None:
        findings += asyncio.run(_cluster(kubeconfig, directory))
    table = Table("", "what", "finding")
    for finding in findings:
        table.add_row({"error": "[red]✗[/]", "warning": "[yellow]![/]"}[finding.level], finding.subject, finding.text)
    if findings:
        console.print(table)
    else:
        console.print("[green]nothing is missing or wrong[/]")
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


async def _cluster(kubeconfig: Path, directory: Path) -> list[Finding]:
    async with await KubeClient.connect(kubeconfig) as client:
        return await check_cluster(client, directory)
