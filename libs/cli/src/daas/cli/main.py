"""The `daas` command: every subcommand is named here, and every error becomes one clear line and an exit code."""

import sys

from daas.cli import arrival as _arrival  # noqa: F401 - mounts its commands beside those of verify and evidence
from daas.cli.attest import attest_app
from daas.cli.bus import bus_app
from daas.cli.chain import chain_app
from daas.cli.enclave import enclave_app
from daas.cli.govern import govern_app
from daas.cli.k3s import k3s_app
from daas.cli.lazy import Subcommand, lazy_app
from daas.cli.login import kubeconfig, login
from daas.cli.node import node_app
from daas.cli.secret import secret_app
from daas.cli.stake import stake_app
from daas.cli.status import status
from daas.cli.up import demo, up
from daas.cli.verify import evidence_app, verify_app
from daas.cli.watch import watch
from daas.common import logs
from daas.common.errors import DaasError

#: In the order of `daas --help`. A module that adds commands to another one's application is named in its place.
SUBCOMMANDS = {
    "up": Subcommand(
        "daas.cli.up:up", "Runs the whole system on this machine until Ctrl-C; the state stays for the next time."
    ),
    "demo": Subcommand(
        "daas.cli.up:demo",
        "Creates nodes and pods, shows how they are placed, proved and bound, verifies one, breaks a byte, and stops.",
    ),
    "status": Subcommand(
        "daas.cli.status:status", "Shows what runs and how far it is. Exit code 1 where a service is not ready."
    ),
    "watch": Subcommand("daas.cli.watch:watch", "Shows the event stream as it happens; Ctrl-C ends it."),
    "login": Subcommand("daas.cli.login:login", "Prints a short-lived login token signed by your Sui key."),
    "kubeconfig": Subcommand(
        "daas.cli.login:kubeconfig", "Writes a kubeconfig that logs in by Sui key; it holds no secret."
    ),
    "verify": Subcommand("daas.cli.arrival:verify_app", "Check what the cluster decided, without trusting it."),
    "evidence": Subcommand("daas.cli.arrival:evidence_app", "Take evidence away in a file."),
    "attest": Subcommand("daas.cli.attest:attest_app", "Nitro attestation documents."),
    "bus": Subcommand("daas.cli.bus:bus_app", "Streams and subjects of the bus."),
    "chain": Subcommand("daas.cli.chain:chain_app", "The Move package and the registry on the ledger."),
    "k3s": Subcommand("daas.cli.k3s:k3s_app", "Configuration of K3s servers."),
    "stake": Subcommand("daas.cli.stake:stake_app", "Stake on the ledger."),
    "node": Subcommand("daas.cli.node:node_app", "Nodes on the ledger."),
    "govern": Subcommand("daas.cli.govern:govern_app", "Stake-weighted proposals."),
    "enclave": Subcommand("daas.cli.enclave:enclave_app", "Enclaves and their images."),
}

app = lazy_app(
    SUBCOMMANDS,
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
app.add_typer(secret_app, name="secret")
app.add_typer(enclave_app, name="enclave")


def main() -> None:
    """Runs the command. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted."""
    logs.configure("cli", "error")
    try:
        app()
    except DaasError as error:
        from daas.cli.terminal import errors  # noqa: PLC0415 - as above

        errors.print(f"[bold red]error[/]: {error.message} [dim]({error.reason})[/]", highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
