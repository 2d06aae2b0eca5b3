"""`daas chain upgrade`, `migrate`, `deposit-gas`: the next version of the package, its objects, money that pays."""

from pathlib import Path
from typing import Annotated, Any

import typer

from daas.cli.chain import chain_app
from daas.cli.context import Context
from daas.cli.ledger import Keystore, Output, Yes, confirm, mist, show, show_all, sui, with_ledger
from daas.common.errors import ConfigurationError, InvalidInput
from daas.ledger import EnclaveRegistered, Ledger, MovePackage, SealPolicyCreated, committed_package, decode_package

__all__ = ["chain_app"]

#: What is found by itself of each kind; more are named on the command line.
_FOUND_MAX = 1_000
#: Every versioned object begins with its id, 32 bytes, and its version, u64.
_VERSION = slice(32, 40)


@chain_app.command("upgrade")
def upgrade(
    package: Annotated[
        Path | None, typer.Option(help="built package (`daas.json`); else the one that this command was built with")
    ] = None,
    keystore: Keystore = None,
    output: Output = "table",
    *,
    yes: Yes = False,
) -> None:
    """Publishes the next version of the Move package; the cluster stays with the present one until `migrate`."""
    compiled = committed_package() if package is None else _read(package)

    async def work(ledger: Ledger, _context: Context) -> dict[str, Any]:
        cap = await ledger.upgrade_cap()
        confirm(
            f"upgrade package {ledger.package} from version {cap.version} to digest {compiled.digest}?",
            yes=yes,
        )
        made = await ledger.upgrade(compiled)
        return {
            "package": made.package,
            "version": made.version,
            "objects' version": await ledger.package_version(),
            "before": made.before,
            "first version": ledger.original_package(),
            "next": f"daas chain migrate --package {made.package}",
        }

    show(with_ledger(keystore, work), output, title="upgraded")


@chain_app.command("migrate")
def migrate(
    package: Annotated[str, typer.Option(help="address of the version of the package that objects are brought up to")],
    addresses: Annotated[
        list[str] | None,
        typer.Argument(
            help="objects; else the registry, stake pool, roster, nodes, registrations, policies and proposals"
        ),
    ] = None,
    keystore: Keystore = None,
    output: Output = "table",
    *,
    yes: Yes = False,
) -> None:
    """Brings objects up to the package's version: from then on older versions refuse them, and relays must name it."""

    async def work(ledger: Ledger, context: Context) -> list[dict[str, Any]]:
        version = await ledger.package_version()
        found = addresses or await _objects(ledger, context.registry)
        behind = [address for address in found if await _version(ledger, address) != version]
        if behind:
            confirm(f"migrate {len(behind)} objects to version {version}? older versions refuse them then", yes=yes)
        return [{"object": each, "version": version, "tx": (await ledger.migrate(each)).digest} for each in behind]

    show_all(list(with_ledger(keystore, work, package=package)), output, title="objects to migrate")


@chain_app.command("deposit-gas")
def deposit_gas(
    amount: Annotated[str, typer.Argument(help="in SUI")], keystore: Keystore = None, output: Output = "table"
) -> None:
    """Moves money from the signer's coins to its address balance, from which a relay can pay (DAAS_RELAY_GAS)."""

    async def work(ledger: Ledger, _context: Context) -> dict[str, Any]:
        effects = await ledger.deposit_gas(mist(amount))
        return {
            "account": ledger.address,
            "deposited": amount + " SUI",
            "coins": sui(await ledger.gas_balance()),
            "in all": sui(await ledger.balance()),
            "tx": effects.digest,
        }

    show(with_ledger(keystore, work), output)


def _read(path: Path) -> MovePackage:
    try:
        return decode_package(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"the package {path}: {error.strerror}", reason="package-file") from None


async def _objects(ledger: Ledger, registry: str) -> list[str]:
    """What the ledger knows of a cluster's versioned objects, the shared ones first."""
    found = [registry, *await ledger.places(registry)]
    found += [node.address for node in await ledger.nodes.all(registry, limit=_FOUND_MAX)]
    for event in await ledger.newest_events(EnclaveRegistered, "enclaves", _FOUND_MAX):
        if event.registry == registry and not (await ledger.enclave(event.enclave)).revoked:
            found.append(event.enclave)
    created = await ledger.newest_events(SealPolicyCreated, "policy", _FOUND_MAX)
    found += [event.policy for event in created if event.registry == registry]
    found += [each.address for each in await ledger.governance.all(registry, limit=_FOUND_MAX) if not each.executed]
    return list(dict.fromkeys(found))


async def _version(ledger: Ledger, address: str) -> int:
    contents = await ledger.contents(address)
    if contents is None or len(contents) < _VERSION.stop:
        raise InvalidInput(f"there is no versioned object {address}", reason="object-missing", field="addresses")
    return int.from_bytes(contents[_VERSION], "little")
