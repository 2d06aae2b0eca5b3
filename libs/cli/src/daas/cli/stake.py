"""`daas stake`: deposit, withdraw and show what an address has at risk."""

import time
from typing import Annotated, Any

import typer

from daas.cli.context import Context
from daas.cli.ledger import Keystore, Output, Yes, confirm, mist, show, signer_of, sui, with_ledger
from daas.ledger import Ledger

stake_app = typer.Typer(help="Stake on the ledger.", no_args_is_help=True)

Amount = Annotated[str, typer.Argument(help="in SUI")]


@stake_app.command("deposit")
def deposit(amount: Amount, keystore: Keystore = None, output: Output = "table") -> None:
    """Binds part of the signer's money as its stake."""
    amount_mist = mist(amount)

    async def work(ledger: Ledger, context: Context) -> dict[str, Any]:
        effects = await ledger.staking.deposit(context.registry, amount_mist)
        return {"transaction": effects.digest, **await _account(ledger, context, ledger.address)}

    show(with_ledger(keystore, work), output, title="deposited")


@stake_app.command("withdraw")
def withdraw(
    amount: Annotated[str | None, typer.Argument(help="in SUI; without it, takes out what is free")] = None,
    keystore: Keystore = None,
    output: Output = "table",
    *,
    yes: Yes = False,
) -> None:
    """Starts the unbonding of an amount, or takes out what has waited for its unbonding time."""
    amount_mist = mist(amount) if amount is not None else None
    if amount_mist is not None:
        confirm(f"{sui(amount_mist)} will count for nothing until they are free; start unbonding?", yes=yes)

    async def work(ledger: Ledger, context: Context) -> dict[str, Any]:
        if amount_mist is None:
            effects = await ledger.staking.withdraw(context.registry)
        else:
            effects = await ledger.staking.request_withdraw(context.registry, amount_mist)
        return {"transaction": effects.digest, **await _account(ledger, context, ledger.address)}

    show(with_ledger(keystore, work), output, title="withdrawn" if amount is None else "unbonding")


@stake_app.command("show")
def show_stake(
    address: Annotated[str | None, typer.Argument(help="whose; by default the signer's")] = None,
    keystore: Keystore = None,
    output: Output = "table",
) -> None:
    """Shows what an address has bonded, what is on its way out, and what is free."""
    owner = address or signer_of(keystore).address

    async def work(ledger: Ledger, context: Context) -> dict[str, Any]:
        return await _account(ledger, context, owner)

    show(with_ledger(None, work, signing=False), output, title="stake")


async def _account(ledger: Ledger, context: Context, owner: str) -> dict[str, Any]:
    account = await ledger.staking.account(context.registry, owner)
    return {
        "address": owner,
        "bonded": sui(account.bonded_mist),
        "unbonding": sui(account.unbonding_mist),
        "free": sui(account.free_mist(time.time_ns() // 1_000_000)),
        "nodes": account.nodes,
    }
