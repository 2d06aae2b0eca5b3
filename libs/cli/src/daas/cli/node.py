"""`daas node`: register a node on stake, keep it alive, drain it, take it out."""

from typing import Annotated, Any

import typer

from daas.cli.context import Context
from daas.cli.ledger import Keystore, Output, Yes, confirm, show, with_ledger
from daas.common.errors import NotFound
from daas.ledger import Ledger, Node

node_app = typer.Typer(help="Nodes on the ledger.", no_args_is_help=True)

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
