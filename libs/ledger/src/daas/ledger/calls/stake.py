"""Calls of `parameters` and `stake`. Money comes out of the gas coin."""

from daas.ledger.calls.common import CLOCK, u64, u64s
from daas.ledger.cluster import Parameters
from daas.ledger.transaction import Command, GasCoin, MoveCall, Object, Result, SplitCoins, TransferObjects


def parameters(package: str, values: Parameters) -> MoveCall:
    """`parameters::new`: its result is what other calls take as Parameters."""
    numbers = u64s(
        values.operator_minimum_mist,
        values.node_minimum_mist,
        values.proposal_minimum_mist,
        values.unbonding_ms,
        values.slash_bps,
        values.reporter_bps,
        values.quorum_bps,
        values.voting_ms,
        values.timelock_ms,
    )
    return MoveCall(package, "parameters", "new", numbers)


def deposit(package: str, pool: str, amount_mist: int) -> tuple[Command, ...]:
    """`stake::deposit` of part of the gas coin; the first commands of their transaction."""
    arguments = (Object(pool, mutable=True), Result(0), CLOCK)
    return SplitCoins(GasCoin(), (amount_mist,)), MoveCall(package, "stake", "deposit", arguments)


def request_withdraw(package: str, pool: str, amount_mist: int) -> MoveCall:
    """`stake::request_withdraw`."""
    return MoveCall(package, "stake", "request_withdraw", (Object(pool, mutable=True), u64(amount_mist), CLOCK))


def withdraw(package: str, pool: str, recipient: str) -> tuple[Command, ...]:
    """`stake::withdraw`, and the coin it returns goes to `recipient`; the first commands of their transaction."""
    call = MoveCall(package, "stake", "withdraw", (Object(pool, mutable=True), CLOCK))
    return call, TransferObjects((Result(0),), recipient)


def fund_treasury(package: str, pool: str, amount_mist: int) -> tuple[Command, ...]:
    """`stake::fund_treasury` with part of the gas coin; the first commands of their transaction."""
    call = MoveCall(package, "stake", "fund_treasury", (Object(pool, mutable=True), Result(0)))
    return SplitCoins(GasCoin(), (amount_mist,)), call


def set_parameters(
    package: str, admin_cap: str, registry: str, pool: str, values: Parameters
) -> tuple[MoveCall, MoveCall]:
    """`stake::set_parameters`; the first commands of their transaction."""
    arguments = (Object(admin_cap), Object(registry), Object(pool, mutable=True), Result(0))
    return parameters(package, values), MoveCall(package, "stake", "set_parameters", arguments)
