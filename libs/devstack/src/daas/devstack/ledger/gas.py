"""Gas by Sui's published schedule: what runs is counted in units, what is stored in bytes, both are priced.

The numbers are those of protocol 105 (gas model 11, cost schedule 5). Everything is counted in internal units, 1,000 to
a gas unit: an instruction, a push and a byte of memory cost one each, and more beyond the tiers. What is approximated
is listed in README.md beside this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from daas.devstack.ledger.errors import ExecutionFailedError

GAS_PRICE: Final = 1_000  # MIST a unit; mainnet's reference price has been between 500 and 1,000
INTERNAL: Final = 1_000  # internal units in a gas unit
ROUNDING_UNITS: Final = 1_000  # protocol parameter gas_rounding_step
STORAGE_MIST_PER_BYTE: Final = 7_600  # 76 MIST x 100 storage units a byte
REBATE_BASIS_POINTS: Final = 9_900  # 99 % of what was paid comes back
BUDGET_MAX: Final = 50_000_000_000
BUDGET_MIN_UNITS: Final = 1_000  # base_tx_cost_fixed
UNITS_MAX: Final = 5_000_000  # max_gas_computation_bucket
READ_INTERNAL_PER_BYTE: Final = 15  # obj_access_cost_read_per_byte, of every input object and every package called
PUBLISH_INTERNAL_PER_BYTE: Final = 80  # package_publish_cost_per_byte
NATIVE_INTERNAL: Final = 52  # what most native functions cost before what depends on their arguments

# What values weigh in memory: abstract_memory_size with fine-grained values.
REFERENCE_BYTES: Final = 8
PRIMITIVE_BYTES: Final = 8
STRUCT_BYTES: Final = 2

# (counted up to, internal units each from the previous border on)
_INSTRUCTION_TIERS: Final = ((20_000, 1), (50_000, 2), (100_000, 10), (200_000, 50), (10_000_000, 100))
_MEMORY_TIERS: Final = ((100_000, 1), (500_000, 2), (1_000_000, 5), (100_000_000, 100))
_LAST_TIER: Final = 1_000
# Static charges of an instruction are kept in one number: bytes of memory above, pushes below.
MEMORY_SHIFT: Final = 32
_PUSHES_MASK: Final = (1 << MEMORY_SHIFT) - 1


def _tiered(count: int, tiers: Sequence[tuple[int, int]]) -> int:
    cost = previous = 0
    for border, price in tiers:
        if count <= border:
            return cost + (count - previous) * price
        cost += (border - previous) * price
        previous = border
    return cost + (count - previous) * _LAST_TIER


def instruction_cost(count: int) -> int:
    """Internal units that `count` executed instructions cost."""
    return _tiered(count, _INSTRUCTION_TIERS)


def memory_cost(size_bytes: int) -> int:
    """Internal units that `size_bytes` of values on the stack cost."""
    return _tiered(size_bytes, _MEMORY_TIERS)


def round_up(units: int) -> int:
    """Units as they are charged: the next multiple of the step, at least one step."""
    return max(-(-units // ROUNDING_UNITS), 1) * ROUNDING_UNITS


class Meter:
    """Counts what an execution uses and stops it when the budget is gone.

    Args:
        budget_units: gas units that the budget pays for.
    """

    __slots__ = ("_budget", "_check_at", "_memory_and_pushes", "instructions", "native")

    def __init__(self, budget_units: int) -> None:
        self.instructions = 0
        self.native = 0
        self._memory_and_pushes = 0
        self._budget = min(budget_units, UNITS_MAX) * INTERNAL
        self._check_at = 0

    def step(self, instructions: int, charges: int) -> None:
        """Count executed instructions with their static charges (pushes, and memory shifted by MEMORY_SHIFT).

        Raises:
            ExecutionFailedError: INSUFFICIENT_GAS.
        """
        self.instructions += instructions
        self._memory_and_pushes += charges
        if self.instructions > self._check_at:
            self._check()

    def charge(self, internal: int) -> None:
        """Charge internal units of a native function.

        Raises:
            ExecutionFailedError: INSUFFICIENT_GAS.
        """
        self.native += internal
        if self.native > self._budget:
            self._exhausted()

    def internal(self) -> int:
        """Internal units used so far."""
        memory, pushes = self._memory_and_pushes >> MEMORY_SHIFT, self._memory_and_pushes & _PUSHES_MASK
        return instruction_cost(self.instructions) + memory_cost(memory) + pushes + self.native

    def units(self) -> int:
        """Units used so far, rounded up to the step that the protocol charges by, at most what the budget pays for."""
        return min(round_up(self.internal() // INTERNAL), self._budget // INTERNAL)

    def check(self) -> None:
        """Refuse an execution whose rounded cost is not under the budget.

        Raises:
            ExecutionFailedError: INSUFFICIENT_GAS.
        """
        if round_up(self.internal() // INTERNAL) * INTERNAL > self._budget:
            self._exhausted()

    def _check(self) -> None:
        used = self.internal()
        if used > self._budget:
            self._exhausted()
        # An instruction costs at most two last tiers and 64 kB of memory: look again before the budget can be gone,
        # but not at each call.
        self._check_at = self.instructions + min(max((self._budget - used) // (1 << 20), 256), 20_000)

    def _exhausted(self) -> None:
        raise ExecutionFailedError("INSUFFICIENT_GAS", f"more than {self._budget // INTERNAL} units of computation")


def storage_mist(size_bytes: int) -> int:
    """What keeping an object of this size costs."""
    return size_bytes * STORAGE_MIST_PER_BYTE


def rebate_mist(paid_mist: int) -> int:
    """What comes back of a storage payment."""
    return paid_mist * REBATE_BASIS_POINTS // 10_000
