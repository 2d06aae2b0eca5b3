"""The ledger as typed Python calls: publish, create a cluster, register enclaves, anchor batches, administer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from daas.common.bcs import Reader
from daas.common.errors import DecodeError, InvalidInput
from daas.ledger import calls
from daas.ledger.address import normal_address, parse_type
from daas.ledger.cluster import STAKED, Parameters
from daas.ledger.connection import CALL_BUDGET_MIST, DEFAULT_TIMEOUT_MS, Connection
from daas.ledger.errors import NoSuchObject
from daas.ledger.events import RegistryCreated
from daas.ledger.gas import GasSource
from daas.ledger.governance import Governance
from daas.ledger.layout import decode_struct
from daas.ledger.models import (
    Effects,
    Enclave,
    Limits,
    PackageUpgrade,
    Publication,
    Registry,
    SignedBatch,
    SignedTransaction,
    UpgradeCap,
)
from daas.ledger.nodes import Nodes
from daas.ledger.package import Lineage, MovePackage, committed_package
from daas.ledger.policies import Policies
from daas.ledger.signer import Signer
from daas.ledger.staking import Staking
from daas.ledger.transaction import Publish, Result, TransferObjects

if TYPE_CHECKING:
    from daas.ledger.full_nodes import FullNodes

__all__ = ["CALL_BUDGET_MIST", "DEFAULT_TIMEOUT_MS", "MAX_BATCHES", "PUBLISH_BUDGET_MIST", "Ledger"]

#: The package has some 30 kB, at 7,600 MIST a byte.
PUBLISH_BUDGET_MIST = 1_000_000_000
#: Batches in one transaction: far below the protocol's limits on size (128 KiB) and commands (1,024).
MAX_BATCHES = 64
_PACKAGE_TYPE = "package"
_UPGRADE_CAP_TYPE = "0x2::package::UpgradeCap"
#: Packages that one address may upgrade: more are not looked through.
_MAX_UPGRADE_CAPS = 1_000


class Ledger(Connection):
    """A connection to full nodes of one chain, for one account and one Move package. Use `connect`.

    Attributes:
        staking, nodes, policies, governance: the calls and reads of those parts of the package.
    """

    def __init__(self, node: "FullNodes", signer: Signer | None, package: Lineage | None, gas: GasSource) -> None:
        super().__init__(node, signer, package, gas)
        self._places: dict[str, tuple[str, str]] = {}
        self.staking = Staking(self)
        self.nodes = Nodes(self)
        self.policies = Policies(self)
        self.governance = Governance(self)

    async def registry(self, address: str) -> Registry:
        """The registry as it is now.

        Raises:
            NoSuchObject: there is none, or it is something else.
        """
        registry = await self.read(Registry, address, "registry", "Registry")
        self._places[registry.address] = (registry.pool, registry.roster)
        return registry

    async def enclave(self, address: str) -> Enclave:
        """A registration as it is now.

        Raises:
            NoSuchObject: there is none, or it is something else.
        """
        return await self.read(Enclave, address, "enclaves", "Enclave")

    async def places(self, registry: str) -> tuple[str, str]:
        """Object ids of a registry's StakePool and Roster, which never change."""
        registry = normal_address(registry)
        if registry not in self._places:
            await self.registry(registry)
        return self._places[registry]

    async def verify_inclusion(self, root: bytes, leaf: bytes, index: int, count: int, path: Sequence[bytes]) -> bool:
        """What the package on the chain says about an inclusion proof; `daas.common.merkle.verify` says it locally."""
        call = calls.verify_inclusion(
            self.required_package(), root=root, leaf=leaf, index=index, count=count, path=tuple(path)
        )
        (value,) = await self.view(call)
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
        self._package = Lineage.first(address)
        by_name = {parse_type(kind)[1:]: object_id for kind, object_id in created.items() if "::" in kind}
        return Publication(
            package=address,
            admin_cap=by_name["registry", "AdminCap"],
            revoker_cap=by_name["registry", "RevokerCap"],
            upgrade_cap=by_name["package", "UpgradeCap"],
            effects=effects,
        )

    async def upgrade(self, package: MovePackage | None = None) -> PackageUpgrade:
        """Publishes the next version of the package; needs the UpgradeCap. The client calls it from now on.

        Objects stay with the version that they are of until `migrate` takes them on.

        Args:
            package: by default the committed one.

        Raises:
            NoSuchObject: `capability-missing`: the signer has no UpgradeCap of the version that it calls.
            ExecutionError: the ledger takes no such upgrade.
        """
        compiled, before = package or committed_package(), self.required_package()
        cap = await self.upgrade_cap()
        digest = bytes.fromhex(compiled.digest)
        commands = calls.upgrade(cap.address, before, compiled.modules, compiled.dependencies, digest, cap.policy)
        effects = await self.run(*commands, budget_mist=PUBLISH_BUDGET_MIST)
        address = next((c.object_id for c in effects.changes if c.created and c.object_type == _PACKAGE_TYPE), None)
        if address is None:
            raise DecodeError(f"transaction {effects.digest} shows no published package", reason="node-answer")
        lineage = self._lineage()
        self._package = Lineage(address, lineage.original, lineage.types | {address})
        return PackageUpgrade(package=address, version=cap.version + 1, before=before, effects=effects)

    async def upgrade_cap(self) -> UpgradeCap:
        """The signer's right to upgrade the version of the package that is called.

        Raises:
            NoSuchObject: `capability-missing`.
        """
        for item in await self._node.owned(self.address, _UPGRADE_CAP_TYPE, _MAX_UPGRADE_CAPS):
            cap = decode_struct(UpgradeCap, item.contents)
            if cap.package == self.required_package():
                return cap
        raise NoSuchObject(
            f"{self.address} has no UpgradeCap of package {self.required_package()}", reason="capability-missing"
        )

    async def package_version(self) -> int:
        """The version that objects must have for the package that is called: `version::current`."""
        (value,) = await self.view(calls.current_version(self.required_package()))
        return Reader(value).u64()

    async def deposit_gas(self, amount_mist: int) -> Effects:
        """Moves money from the signer's coins to its address balance, which then can pay for gas."""
        return await self.run(*calls.send_funds(amount_mist, self.address))

    async def create_registry(
        self,
        *,
        simulated: bool,
        policy: bytes,
        pcrs: calls.Pcrs,
        limits: Limits | None = None,
        parameters: Parameters | None = None,
    ) -> Registry:
        """Creates a cluster for this chain: its registry with one allowed measurement, its stake pool and its roster.

        Args:
            simulated: enclaves will be stand-ins; can never be changed.
            policy: digest that enclaves must attest, 32 bytes.
            pcrs: PCR0 to PCR2, 48 bytes each, none all zero.
            limits: time limits; by default those of `Limits`.
            parameters: what it asks of stake; by default nothing where it is simulated, else `STAKED`.

        Raises:
            MoveAbortError: `EStakeRequired`, for example: only a simulated cluster may ask no stake of operators.
        """
        commands = calls.create_registry(
            self.required_package(),
            await self.capability("AdminCap"),
            simulated=simulated,
            chain=self._chain,
            policy=policy,
            pcrs=pcrs,
            limits=limits or Limits(),
            parameters=parameters or (Parameters() if simulated else STAKED),
        )
        effects = await self.run(*commands)
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
        package = self.required_package()
        return await self.run(calls.revoke(package, await self.capability("RevokerCap"), normal_address(enclave)))

    async def retire(self, enclave: str) -> Effects:
        """Ends a registration of the signer's own."""
        async with self._lock:
            return await self.submit(await self.build_retire(enclave))

    async def report_equivocation(self, registry: str, first: SignedBatch, second: SignedBatch) -> Effects:
        """Reports two batches that one key has signed with one number: ends its registration and slashes its operator.

        The signer gets the reporter's share. `effects.only(EquivocationReported)` says what it was worth.
        """
        pool, _ = await self.places(registry)
        package, enclave = self.required_package(), normal_address(first.enclave)
        call = calls.report_equivocation(
            package, normal_address(registry), pool, enclave=enclave, first=first, second=second
        )
        return await self.run(call)

    async def hand_over(self, registry: str) -> Effects:
        """Gives up the AdminCap's say over this cluster's settings, for good: only proposals change them after this."""
        cap = await self.capability("AdminCap")
        return await self.run(calls.hand_over(self.required_package(), cap, normal_address(registry)))

    async def migrate(self, address: str) -> Effects:
        """Brings an object that an older version of the package wrote up to the present one; needs the AdminCap.

        Raises:
            NoSuchObject: there is none, or it has no version.
        """
        address = normal_address(address)
        item = await self._node.object(address)
        kind = parse_type(item.object_type) if item is not None and "::" in item.object_type else None
        cap = await self.capability("AdminCap")
        call = calls.migrate(self.required_package(), cap, address, kind.module, kind.name) if kind else None
        if call is None:
            raise NoSuchObject(f"object {address} is nothing that can be migrated", reason="object-type")
        return await self.run(call)

    async def allow_measurement(self, registry: str, pcrs: calls.Pcrs) -> Effects:
        """Allows one more enclave image; needs the AdminCap."""
        cap = await self.capability("AdminCap")
        return await self.run(calls.allow_measurement(self.required_package(), cap, normal_address(registry), pcrs))

    async def retire_measurement(self, registry: str, version: int) -> Effects:
        """Ends the right of one image's enclaves to anchor; needs the AdminCap."""
        cap = await self.capability("AdminCap")
        return await self.run(calls.retire_measurement(self.required_package(), cap, normal_address(registry), version))

    async def set_limits(self, registry: str, limits: Limits) -> Effects:
        """Changes the registry's time limits; needs the AdminCap."""
        cap = await self.capability("AdminCap")
        return await self.run(calls.set_limits(self.required_package(), cap, normal_address(registry), limits))

    async def set_policy(self, registry: str, policy: bytes) -> Effects:
        """Changes the policy that enclaves must attest, 32 bytes; needs the AdminCap."""
        cap = await self.capability("AdminCap")
        return await self.run(calls.set_policy(self.required_package(), cap, normal_address(registry), policy))

    # Building and sending apart.

    async def build_anchor(self, *batches: SignedBatch) -> SignedTransaction:
        """The transaction that anchors these batches in order, all or none. Keep it before you `submit` it.

        It spends the gas coin as the client knows it: submit it, or learn its fate, before you build the next one.

        Raises:
            InvalidInput: `batch-count`: none, or more than `MAX_BATCHES`.
        """
        if not 0 < len(batches) <= MAX_BATCHES:
            raise InvalidInput(f"1 to {MAX_BATCHES} batches per transaction, not {len(batches)}", reason="batch-count")
        package = self.required_package()
        return await self.build(*(calls.anchor(package, batch) for batch in batches))

    async def build_retire(self, enclave: str) -> SignedTransaction:
        """The transaction that ends a registration of the signer's own; see `retire`."""
        return await self.build(calls.retire(self.required_package(), normal_address(enclave)))

    async def build_register(self, registry: str, document: bytes) -> SignedTransaction:
        """The transaction that registers the key in a Nitro attestation document."""
        pool, _ = await self.places(registry)
        call = calls.register(self.required_package(), normal_address(registry), pool, 0)
        return await self.build(calls.load_document(document), call)

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
        pool, _ = await self.places(registry)
        call = calls.register_simulated(
            self.required_package(),
            await self.capability("AdminCap"),
            normal_address(registry),
            pool,
            public_key=public_key,
            pcrs=pcrs,
            nonce=nonce,
            document_digest=document_digest,
        )
        return await self.build(call)
