"""Calls of the framework: upgrading a package, moving money to an address balance; and the number of our version."""

from daas.common import bcs
from daas.ledger.address import FRAMEWORK_ADDRESS, parse_address
from daas.ledger.calls.common import address, octets
from daas.ledger.transaction import Command, GasCoin, MoveCall, Object, Pure, Result, SplitCoins, Upgrade

#: BCS of the type tag `0x2::sui::SUI`.
_SUI_TAG = b"\x07" + parse_address(FRAMEWORK_ADDRESS) + bcs.string("sui") + bcs.string("SUI") + b"\x00"


def upgrade(  # noqa: PLR0917 - the fields of the three commands, in their order
    cap: str, package: str, modules: tuple[bytes, ...], dependencies: tuple[str, ...], digest: bytes, policy: int
) -> tuple[Command, ...]:
    """The cap authorizes a digest, the ticket is spent on modules that have it, the receipt moves the cap on."""
    held = Object(cap, mutable=True)
    return (
        MoveCall(
            FRAMEWORK_ADDRESS,
            "package",
            "authorize_upgrade",
            (held, Pure(policy.to_bytes(1, "little")), octets(digest)),
        ),
        Upgrade(modules, dependencies, package, Result(0)),
        MoveCall(FRAMEWORK_ADDRESS, "package", "commit_upgrade", (held, Result(1))),
    )


def current_version(package: str) -> MoveCall:
    """`version::current`: the version that objects must have for this package."""
    return MoveCall(package, "version", "current", ())


def send_funds(amount_mist: int, recipient: str) -> tuple[Command, ...]:
    """Takes money out of the gas coin and adds it to an address balance."""
    send = MoveCall(FRAMEWORK_ADDRESS, "coin", "send_funds", (Result(0), address(recipient)), (_SUI_TAG,))
    return SplitCoins(GasCoin(), (amount_mist,)), send
