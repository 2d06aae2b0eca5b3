"""The ledger as typed Python calls: publish, create a registry, register enclaves, anchor batches, read what happened.

One transaction at a time per client: each takes the gas coin as its predecessor left it, which is what keeps an anchor
at one call of the node. Build and send are separate steps, so that a caller can keep the signed bytes first.
"""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from daas.common.bcs import Reader
from daas.common.errors import DecodeError, InvalidInput
from daas.ledger import calls
from daas.ledger.address import normal_address, parse_type
from daas.ledger.errors import MissingPackage, MissingSigner, NoSuchObject, RpcError
from daas.ledger.events import Event, RegistryCreated
from daas.ledger.layout import decode_struct
from daas.ledger.models import (
    Effects,
    Enclave,
    Limits,
    Publication,
    Registry,
    SignedBatch,
    SignedTransaction,
)
from daas.ledger.objects import ObjectCache
from daas.ledger.package import MovePackage, committed_package
from daas.ledger.signer import Signer
from daas.ledger.transaction import (
    Command,
    GasPayment,
    Publish,
    Result,
    TransferObjects,
    encode_transaction,
    object_ids,
    sign_transaction,
)

if TYPE_CHECKING:
    from daas.ledger._pysui import FullNode


DEFAULT_TIMEOUT_MS = 10_000
#: Budgets in MIST: several times what a call costs by the published schedule (1,000 units at 1,000 MIST, and 7,600 MIST
#: per byte of every object written, most of it given back).
CALL_BUDGET_MIST = 100_000_000
PUBLISH_BUDGET_MIST = 500_000_000
#: Batches in one transaction: far below the protocol's limits on size (128 KiB) and commands (1,024).
MAX_BATCHES = 64
_PACKAGE_TYPE = "package"


class Ledger:
    """A connection to a full node, for one account and one Move package. Use `connect`."""

    def __init__(self, node: "FullNode", chain: bytes, signer: Signer | None, package: str | None) -> None:
        self._node = node
        self._chain = chain
        self._signer = signer
        self._package = normal_address(package) if package else None
        self._lock = asyncio.Lock()
        self._objects = ObjectCache(node)

    @classmethod
    async def connect(
        cls,
        url: str,
        signer: Signer | None = None,
        *,
        package: str | None = None,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> Self:
        """Connects to a full node: `http://` is plaintext, `https://` TLS.

        Args:
            url: `http[s]://host[:port]`.
            signer: who pays; without one the client can only read and resend.
            package: address of the published package; learned from the first registry or enclave that is read.
            timeout_ms: deadline of each call.

        Raises:
            RpcError: the node is away or is no Sui full node.
            ConfigurationError: `ledger-url`.
        """
        from daas.ledger._pysui import FullNode  # noqa: PLC0415 - 35 MB that only a connection needs

        node = FullNode(url, timeout_ms)
        try:
            chain = await node.chain_digest()
        except BaseException:
            node.close()
            raise
        return cls(node, chain, signer, package)

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
        """Address of the Move package, once it is known."""
        return self._package

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

    # Reading.

    async def registry(self, address: str) -> Registry:
        """The registry as it is now.

        Raises:
            NoSuchObject: there is none, or it is something else.
        """
        return decode_struct(Registry, await self._contents(address, "registry", "Registry"))

    async def enclave(self, address: str) -> Enclave:
        """A registration as it is now.

        Raises:
            NoSuchObject: there is none, or it is something else.
        """
        return decode_struct(Enclave, await self._contents(address, "enclaves", "Enclave"))

    async def transaction(self, digest: str) -> Effects | None:
        """What a transaction did; None where the node knows of none with this digest."""
        return await self._node.transaction(digest, self._package)

    async def events(self, digest: str) -> tuple[Event, ...]:
        """The events of a transaction, typed.

        Raises:
            NoSuchObject: the node knows of no such transaction.
        """
        effects = await self.transaction(digest)
        if effects is None:
            raise NoSuchObject(f"the node knows of no transaction {digest}", reason="transaction-missing")
        return effects.events

    async def verify_inclusion(self, root: bytes, leaf: bytes, index: int, count: int, path: Sequence[bytes]) -> bool:
        """What the package on the chain says about an inclusion proof; `daas.common.merkle.verify` says it locally."""
        call = calls.verify_inclusion(
            self._required_package(), root=root, leaf=leaf, index=index, count=count, path=tuple(path)
        )
        sender = self._signer.address if self._signer else "0x" + "0" * 64
        gas = GasPayment((), await self._objects.gas_price(), CALL_BUDGET_MIST)
        (value,) = await self._node.view(encode_transaction([call], {}, sender, gas), self._package)
        reader = Reader(value)
        answer = reader.boolean()
        reader.end()
        return answer

    # Writing: one call each, executed or raised.

    async def publish(self, package: MovePackage | None = None) -> Publication:
        """Publishes the committed package; the capabilities go to the signer. The client uses it from now on."""
        compiled = package or committed_package()
        commands = (
            Publish(compiled.modules, compiled.dependencies),
            TransferObjects((Result(0),), self.address),
        )
        effects = await self.run(*commands, budget_mist=PUBLISH_BUDGET_MIST)
        created = {change.object_type: change.object_id for change in effects.changes if change.created}
        address = created.get(_PACKAGE_TYPE)
        if address is None:
            raise DecodeError(f"transaction {effects.digest} shows no published package", reason="node-answer")
        self._package = address
        by_name = {parse_type(kind)[1:]: object_id for kind, object_id in created.items() if "::" in kind}
        return Publication(
            package=address,
            admin_cap=by_name["registry", "AdminCap"],
            revoker_cap=by_name["registry", "RevokerCap"],
            upgrade_cap=by_name["package", "UpgradeCap"],
            effects=effects,
        )

    async def create_registry(
        self, *, simulated: bool, policy: bytes, pcrs: calls.Pcrs, limits: Limits | None = None
    ) -> Registry:
        """Creates a cluster's registry for this chain with one allowed measurement.

        Args:
            simulated: enclaves will be stand-ins; can never be changed.
            policy: digest that enclaves must attest, 32 bytes.
            pcrs: PCR0 to PCR2, 48 bytes each, none all zero.
            limits: time limits; by default those of `Limits`.
        """
        call = calls.create_registry(
            self._required_package(),
            await self._cap("AdminCap"),
            simulated=simulated,
            chain=self._chain,
            policy=policy,
            pcrs=pcrs,
            limits=limits or Limits(),
        )
        effects = await self.run(call)
        return await self.registry(effects.only(RegistryCreated).registry)

    async def register_enclave(self, registry: str, document: bytes) -> Effects:
        """Registers the key in a Nitro attestation document; `effects.only(EnclaveRegistered)` has the rest."""
        async with self._lock:
            return await self.submit(await self.build_register(registry, document))

    async def register_simulated(
        self, registry: str, *, public_key: bytes, pcrs: calls.Pcrs, nonce: bytes, document_digest: bytes
    ) -> Effects:
        """Registers a stand-in's key: see `build_register_simulated`."""
        async with self._lock:
            transaction = await self.build_register_simulated(
                registry, public_key=public_key, pcrs=pcrs, nonce=nonce, document_digest=document_digest
            )
            return await self.submit(transaction)

    async def revoke(self, enclave: str) -> Effects:
        """Ends a registration for good; needs the RevokerCap. Does nothing where it is revoked already."""
        package = self._required_package()
        return await self.run(calls.revoke(package, await self._cap("RevokerCap"), normal_address(enclave)))

    async def allow_measurement(self, registry: str, pcrs: calls.Pcrs) -> Effects:
        """Allows one more enclave image; needs the AdminCap."""
        cap = await self._cap("AdminCap")
        return await self.run(calls.allow_measurement(self._required_package(), cap, normal_address(registry), pcrs))

    async def retire_measurement(self, registry: str, version: int) -> Effects:
        """Ends the right of one image's enclaves to anchor; needs the AdminCap."""
        cap = await self._cap("AdminCap")
        return await self.run(
            calls.retire_measurement(self._required_package(), cap, normal_address(registry), version)
        )

    async def set_limits(self, registry: str, limits: Limits) -> Effects:
        """Changes the registry's time limits; needs the AdminCap."""
        cap = await self._cap("AdminCap")
        return await self.run(calls.set_limits(self._required_package(), cap, normal_address(registry), limits))

    async def set_policy(self, registry: str, policy: bytes) -> Effects:
        """Changes the policy that enclaves must attest, 32 bytes; needs the AdminCap."""
        cap = await self._cap("AdminCap")
        return await self.run(calls.set_policy(self._required_package(), cap, normal_address(registry), policy))

    # Building and sending apart.

    async def build_anchor(self, *batches: SignedBatch) -> SignedTransaction:
        """The transaction that anchors these batches in order, all or none. Keep it before you `submit` it.

        It spends the gas coin as the client knows it: submit it, or learn its fate, before you build the next one.

        Raises:
            InvalidInput: `batch-count`: none, or more than `MAX_BATCHES`.
        """
        if not 0 < len(batches) <= MAX_BATCHES:
            raise InvalidInput(f"1 to {MAX_BATCHES} batches per transaction, not {len(batches)}", reason="batch-count")
        package = self._required_package()
        return await self.build(*(calls.anchor(package, batch) for batch in batches))

    async def build_register(self, registry: str, document: bytes) -> SignedTransaction:
        """The transaction that registers the key in a Nitro attestation document."""
        package = self._required_package()
        return await self.build(calls.load_document(document), calls.register(package, normal_address(registry), 0))

    async def build_register_simulated(
        self, registry: str, *, public_key: bytes, pcrs: calls.Pcrs, nonce: bytes, document_digest: bytes
    ) -> SignedTransaction:
        """The transaction that registers a stand-in's key whose document the caller has verified; needs the AdminCap.

        Args:
            registry: its object id; it must have been created simulated.
            public_key: Ed25519, 32 bytes.
            pcrs: PCR0 to PCR2 of the document.
            nonce: the nonce in the document, which must still be the registry's: one document registers once.
            document_digest: blake2b-256 of the document.
        """
        call = calls.register_simulated(
            self._required_package(),
            await self._cap("AdminCap"),
            normal_address(registry),
            public_key=public_key,
            pcrs=pcrs,
            nonce=nonce,
            document_digest=document_digest,
        )
        return await self.build(call)

    async def build(self, *commands: Command, budget_mist: int = CALL_BUDGET_MIST) -> SignedTransaction:
        """Any transaction of this package's calls, signed."""
        signer = self._required_signer()
        references = {object_id: await self._objects.reference(object_id) for object_id in object_ids(commands)}
        gas = await self._objects.gas(signer.address, budget_mist)
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
            self._objects.forget()
            raise
        self._objects.follow(effects)
        if effects.failure is not None:
            raise effects.failure
        return effects

    async def run(self, *commands: Command, budget_mist: int = CALL_BUDGET_MIST) -> Effects:
        """Builds and submits, one at a time per client."""
        async with self._lock:
            return await self.submit(await self.build(*commands, budget_mist=budget_mist))

    # What must be known before a call can be made.

    def _required_signer(self) -> Signer:
        if self._signer is None:
            raise MissingSigner("this client was connected without a signer", reason="signer-missing")
        return self._signer

    def _required_package(self) -> str:
        if self._package is None:
            raise MissingPackage(
                "the package's address is not known: name it in `connect`, or read the registry first",
                reason="package-unknown",
            )
        return self._package

    async def _contents(self, address: str, module: str, name: str) -> bytes:
        address = normal_address(address)
        item = await self._node.object(address)
        if item is None:
            raise NoSuchObject(f"no object {address}", reason="object-missing")
        found = parse_type(item.object_type) if "::" in item.object_type else None
        if found is None or found[1:] != (module, name) or self._package not in {None, found.package}:
            raise NoSuchObject(
                f"object {address} is a {item.object_type or 'package'}, not a {module}::{name}", reason="object-type"
            )
        self._package = found.package
        self._objects.remember_shared(item)
        return item.contents

    async def _cap(self, name: str) -> str:
        """The signer's capability of this name."""
        return await self._objects.capability(self.address, f"{self._required_package()}::registry::{name}")
