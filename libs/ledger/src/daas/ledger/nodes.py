"""Nodes on the ledger: registration on stake, heartbeat, drain, and who may open the sealed join token."""

import contextlib
from typing import TYPE_CHECKING, Final

from daas.common import bcs
from daas.common.bcs import Reader
from daas.ledger import calls, fields
from daas.ledger.address import format_address, normal_address
from daas.ledger.cluster import Node, Roster
from daas.ledger.cluster_events import NodeRegistered
from daas.ledger.errors import NoSuchObject
from daas.ledger.models import Effects

if TYPE_CHECKING:
    from daas.ledger.client import Ledger

#: Nodes that are listed in one go, two calls of the full node for a page of 100 and one for each node.
MAX_LISTED: Final = 5_000


class Nodes:
    """Reached as `ledger.nodes`. Each call is executed or raises what `Ledger.submit` raises."""

    def __init__(self, ledger: "Ledger") -> None:
        self._ledger = ledger

    async def roster(self, registry: str) -> Roster:
        """The names of a cluster's nodes and the number of its join token."""
        _, roster = await self._ledger.places(registry)
        return await self._ledger.read(Roster, roster, "nodes", "Roster")

    async def node(self, address: str) -> Node:
        """A node as it is now.

        Raises:
            NoSuchObject: there is none, or it is something else.
        """
        return await self._ledger.read(Node, address, "nodes", "Node")

    async def find(self, registry: str, name: str) -> Node | None:
        """The node with this Kubernetes name; None where none is registered."""
        table = (await self.roster(registry)).names.address
        key = name.encode()
        contents = await self._ledger.contents(fields.bytes_entry(table, key))
        if contents is None:
            return None
        reader = fields.value_of(contents, bcs.bytes_(key))
        address = format_address(reader.address())
        reader.end()
        return await self.node(address)

    async def all(self, registry: str, limit: int = MAX_LISTED) -> tuple[Node, ...]:
        """The cluster's nodes as they are now, at most `limit` of them, by name."""
        table = (await self.roster(registry)).names.address
        found = []
        for contents in await self._ledger.table(table, limit):
            reader = Reader(contents)
            reader.address()  # of the field itself
            reader.bytes_()  # the name
            address = format_address(reader.address())
            reader.end()
            # A node that is deregistered while the list is read is no longer part of it.
            with contextlib.suppress(NoSuchObject):
                found.append(await self.node(address))
        return tuple(sorted(found, key=lambda node: node.name))

    async def register(self, registry: str, name: str, identity: str | None = None) -> Node:
        """Registers a node on the signer's stake.

        Args:
            registry: the cluster.
            name: name of the Kubernetes Node.
            identity: address of the key on the machine; by default the signer's own.
        """
        pool, roster = await self._ledger.places(registry)
        identity = normal_address(identity or self._ledger.address)
        effects = await self._ledger.run(calls.nodes.register(self._package, roster, pool, name, identity))
        return await self.node(effects.only(NodeRegistered).node)

    async def heartbeat(self, node: Node) -> Effects:
        """Says that the node is alive; by the node or its operator."""
        pool, _ = await self._ledger.places(node.registry)
        return await self._ledger.run(calls.nodes.heartbeat(self._package, node.address, pool))

    async def drain(self, node: Node) -> Effects:
        """Takes the node out of service; by its operator."""
        return await self._ledger.run(calls.nodes.drain(self._package, node.address))

    async def deregister(self, node: Node) -> Effects:
        """Removes the node; its name and its part of the stake are free again."""
        pool, roster = await self._ledger.places(node.registry)
        return await self._ledger.run(calls.nodes.deregister(self._package, roster, pool, node.address))

    async def rotate_join_token(self, registry: str) -> Effects:
        """Makes the join token of the next generation the valid one; needs the AdminCap."""
        _, roster = await self._ledger.places(registry)
        cap = await self._ledger.capability("AdminCap")
        return await self._ledger.run(calls.nodes.rotate_join_token(self._package, cap, roster))

    async def check_join(self, node: Node, requester: str, sealed_id: bytes) -> None:
        """Whether a Seal key server would release the join token to the requester.

        Raises:
            MoveAbortError: it would not, and why.
        """
        pool, roster = await self._ledger.places(node.registry)
        call = calls.nodes.approve_join(self._package, sealed_id, roster, pool, node.address)
        await self._ledger.view(call, requester)

    @property
    def _package(self) -> str:
        return self._ledger.required_package()
