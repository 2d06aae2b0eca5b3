"""A connection to full nodes: reading objects and transactions, simulating, building, sending.

One transaction at a time per client: each takes the gas coin as its predecessor left it, which is what keeps an anchor
at one call of the node. Build and send are separate steps, so that a caller can keep the signed bytes first.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from daas.common.errors import DecodeError
from daas.ledger.address import normal_address, parse_type
from daas.ledger.checkpoints import Checkpoint
from daas.ledger.errors import ExecutionError, MissingPackage, MissingSigner, NoSuchObject, RpcError
from daas.ledger.event import Event
from daas.ledger.full_nodes import FullNodes
from daas.ledger.gas import Gas, GasSource
from daas.ledger.layout import decode_struct
from daas.ledger.models import Effects, SharedReference, SignedTransaction
from daas.ledger.objects import ObjectCache
from daas.ledger.package import Lineage
from daas.ledger.signer import Signer
from daas.ledger.transaction import Command, GasPayment, MoveCall, encode_transaction, object_ids, sign_transaction

S = TypeVar("S", bound=msgspec.Struct)
E = TypeVar("E", bound=Event)

DEFAULT_TIMEOUT_MS = 10_000
#: Budget in MIST: several times what a call costs by the published schedule (1,000 units at 1,000 MIST, and 7,600 MIST
#: per byte of every object written, most of it given back).
CALL_BUDGET_MIST = 100_000_000
_NOBODY = "0x" + "0" * 64


class Connection:
    """A connection to full nodes of one chain, for one account and one Move package. Use `connect`."""

    def __init__(self, node: FullNodes, signer: Signer | None, package: Lineage | None, gas: GasSource) -> None:
        self._node = node
        self._chain = node.chain
        self._signer = signer
        self._package = package
        self._lock = asyncio.Lock()
        self._objects = ObjectCache(node)
        self._gas = Gas(node, gas)

    @classmethod
    async def connect(
        cls,
        url: str | Sequence[str],
        signer: Signer | None = None,
        *,
        package: str | None = None,
        gas: GasSource = GasSource.COINS,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> Self:
        """Connects to full nodes: `http://` is plaintext, `https://` TLS. What one can't answer the next is asked.

        Args:
            url: `http[s]://host[:port]`, several separated by commas or as a sequence.
            signer: who pays; without one the client can only read and resend.
            package: address of the package's version that is to be called, which is never left for a newer one;
                without it the first version, learned from the first registry or enclave that is read.
            gas: what pays for transactions.
            timeout_ms: deadline of each call.

        Raises:
            RpcError: all nodes are away, or one is no Sui full node.
            ConfigurationError: `ledger-url`; `ledger-chain` where the nodes are of different chains.
            NoSuchObject: `package-missing`.
        """
        node = await FullNodes.connect(url, timeout_ms)
        try:
            return cls(node, signer, await _lineage(node, package) if package else None, gas)
        except BaseException:
            node.close()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection."""
        self._node.close()

    @property
    def package(self) -> str | None:
        """Address of the Move package's version that is called, once it is known."""
        return self._package.current if self._package else None

    @property
    def address(self) -> str:
        """The signer's address."""
        return self._required_signer().address

    @property
    def rpc_calls(self) -> int:
        """How many calls of the node this client has made."""
        return self._node.calls

    async def chain_digest(self) -> bytes:
        """Digest of the chain's genesis checkpoint, 32 bytes: what batches carry as `chain`."""
        return self._chain

    async def read(self, kind: type[S], address: str, module: str, name: str) -> S:
        """An object of the package as it is now.

        Raises:
            NoSuchObject: there is none, or it is something else.
        """
        return decode_struct(kind, await self._contents(address, module, name))

    async def contents(self, address: str) -> bytes | None:
        """BCS of any object, a dynamic field for example; None where there is none."""
        item = await self._node.object(normal_address(address))
        return None if item is None else item.contents

    async def owned(self, kind: type[S], owner: str, module: str, name: str, limit: int) -> tuple[S, ...]:
        """At most `limit` objects of one type of the package that an address owns."""
        object_type = f"{self.original_package()}::{module}::{name}"
        found = await self._node.owned(normal_address(owner), object_type, limit)
        return tuple(decode_struct(kind, item.contents) for item in found)

    async def view(self, call: MoveCall, sender: str | None = None) -> Sequence[bytes]:
        """Simulates a call: the BCS of what it returns.

        Args:
            call: what to run; nothing of it is committed.
            sender: as whom; by default the signer, or nobody.

        Raises:
            MoveAbortError: the package refuses.
        """
        if sender is None:
            sender = self._signer.address if self._signer else _NOBODY
        return await self._node.view(await self._unpaid([call], sender), self._package)

    async def simulate(self, calls: Sequence[MoveCall], sender: str) -> tuple[int, ExecutionError | None]:
        """How some calls would fare together now.

        Returns:
            The time of the state that they would meet, or an older one: ms since the epoch; and why they would fail.
        """
        return await self._node.simulate(await self._unpaid(calls, sender), self._package)

    async def _unpaid(self, calls: Sequence[MoveCall], sender: str) -> bytes:
        """BCS of a transaction that nobody pays for: nodes simulate it, and execute it never."""
        gas = GasPayment((), await self._gas.price(), CALL_BUDGET_MIST)
        references = {object_id: await self._objects.reference(object_id) for object_id in object_ids(calls)}
        return encode_transaction(calls, references, normal_address(sender), gas)

    async def shared_version(self, object_id: str) -> int:
        """The version at which an object was first shared, by which transactions name it.

        Raises:
            NoSuchObject: there is none, or it is not shared.
        """
        found = await self._objects.reference(normal_address(object_id))
        if not isinstance(found, SharedReference):
            raise NoSuchObject(f"object {found.object_id} is not shared", reason="object-type")
        return found.initial_version

    async def transaction(self, digest: str) -> Effects | None:
        """What a transaction did; None where none of the nodes that answer knows of one with this digest."""
        return await self._node.transaction(digest, self._package)

    async def balance(self, address: str | None = None) -> int:
        """What an address has in SUI, in coins and as address balance, MIST; by default the signer."""
        return (await self._node.balance(normal_address(address or self.address))).total

    async def gas_balance(self) -> int:
        """What the signer has that can pay for gas, MIST: in coins, or as address balance, whichever pays."""
        return await self._gas.balance(self.address)

    async def latest_checkpoint(self) -> int:
        """Sequence number of the newest checkpoint, by the first node that answers: another one may be ahead."""
        return await self._node.latest_checkpoint()

    async def checkpoint(self, sequence: int) -> Checkpoint | None:
        """A checkpoint with the typed events of its transactions; None where no node that answers has it (yet).

        Raises:
            DecodeError: `node-answer`: it contradicts itself, or holds more than the protocol allows.
        """
        return await self._node.checkpoint(sequence, self._package)

    def subscribe_checkpoints(self) -> AsyncGenerator[Checkpoint, None]:
        """New checkpoints as a node announces them, from now on: none is promised, and one may come twice or late.

        Whoever must not miss one reads by number what lies between (`checkpoint`), and subscribes again when the stream
        ends: public nodes cut theirs after 30 s. Each subscription asks the next node.

        Raises:
            RpcUnavailable: the node ended the stream, or has been silent for too long.
            DecodeError: as of `checkpoint`.
        """
        return self._node.subscribe_checkpoints(self._package)

    async def table(self, address: str, limit: int) -> tuple[bytes, ...]:
        """BCS of at most `limit` dynamic fields of an object, a table for example, in the order of their ids."""
        return tuple(item.contents for item in await self._node.field_objects(normal_address(address), limit))

    async def newest_events(self, kind: type[E], module: str, limit: int) -> tuple[E, ...]:
        """At most `limit` events of one kind, newest first, of all clusters of the package."""
        event_type = f"{self.original_package()}::{module}::{kind.__name__}"
        found = await self._node.newest_events(event_type, limit, self._package)
        return tuple(event for event in found if isinstance(event, kind))

    async def events(self, digest: str) -> tuple[Event, ...]:
        """The events of a transaction, typed.

        Raises:
            NoSuchObject: the node knows of no such transaction.
        """
        effects = await self.transaction(digest)
        if effects is None:
            raise NoSuchObject(f"the node knows of no transaction {digest}", reason="transaction-missing")
        return effects.events

    async def build(self, *commands: Command, budget_mist: int = CALL_BUDGET_MIST) -> SignedTransaction:
        """Any transaction of this package's calls, signed."""
        signer = self._required_signer()
        references = {object_id: await self._objects.reference(object_id) for object_id in object_ids(commands)}
        gas = await self._gas.payment(signer.address, budget_mist, commands)
        return sign_transaction(encode_transaction(commands, references, signer.address, gas), signer)

    async def submit(self, transaction: SignedTransaction) -> Effects:
        """Sends a transaction and waits until it is final. Sending the same one again gives the same answer.

        Raises:
            MoveAbortError: the package refused; final, the error carries the effects.
            ExecutionError: it failed in another way; final.
            RpcUnavailable: its fate is unknown: send the same bytes again.
            StaleObject, RpcRefused: the node will not take it; ask `transaction(digest)` before building another.
        """
        try:
            effects = await self._node.execute(transaction, self._package)
        except (RpcError, DecodeError):
            self.forget()
            raise
        self._objects.follow(effects)
        self._gas.follow(effects)
        if effects.failure is not None:
            raise effects.failure
        return effects

    def forget(self) -> None:
        """Asks the node again for the signer's objects and money: others may use the same key."""
        self._objects.forget()
        self._gas.forget()

    async def run(self, *commands: Command, budget_mist: int = CALL_BUDGET_MIST) -> Effects:
        """Builds and submits, one at a time per client."""
        async with self._lock:
            return await self.submit(await self.build(*commands, budget_mist=budget_mist))

    async def capability(self, name: str) -> str:
        """Object id of the signer's AdminCap or RevokerCap.

        Raises:
            NoSuchObject: `capability-missing`.
        """
        return await self._objects.capability(self.address, f"{self.original_package()}::registry::{name}")

    def required_package(self) -> str:
        """Address of the Move package's version that is called.

        Raises:
            MissingPackage: `package-unknown`.
        """
        return self._lineage().current

    def original_package(self) -> str:
        """Address of the Move package's first version, by which types and what is sealed are named for ever.

        Raises:
            MissingPackage: `package-unknown`.
        """
        return self._lineage().original

    def _lineage(self) -> Lineage:
        if self._package is None:
            raise MissingPackage(
                "the package's address is not known: name it in `connect`, or read the registry first",
                reason="package-unknown",
            )
        return self._package

    def _required_signer(self) -> Signer:
        if self._signer is None:
            raise MissingSigner("this client was connected without a signer", reason="signer-missing")
        return self._signer

    async def _contents(self, address: str, module: str, name: str) -> bytes:
        address = normal_address(address)
        item = await self._node.object(address)
        if item is None:
            raise NoSuchObject(f"no object {address}", reason="object-missing")
        found = parse_type(item.object_type) if "::" in item.object_type else None
        ours = found is not None and (self._package is None or found.package in self._package.types)
        if found is None or not ours or found[1:] != (module, name):
            raise NoSuchObject(
                f"object {address} is a {item.object_type or 'package'}, not a {module}::{name}", reason="object-type"
            )
        self._package = self._package or Lineage.first(found.package)
        self._objects.remember_shared(item)
        return item.contents


async def _lineage(node: FullNodes, package: str) -> Lineage:
    found = await node.lineage(normal_address(package))
    if found is None:
        raise NoSuchObject(f"the ledger has no package {package}", reason="package-missing")
    return found
