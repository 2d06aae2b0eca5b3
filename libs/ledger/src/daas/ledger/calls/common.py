"""Arguments of Move calls, and what several modules share."""

from daas.common import bcs
from daas.ledger.address import CLOCK_ADDRESS, parse_address
from daas.ledger.transaction import Argument, MoveCall, Object, Pure

#: PCR0, PCR1 and PCR2, 48 bytes each.
Pcrs = tuple[bytes, bytes, bytes]

CLOCK = Object(CLOCK_ADDRESS)

#: The functions that bring objects of older versions of the package up to the present one, by type.
_MIGRATIONS = {
    ("registry", "Registry"): "migrate",
    ("enclaves", "Enclave"): "migrate",
    ("stake", "StakePool"): "migrate",
    ("nodes", "Roster"): "migrate_roster",
    ("nodes", "Node"): "migrate",
    ("policy", "Policy"): "migrate",
    ("governance", "Proposal"): "migrate",
}


def octets(value: bytes) -> Pure:
    """A vector<u8>."""
    return Pure(bcs.bytes_(value))


def hex_digits(value: str) -> Pure:
    """A vector<u8> given as hex digits."""
    return octets(bytes.fromhex(value))


def u64(value: int) -> Pure:
    """A u64."""
    return Pure(bcs.u64(value))


def u64s(*values: int) -> tuple[Argument, ...]:
    """Several u64."""
    return tuple(u64(value) for value in values)


def address(value: str) -> Pure:
    """An address."""
    return Pure(parse_address(value))


def addresses(values: tuple[str, ...]) -> Pure:
    """A vector<address>."""
    return Pure(bcs.vector(parse_address, values))


def migrate(package: str, admin_cap: str, target: str, module: str, name: str) -> MoveCall | None:
    """The call that migrates an object of this type; None where objects of this type have no version."""
    function = _MIGRATIONS.get((module, name))
    if function is None:
        return None
    return MoveCall(package, module, function, (Object(admin_cap), Object(target, mutable=True)))
