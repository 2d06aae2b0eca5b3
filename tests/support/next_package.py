"""The next version of the package: this one with a higher number in `version::current`, and nothing else changed."""

import msgspec

from daas.ledger.package import MovePackage, committed_package

#: The constant of `version` in the bytecode: type u64, eight bytes.
FIRST, SECOND = (b"\x03\x08" + number.to_bytes(8, "little") for number in (1, 2))


def next_package() -> MovePackage:
    """The package as an upgrade would bring it."""
    package = committed_package()
    at = package.module_names.index("version")
    assert package.modules[at].count(FIRST) == 1
    modules = list(package.modules)
    modules[at] = modules[at].replace(FIRST, SECOND)
    changed = msgspec.structs.replace(package, modules=tuple(modules))
    return msgspec.structs.replace(changed, digest=changed.computed_digest())
