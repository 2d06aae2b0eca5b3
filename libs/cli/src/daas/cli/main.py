"""The `daas` command: every subcommand is mounted here, and every error becomes one clear line and an exit code."""

import sys

import typer

from daas.cli import arrival as _arrival  # noqa: F401 - mounts its commands beside those of verify and evidence
from daas.cli.attest import attest_app
from daas.cli.bus import bus_app
from daas.cli.chain import chain_app
from daas.cli.enclave import enclave_app
from daas.cli.govern import govern_app
from daas.cli.k3s import k3s_app
from daas.cli.login import kubeconfig, login
from daas.cli.node import node_app
from daas.cli.stake import stake_app
from daas.cli.status import status
from daas.cli.terminal import errors
from daas.cli.up import demo, up
from daas.cli.verify import evidence_app, verify_app
from daas.cli.watch import watch
from daas.common import logs
from daas.common.errors import DaasError

app = typer.Typer(
    name="daas",
    help="K3s-DaaS: a K3s cluster whose control plane nobody has to trust.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(up)
app.command()(demo)
app.command()(status)
app.command()(watch)
app.command()(login)
app.command()(kubeconfig)
app.add_typer(verify_app, name="verify")
app.add_typer(evidence_app, name="evidence")
app.add_typer(attest_app, name="attest")
app.add_typer(bus_app, name="bus")
app.add_typer(chain_app, name="chain")
app.add_typer(k3s_app, name="k3s")
app.add_typer(stake_app, name="stake")
app.add_typer(node_app, name="node")
app.add_typer(govern_app, name="govern")
app.add_typer(enclave_app, name="enclave")


def main() -> None:
    """Runs the command. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted."""
    logs.configure("cli", "error")
    try:
        app()
    except DaasError as error:
        errors.print(f"[bold red]error[/]: {error.message} [dim]({error.reason})[/]", highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
