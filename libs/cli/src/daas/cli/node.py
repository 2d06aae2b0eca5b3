"""`daas node`: join a cluster on stake, keep a node alive, drain it, take it out; the sealed join token."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from daas.cli import join as joining
from daas.cli.context import Context
from daas.cli.ledger import Keystore, Output, Yes, confirm, show, show_all, signer_of, sui, with_ledger
from daas.common.errors import ConfigurationError, NotFound
from daas.ledger import Ledger, Node

node_app = typer.Typer(help="Nodes on the ledger.", no_args_is_help=True)

token_app = typer.Typer(help="The K3s join token under seal.", no_args_is_help=True)
node_app.add_typer(token_app, name="token")

KeyServersFile = Annotated[Path, typer.Option("--key-servers", help="JSON: threshold and the pinned key servers")]
Name = Annotated[str, typer.Argument(help="name of the Kubernetes Node")]


@node_app.command("register")
def register(
    name: Name,
    identity: Annotated[str | None, typer.Option(help="address of the key on the machine; else the signer's")] = None,
    keystore: Keystore = None,
    output: Output = "table",
) -> None:
    """Registers a node on the signer's stake."""

    async def work(ledger: Ledger, context: Context) -> dict[str, Any]:
        return _fields(await ledger.nodes.register(context.registry, name, identity))

    show(with_ledger(keystore, work), output, title="registered")


@node_app.command("heartbeat")
def heartbeat(name: Name, keystore: Keystore = None, output: Output = "table") -> None:
    """Says that the node is alive; by the node or its operator."""

    async def work(ledger: Ledger, context: Context) -> dict[str, Any]:
        await ledger.nodes.heartbeat(await _find(ledger, context, name))
        return _fields(await _find(ledger, context, name))

    show(with_ledger(keystore, work), output, title="alive")


@node_app.command("drain")
def drain(name: Name, keystore: Keystore = None, output: Output = "table", *, yes: Yes = False) -> None:
    """Takes the node out of service."""
    confirm(f"drain {name}?", yes=yes)

    async def work(ledger: Ledger, context: Context) -> dict[str, Any]:
        await ledger.nodes.drain(await _find(ledger, context, name))
        return _fields(await _find(ledger, context, name))

    show(with_ledger(keystore, work), output, title="draining")


@node_app.command("deregister")
def deregister(name: Name, keystore: Keystore = None, output: Output = "table", *, yes: Yes = False) -> None:
    """Removes the node; its name and its part of the stake are free again."""
    confirm(f"deregister {name}?", yes=yes)

    async def work(ledger: Ledger, context: Context) -> dict[str, Any]:
        effects = await ledger.nodes.deregister(await _find(ledger, context, name))
        return {"node": name, "transaction": effects.digest}

    show(with_ledger(keystore, work), output, title="deregistered")


@node_app.command("show")
def show_node(name: Name, output: Output = "table") -> None:
    """Shows a node as the ledger has it."""

    async def work(ledger: Ledger, context: Context) -> dict[str, Any]:
        return _fields(await _find(ledger, context, name))

    show(with_ledger(None, work, signing=False), output, title="node")


@node_app.command("list")
def list_nodes(output: Output = "table") -> None:
    """Lists the cluster's nodes as the ledger has them now."""

    async def work(ledger: Ledger, context: Context) -> list[Node]:
        return list(await ledger.nodes.all(context.registry))

    nodes = with_ledger(None, work, signing=False)
    if output == "json":
        show_all([_fields(node) for node in nodes], output)
        return
    mark = " (simulated)" if any(node.simulated for node in nodes) else ""
    shown = ("name", "operator", "draining", "heartbeat_ms")
    show_all([{each: _fields(node)[each] for each in shown} for node in nodes], output, title=f"nodes{mark}")


@node_app.command("join")
def join(  # noqa: PLR0917 - options of a command, each by name
    name: Name,
    server: Annotated[str, typer.Option(help="https URL of a K3s server")],
    sealed: Annotated[Path, typer.Option(help="the sealed join token")],
    key_servers: KeyServersFile,
    directory: Annotated[Path, typer.Option("--dir", help="where config.yaml goes")] = Path("/etc/rancher/k3s"),
    keystore: Keystore = None,
    output: Output = "table",
    *,
    yes: Yes = False,
) -> None:
    """Joins a machine with its own key: stakes, registers, opens the join token, and configures the k3s agent.

    A node that is registered already, by its operator for example, only gets its token: its key need hold no stake.
    """
    url = joining.checked_server(server)
    token_file, servers, signer = (
        joining.read_sealed(sealed),
        joining.read_key_servers(key_servers),
        signer_of(keystore),
    )
    config = joining.prepare_directory(directory)
    if config.exists():
        confirm(f"replace {config}?", yes=yes)

    async def missing(ledger: Ledger, context: Context) -> int:
        return await joining.missing_stake(ledger, context, name=name, sealed=token_file, servers=servers)

    amount_mist = with_ledger(keystore, missing)
    if amount_mist:
        confirm(f"deposit {sui(amount_mist)} of {signer.address} as the stake for {name}?", yes=yes)

    async def work(ledger: Ledger, context: Context) -> dict[str, Any]:
        if amount_mist:
            await ledger.staking.deposit(context.registry, amount_mist)
        node, token = await joining.join(ledger, signer, context, name=name, sealed=token_file, servers=servers)
        joining.write_config(config, server=url, token=token, name=name)
        return {
            **_fields(node),
            "deposited": sui(amount_mist),
            "config": str(config),
            "start": f"k3s agent --config {config}",
        }

    show(with_ledger(keystore, work), output, title="joined")


@token_app.command("seal")
def seal_token(
    token_file: Annotated[Path, typer.Option(help="file (mode 0600) with the K3s join token")],
    key_servers: KeyServersFile,
    out: Annotated[Path, typer.Option(help="file for the sealed token, which is no secret")],
    output: Output = "table",
    *,
    yes: Yes = False,
) -> None:
    """Seals the K3s join token for the nodes in service, under the generation that is valid now."""
    token, servers = joining.read_token(token_file), joining.read_key_servers(key_servers)
    if out.exists():
        confirm(f"replace {out}?", yes=yes)

    async def work(ledger: Ledger, context: Context) -> joining.SealedToken:
        return await joining.seal_token(ledger, context, servers, token)

    sealed = with_ledger(None, work, signing=False)
    try:
        out.write_bytes(msgspec.json.encode(sealed))
    except OSError as error:
        raise ConfigurationError(f"{out} can't be written: {error.strerror}", reason="file-unwritable") from None
    weights = sum(each.weight for each in servers.servers)
    opens = f"{servers.threshold} of {weights}"
    show({"sealed": str(out), "generation": sealed.generation, "opened by": opens}, output, title="sealed")


@token_app.command("rotate")
def rotate_token(keystore: Keystore = None, output: Output = "table", *, yes: Yes = False) -> None:
    """Begins the next generation: what was sealed so far opens no more; needs the AdminCap."""
    confirm("replace the join token? Every token that was sealed so far opens no more.", yes=yes)

    async def work(ledger: Ledger, context: Context) -> dict[str, Any]:
        effects = await ledger.nodes.rotate_join_token(context.registry)
        roster = await ledger.nodes.roster(context.registry)
        return {"generation": roster.join_generation, "transaction": effects.digest}

    show(with_ledger(keystore, work), output, title="rotated")


async def _find(ledger: Ledger, context: Context, name: str) -> Node:
    node = await ledger.nodes.find(context.registry, name)
    if node is None:
        raise NotFound(f"no node {name} is registered", reason="no-node", field="name")
    return node


def _fields(node: Node) -> dict[str, Any]:
    return {
        "name": node.name.decode(errors="replace"),
        "object": node.address,
        "operator": node.operator,
        "identity": node.identity,
        "draining": node.draining,
        "registered_ms": node.registered_ms,
        "heartbeat_ms": node.heartbeat_ms,
        "simulated": node.simulated,
    }
