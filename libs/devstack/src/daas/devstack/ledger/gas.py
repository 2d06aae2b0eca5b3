"""Gas: instructions and native costs become units, units are rounded and priced, stored bytes are paid and refunded."""

from __future__ import annotations

from typing import Final

from daas.devstack.ledger.errors import ExecutionFailedError

GAS_PRICE: Final = 1_000  # MIST a unit; mainnet's reference price has been between 500 and 1,000
ROUNDING_UNITS: Final = 1_000  # protocol parameter gas_rounding_step
STORAGE_MIST_PER_BYTE: Final = 7_600  # 76 MIST x 100 storage units a byte
REBATE_BASIS_POINTS: Final = 9_900  # 99 % of what was paid comes back
BUDGET_MAX: Final = 50_000_000_000
BUDGET_MIN_UNITS: Final = 1_000  # base_tx_cost_fixed

# (instructions up to, units an instruction costs from the previous border on): the schedule's instruction tiers
_TIERS: Final = ((20_000, 1), (50_000, 2), (100_000, 10), (200_000, 50))
_LAST_TIER_PRICE: Final = 100


def instruction_units(count: int) -> int:
    """Units that `count` executed instructions cost."""
    units = previous = 0
    for border, price in _TIERS:
        if count <= border:
            return units + (count - previous) * price
        units += (border - previous) * price
        previous = border
    return units + (count - previous) * _LAST_TIER_PRICE


def instructions_for(units: int) -> int:
    """The most instructions that `units` pay for: the inverse of `instruction_units`."""
    count = previous = 0
    for border, price in _TIERS:
        tier = (border - previous) * price
        if units <= tier:
            return count + units // price
        units -= tier
        count += border - previous
        previous = border
    return count + units // _LAST_TIER_PRICE


class Meter:
    """Counts what an execution uses and stops it when the budget is gone."""

    __slots__ = ("_instructions_max", "_units_max", "instructions", "native_units")

    def __init__(self, budget_units: int) -> None:
        self.instructions = 0
        self.native_units = 0.0
        self._units_max = budget_units
        self._instructions_max = instructions_for(budget_units)

    def step(self, count: int) -> None:
        """Count `count` executed instructions.

        Raises:
            ExecutionFailedError: INSUFFICIENT_GAS.
        """
        self.instructions += count
        if self.instructions > self._instructions_max:
            self._exhausted()

    def charge(self, units: float) -> None:
        """Charge a native function's cost.

        Raises:
            ExecutionFailedError: INSUFFICIENT_GAS.
        """
        self.native_units += units
        if self.native_units > self._units_max:
            self._exhausted()

    def units(self) -> int:
        """Units used so far, rounded up to the step that the protocol charges by."""
        used = instruction_units(self.instructions) + int(self.native_units)
        return max(-(-used // ROUNDING_UNITS), 1) * ROUNDING_UNITS

    def check(self) -> None:
        """Refuse an execution whose rounded cost is over the budget.

        Raises:
            ExecutionFailedError: INSUFFICIENT_GAS.
        """
        if self.units() > self._units_max:
            self._exhausted()

    def _exhausted(self) -> None:
        raise ExecutionFailedError("INSUFFICIENT_GAS", f"more than {self._units_max} units of computation")


def storage_mist(size_bytes: int) -> int:
    """What keeping an object of this size costs."""
    return size_bytes * STORAGE_MIST_PER_BYTE


def rebate_mist(paid_mist: int) -> int:
    """What comes back of a storage payment."""
    return paid_mist * REBATE_BASIS_POINTS // 10_000
