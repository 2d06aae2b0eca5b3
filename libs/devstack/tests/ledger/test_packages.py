"""Packages are published and upgraded as Sui does it, pinned digests only; shared objects end as Sui lets them end."""

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from daas.devstack.ledger.binary import read_module
from daas.devstack.ledger.errors import ExecutionFailedError
from daas.devstack.ledger.ledger import Ledger
from daas.devstack.ledger.objects import Owner, make_object
from daas.devstack.ledger.packages import ADDITIVE, COMPATIBLE, DEPENDENCIES_ONLY, check_compatible, package_digest
from daas.devstack.ledger.type_tags import SUI, Datatype, format_type, parse_address

if TYPE_CHECKING:
    from libs.devstack.tests.ledger.conftest import Account

Version = tuple[list[bytes], list[bytes], bytes]
BUDGET = 2_000_000_000
CAP = format_type(Datatype(SUI, "package", "UpgradeCap"))


def publish(account: "Account", modules: list[bytes], dependencies: list[bytes]) -> bytes:
    commands = [account.publish(modules, dependencies), account.transfer(account.input(0), account.result(0))]
    executed = account.run([account.pure(account.address)], commands, account.coins()[0], budget=BUDGET)
    assert executed.effects.status.success, executed.effects.status.error
    return next(parse_address(c.object_id) for c in executed.effects.changed_objects if c.object_type == "package")


def upgrade(account: "Account", package: bytes, version: Version, *, digest: bytes | None = None) -> Any:
    modules, dependencies, real_digest = version
    (cap,) = account.ledger.store.owned(account.address, "address", b"", 10, CAP)
    inputs = [account.owned(cap), account.pure(bytes([COMPATIBLE])), account.pure(b"\x20" + (digest or real_digest))]
    commands = [
        account.call(SUI, "package::authorize_upgrade", *(account.input(i) for i in range(3))),
        account.upgrade(modules, dependencies, package, account.result(0)),
        account.call(SUI, "package::commit_upgrade", account.input(0), account.result(1)),
    ]
    return account.run(inputs, commands, account.coins()[0], budget=BUDGET)


def test_an_upgrade_is_a_new_package_with_the_types_of_the_first(
    ledger: Ledger, account: "Account", built_package: tuple[list[bytes], list[bytes]], upgraded_package: Version
) -> None:
    first = publish(account, *built_package)
    executed = upgrade(account, first, upgraded_package)
    assert executed.effects.status.success, executed.effects.status.error
    second = next(parse_address(c.object_id) for c in executed.effects.changed_objects if c.object_type == "package")
    package = ledger.packages[second]
    assert (package.version, package.original, package.digest) == (2, first, upgraded_package[2])
    assert {origin for _, _, origin in package.origins} == {first}
    (cap,) = ledger.store.owned(account.address, "address", b"", 10, CAP)
    assert (cap.contents[32:64], int.from_bytes(cap.contents[64:72], "little")) == (second, 2)
    named_by_second = Datatype(second, "registry", "Registry")
    assert ledger.program.defined(named_by_second) == Datatype(first, "registry", "Registry")
    assert ledger.program.original(named_by_second) == Datatype(first, "registry", "Registry")
    for address in (first, second):
        assert ledger.program.function(address, "placement", "anchor") is not None


def test_an_upgraded_ledger_reopens_with_both_versions(
    open_ledger: Any, account: "Account", built_package: tuple[list[bytes], list[bytes]], upgraded_package: Version
) -> None:
    first = publish(account, *built_package)
    upgrade(account, first, upgraded_package)
    packages = dict(account.ledger.packages)
    again = open_ledger()
    assert again.packages == packages
    assert len(again.packages) == 2


def test_an_upgrade_needs_its_ticket_its_package_and_a_pinned_digest(
    account: "Account", built_package: tuple[list[bytes], list[bytes]], upgraded_package: Version
) -> None:
    first = publish(account, *built_package)
    for executed, expected in (
        (upgrade(account, first, upgraded_package, digest=bytes(32)), "another digest"),
        (upgrade(account, b"\x01" * 32, upgraded_package), "for another package"),
    ):
        error = executed.effects.status.error
        assert error.kind.name == "PACKAGE_UPGRADE_ERROR"
        assert expected in error.description
    modules, dependencies, _ = upgraded_package
    fewer = modules[:-1]
    executed = upgrade(account, first, (fewer, dependencies, package_digest(fewer, dependencies)))
    assert "not pinned" in executed.effects.status.error.description
    assert len(account.ledger.packages) == 1


def test_publishing_is_charged_for_the_bytes_that_it_stores(
    account: "Account", built_package: tuple[list[bytes], list[bytes]]
) -> None:
    publish(account, *built_package)
    (package,) = account.ledger.packages.values()
    size = sum(map(len, package.modules))
    assert package.storage_mist > size * 7_600
    assert package.size > size


def test_upgrades_keep_what_others_rely_on(built_package: tuple[list[bytes], list[bytes]]) -> None:
    old = [read_module(code) for code in built_package[0]]
    check_compatible(old, old, DEPENDENCIES_ONLY)
    module = next(m for m in old if m.name == "placement")
    rest = [m for m in old if m.name != "placement"]
    with pytest.raises(ExecutionFailedError, match="module placement is missing"):
        check_compatible(old, rest, COMPATIBLE)
    anchor = next(f for f in module.functions if f.handle.name == "anchor")
    without = msgspec.structs.replace(module, functions=tuple(f for f in module.functions if f is not anchor))
    with pytest.raises(ExecutionFailedError, match="function placement::anchor is missing"):
        check_compatible(old, [*rest, without], COMPATIBLE)
    rewritten = msgspec.structs.replace(anchor, code=anchor.code[:-1])
    changed = msgspec.structs.replace(
        module, functions=tuple(rewritten if f is anchor else f for f in module.functions)
    )
    check_compatible(old, [*rest, changed], COMPATIBLE)
    with pytest.raises(ExecutionFailedError, match="function placement::anchor has changed"):
        check_compatible(old, [*rest, changed], ADDITIVE)
    struct = module.structs[0]
    narrowed = msgspec.structs.replace(module, structs=(msgspec.structs.replace(struct, fields=struct.fields[1:]),))
    with pytest.raises(ExecutionFailedError, match="struct placement::"):
        check_compatible(old, [*rest, narrowed], COMPATIBLE)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ("public_share_object", None),
        ("public_freeze_object", "CONSENSUS_OBJECT_OPERATION_NOT_ALLOWED"),
        ("public_transfer", "CONSENSUS_OBJECT_OPERATION_NOT_ALLOWED"),
    ],
)
def test_a_shared_object_is_shared_again_or_deleted_but_never_given_away(
    ledger: Ledger, account: "Account", function: str, kind: str | None
) -> None:
    bag = Datatype(SUI, "bag", "Bag")
    object_id = b"\x0b" * 32
    held = make_object(
        object_id, 3, Owner("shared", shared_version=3), bag, object_id + bytes(8),
        previous=bytes(32), storage_mist=0, public_transfer=True,
    )  # fmt: skip
    find = ledger.object
    ledger._admission._find = lambda wanted: held if wanted == object_id else find(wanted)
    tag = b"\x07" + SUI + b"\x03bag\x03Bag\x00"
    shared = account.shared(held, mutable=True)
    arguments = [account.input(0)] + ([account.input(1)] if function == "public_transfer" else [])
    inputs = [shared, account.pure(b"\x07" * 32)]
    executed = account.run(
        inputs, [account.call(SUI, f"transfer::{function}", *arguments, types=[tag])], account.coins()[0]
    )
    error = executed.effects.status.error
    assert (error.kind.name if error else None) == kind
    if kind is None:
        after = ledger.object(object_id)
        assert after is not None
        assert after.owner == Owner("shared", shared_version=3)
        destroyed = account.run(
            [shared], [account.call(SUI, "bag::destroy_empty", account.input(0))], account.coins()[0]
        )
        assert destroyed.effects.status.success
        assert ledger.object(object_id) is None


def test_a_failed_publication_leaves_nothing_callable(account: "Account", upgraded_package: Version) -> None:
    modules, dependencies, _ = upgraded_package
    before = set(account.ledger.program.functions)
    executed = account.run([], [account.publish(modules, dependencies)], account.coins()[0], budget=BUDGET)
    assert executed.effects.status.error.kind.name == "UNUSED_VALUE_WITHOUT_DROP"
    assert set(account.ledger.program.functions) == before
