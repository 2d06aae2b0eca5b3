"""Packages: publishing what is pinned, upgrading it compatibly, their sizes, and their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from daas.devstack.ledger.binary import PUBLIC, Module, read_module, with_self_address
from daas.devstack.ledger.errors import ExecutionFailedError
from daas.devstack.ledger.execution import Execution
from daas.devstack.ledger.gas import PUBLISH_INTERNAL_PER_BYTE, storage_mist
from daas.devstack.ledger.program import Package
from daas.devstack.ledger.type_tags import ADDRESS_LENGTH, STD, SUI

COMPATIBLE, ADDITIVE, DEPENDENCIES_ONLY = 0, 128, 192
_FRAMEWORK: Final = frozenset({STD, SUI})
_METADATA_BYTES: Final = 80  # as of every object: owner, previous transaction, rebate
_VERSION_BYTES: Final = 8


def package_digest(modules: Sequence[bytes], dependencies: Sequence[bytes]) -> bytes:
    """Sui's digest of a package: of the sorted digests of its modules and ids of its dependencies."""
    parts = sorted([*(hashlib.blake2b(code, digest_size=32).digest() for code in modules), *dependencies])
    return hashlib.blake2b(b"".join(parts), digest_size=32).digest()


def package_size(modules: Sequence[bytes], names: Sequence[str], origins: Sequence[tuple[str, str, bytes]]) -> int:
    """Bytes of a package, as storage and reading are charged."""
    module_map = sum(len(name) + len(code) for name, code in zip(names, modules, strict=True))
    table = sum(len(module) + len(name) + ADDRESS_LENGTH for module, name, _ in origins)
    linkage = len(_FRAMEWORK) * (2 * ADDRESS_LENGTH + _VERSION_BYTES)
    return _METADATA_BYTES + _VERSION_BYTES + module_map + table + linkage


class Publisher:
    """Publishes and upgrades packages whose digests are pinned: this ledger has no bytecode verifier.

    Args:
        pinned: the digests.
        packages: the published packages by id.
    """

    def __init__(self, pinned: Collection[bytes], packages: Mapping[bytes, Package]) -> None:
        self._pinned = frozenset(pinned)
        self._packages = packages

    def publish(self, modules: Sequence[bytes], dependencies: Sequence[bytes], execution: Execution) -> Package:
        """The first version of a package, loaded into the execution's program."""
        digest = self._digest(modules, dependencies)
        package_id = _package_id(execution)
        return self._load(
            execution, modules, package_id=package_id, original=package_id, version=1, digest=digest, known={}
        )

    def upgrade(
        self,
        modules: Sequence[bytes],
        dependencies: Sequence[bytes],
        *,
        package_id: bytes,
        policy: int,
        ticket_digest: bytes,
        execution: Execution,
    ) -> Package:
        """The next version of a package, as the ticket allows, loaded into the execution's program.

        Raises:
            ExecutionFailedError: PACKAGE_UPGRADE_ERROR, or the digest is not pinned.
        """
        before = self._packages.get(package_id)
        if before is None:
            raise _upgrade_error(f"no package 0x{package_id.hex()} to upgrade")
        if package_digest(modules, dependencies) != ticket_digest:
            raise _upgrade_error("the ticket authorizes another digest than that of these modules")
        if policy not in {COMPATIBLE, ADDITIVE, DEPENDENCIES_ONLY}:
            raise _upgrade_error(f"unknown upgrade policy {policy}")
        digest = self._digest(modules, dependencies)
        new = [read_module(with_self_address(code, before.original), before.origin_map()) for code in modules]
        old = [read_module(code, before.origin_map()) for code in before.modules]
        check_compatible(old, new, policy)
        return self._load(
            execution,
            modules,
            package_id=_package_id(execution),
            original=before.original,
            version=before.version + 1,
            digest=digest,
            known=before.origin_map(),
        )

    def _digest(self, modules: Sequence[bytes], dependencies: Sequence[bytes]) -> bytes:
        digest = package_digest(modules, dependencies)
        if digest not in self._pinned:
            raise ExecutionFailedError(
                "SUI_MOVE_VERIFICATION_ERROR",
                f"package digest {digest.hex()} is not pinned: the simulated ledger has no bytecode verifier and takes "
                "known packages only",
            )
        if unknown := set(dependencies) - _FRAMEWORK:
            raise ExecutionFailedError("PUBLISH_UPGRADE_MISSING_DEPENDENCY", f"{len(unknown)} unknown dependencies")
        return digest

    def _load(
        self,
        execution: Execution,
        codes: Sequence[bytes],
        *,
        package_id: bytes,
        original: bytes,
        version: int,
        digest: bytes,
        known: Mapping[tuple[str, str], bytes],
    ) -> Package:
        modules = tuple(with_self_address(code, original) for code in codes)
        execution.meter.charge(PUBLISH_INTERNAL_PER_BYTE * sum(map(len, modules)))
        read = [read_module(code) for code in modules]
        origins = tuple(
            (module.name, struct.handle.name, known.get((module.name, struct.handle.name), package_id))
            for module in read
            for struct in module.structs
        )
        size = package_size(modules, [module.name for module in read], origins)
        package = Package(package_id, version, digest, modules, execution.digest, original, origins, storage_mist(size))
        execution.program.load(package)
        return package


def _package_id(execution: Execution) -> bytes:
    package_id = execution.fresh_id()
    execution.new_ids.pop(package_id)  # a package is no Move object
    return package_id


def check_compatible(old: Sequence[Module], new: Sequence[Module], policy: int) -> None:
    """Refuse an upgrade that changes what others rely on.

    Structs keep abilities and fields, public functions keep their signatures; an additive upgrade may not change any
    function, one of dependencies only may not add anything.

    Raises:
        ExecutionFailedError: PACKAGE_UPGRADE_ERROR.
    """
    by_name = {module.name: module for module in new}
    if policy == DEPENDENCIES_ONLY and set(by_name) != {module.name for module in old}:
        raise _upgrade_error("the policy allows dependencies to change only")
    for module in old:
        successor = by_name.get(module.name)
        if successor is None:
            raise _upgrade_error(f"module {module.name} is missing")
        structs = {struct.handle.name: struct for struct in successor.structs}
        for struct in module.structs:
            kept = structs.get(struct.handle.name)
            if kept is None or (kept.fields, kept.handle) != (struct.fields, struct.handle):
                raise _upgrade_error(f"struct {module.name}::{struct.handle.name} is missing or has changed")
        functions = {function.handle.name: function for function in successor.functions}
        for function in module.functions:
            same = functions.get(function.handle.name)
            if policy != COMPATIBLE and (same is None or same.code != function.code):
                raise _upgrade_error(f"function {module.name}::{function.handle.name} has changed")
            if function.visibility == PUBLIC and (
                same is None or same.visibility != PUBLIC or same.handle != function.handle
            ):
                raise _upgrade_error(f"public function {module.name}::{function.handle.name} is missing or has changed")
        if policy == DEPENDENCIES_ONLY and (
            len(successor.functions) != len(module.functions) or len(successor.structs) != len(module.structs)
        ):
            raise _upgrade_error(f"module {module.name} has grown, but the policy allows dependencies to change only")


def _upgrade_error(message: str) -> ExecutionFailedError:
    return ExecutionFailedError("PACKAGE_UPGRADE_ERROR", message)
