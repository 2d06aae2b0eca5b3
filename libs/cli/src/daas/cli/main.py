"""The `daas` command: every subcommand is named here, and every error becomes one clear line and an exit code."""

import sys

from daas.cli.lazy import Subcommand, lazy_app
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
    "doctor": Subcommand(
        "daas.cli.doctor.command:doctor",
        "Looks at servers, streams, permissions, clocks, registrations, gas and backlog, and says what to do.",
    ),
    "watch": Subcommand("daas.cli.watch:watch", "Shows the event stream as it happens; Ctrl-C ends it."),
    "login": Subcommand("daas.cli.login:login", "Prints a short-lived login token signed by your Sui key."),
    "kubeconfig": Subcommand(
        "daas.cli.login:kubeconfig", "Writes a kubeconfig that logs in by Sui key; it holds no secret."
    ),
    "explain": Subcommand("daas.cli.explain:explain_app", "Why the cluster decided as it did, from signed evidence."),
    "allocation": Subcommand("daas.cli.allocation:allocation_app", "Where pending pods would best go, with a proof."),
    "rebalance": Subcommand("daas.cli.rebalance:rebalance_app", "Moves that even the load out, with a proof."),
    "policy": Subcommand("daas.cli.policy:policy_app", "Access policies and the decisions made by them."),
    "verify": Subcommand("daas.cli.plans:verify_app", "Check what the cluster decided, without trusting it."),
    "evidence": Subcommand("daas.cli.exports:evidence_app", "Take evidence away in a file, or bring it back."),
    "audit": Subcommand("daas.cli.audit:audit_app", "Search the archived audit log."),
    "trace": Subcommand("daas.cli.trace:trace_app", "One object's way through the services."),
    "attest": Subcommand("daas.cli.attest:attest_app", "Nitro attestation documents."),
    "bus": Subcommand("daas.cli.bus:bus_app", "Streams and subjects of the bus."),
    "chain": Subcommand("daas.cli.upgrade:chain_app", "The Move package and the registry on the ledger."),
    "k3s": Subcommand("daas.cli.k3s:k3s_app", "Configuration of K3s servers."),
    "stake": Subcommand("daas.cli.stake:stake_app", "Stake on the ledger."),
    "node": Subcommand("daas.cli.node:node_app", "Nodes on the ledger."),
    "govern": Subcommand("daas.cli.govern:govern_app", "Stake-weighted proposals."),
    "secret": Subcommand("daas.cli.secret:secret_app", "Secrets that only those open whom a policy allows."),
    "kms": Subcommand("daas.cli.kms:kms_app", "Secrets at rest: sealed seeds of the KMS plugin, and their restore."),
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


def main() -> None:
    """Runs the command. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted."""
    from daas.common import logs  # noqa: PLC0415 - with `daas --help` the interpreter is all that is waited for

    logs.configure("cli", "error")
    try:
        app()
    except DaasError as error:
        from daas.cli.terminal import errors  # noqa: PLC0415 - as above

        errors.print(f"[bold red]error[/]: {error.message} [dim]({error.reason})[/]", highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
