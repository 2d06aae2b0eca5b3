"""The compiled Move package that this version of the library speaks to: modules, digest, names of the abort codes."""

from functools import cache
from hashlib import blake2b
from importlib.resources import files

import msgspec

from daas.common.errors import InvalidInput
from daas.ledger.address import FRAMEWORK_ADDRESS, normal_address, parse_address

_ARTEFACT = "package/daas.json"

#: Abort codes of the framework function that reads attestation documents (Sui framework, `sui::nitro_attestation`).
_NITRO_ABORTS = {0: "ENotSupportedError", 1: "EParseError", 2: "EVerifyError", 3: "EInvalidPCRsError"}


class Lineage(msgspec.Struct, frozen=True):
    """A published package and what became of it by upgrades: each version is a package of its own on Sui.

    Attributes:
        current: address of the version that is called.
        original: address of the first version. Types keep the address of the version that first had them, and what is
            sealed under the package keeps this one.
        types: addresses that types of the current version have.
    """

    current: str
    original: str
    types: frozenset[str]

    @classmethod
    def first(cls, package: str) -> "Lineage":
        """A package that has not been upgraded."""
        address = normal_address(package)
        return cls(address, address, frozenset({address}))


class MovePackage(msgspec.Struct, frozen=True, kw_only=True):
    """What the builder made.

    Attributes:
        modules: bytecode in the order of publication, own address 0x0.
        digest: package digest, hex: blake2b-256 over the sorted digests of the modules and addresses of dependencies.
        dependencies: addresses of the packages it is linked with.
        aborts: module -> code (as text) -> name of the constant.
    """

    name: str
    builder: str
    digest: str
    dependencies: tuple[str, ...]
    module_names: tuple[str, ...]
    modules: tuple[bytes, ...]
    aborts: dict[str, dict[str, str]]

    def computed_digest(self) -> str:
        """The digest as Sui computes it from modules and dependencies."""
        parts = [blake2b(module, digest_size=32).digest() for module in self.modules]
        parts += [parse_address(dependency) for dependency in self.dependencies]
        return blake2b(b"".join(sorted(parts)), digest_size=32).hexdigest()


def decode_package(data: bytes) -> MovePackage:
    """Reads an artefact and refuses one whose digest is not that of its modules.

    Raises:
        InvalidInput: `package-format` or `package-digest`.
    """
    try:
        package = msgspec.json.decode(data, type=MovePackage)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"not a compiled Move package: {error}", reason="package-format") from None
    computed = package.computed_digest()
    if computed != package.digest:
        raise InvalidInput(f"the modules have digest {computed}, not {package.digest}", reason="package-digest")
    return package


@cache
def committed_package() -> MovePackage:
    """The package that this library was built with."""
    return decode_package(files("daas.ledger").joinpath(_ARTEFACT).read_bytes())


def abort_name(package: Lineage | None, location: str, module: str, code: int) -> str | None:
    """The constant behind an abort code; None where it is not known.

    Args:
        package: our package; None: none is known yet.
        location: address of the package that aborted; empty where the node does not say.
        module: name of the module that aborted.
        code: its abort code.
    """
    where = normal_address(location) if location else None
    if where is None or (package is not None and where in {package.current, package.original}):
        return committed_package().aborts.get(module, {}).get(str(code))
    if where == FRAMEWORK_ADDRESS and module == "nitro_attestation":
        return _NITRO_ABORTS.get(code)
    return None
