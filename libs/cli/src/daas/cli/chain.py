"""`daas chain`: a key, the package, the registry, money for gas, and how it all stands."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer

from daas.cli.context import Context
from daas.cli.ledger import KEY_VARIABLE, Keystore, Output, Yes, confirm, mist, show, signer_of, sui, with_ledger
from daas.common.errors import InvalidInput, Unavailable
from daas.ledger import Ledger, Signer
from daas.placement import Policy

chain_app = typer.Typer(help="The Move package and the registry on the ledger.", no_args_is_help=True)

FAUCET_TIMEOUT = aiohttp.ClientTimeout(total=30)


@chain_app.command("init")
def init(
    keystore: Annotated[Path, typer.Argument(help="file to make, with mode 0600")], output: Output = "table"
) -> None:
    """Makes a new key in a new keystore file and shows its address. Keys are never overwritten."""
    show({"address": Signer.generate(keystore).address, "keystore": str(keystore)}, output)


@chain_app.command("publish")
def publish(  # noqa: PLR0917 - options of a command, each by name
    ledger_url: Annotated[str, typer.Option(help="Sui full node; http:// is for loopback only")],
    pcr0: Annotated[str, typer.Option(help="PCR0 of the enclave image, 96 hex digits")],
    pcr1: Annotated[str, typer.Option()],
    pcr2: Annotated[str, typer.Option()],
    policy: Annotated[str | None, typer.Option(help="digest of the placement policy; else the default one's")] = None,
    keystore: Keystore = None,
    output: Output = "table",
    *,
    simulated: Annotated[bool, typer.Option("--simulated", help="for stand-ins; can never be changed")] = False,
    yes: Yes = False,
) -> None:
    """Publishes the Move package and creates a cluster's registry with one allowed enclave image."""
    try:
        pcrs = (bytes.fromhex(pcr0), bytes.fromhex(pcr1), bytes.fromhex(pcr2))
        digest = bytes.fromhex(policy) if policy else Policy().digest()
    except ValueError:
        raise InvalidInput("PCRs and the policy digest are hexadecimal", reason="not-hex") from None
    signer = signer_of(keystore)
    kind = "SIMULATED" if simulated else "real"
    confirm(f"publish to {ledger_url} as {signer.address} and create a {kind} registry?", yes=yes)

    async def run() -> dict[str, Any]:
        async with await Ledger.connect(ledger_url, signer) as ledger:
            publication = await ledger.publish()
            registry = await ledger.create_registry(simulated=simulated, policy=digest, pcrs=pcrs)
            return {
                "chain": registry.chain,
                "package": publication.package,
                "registry": registry.address,
                "admin_cap": publication.admin_cap,
                "revoker_cap": publication.revoker_cap,
                "policy": digest,
                "simulated": registry.simulated,
            }

    show(asyncio.run(run()), output, title="published")


@chain_app.command("create-registry")
def create_registry(  # noqa: PLR0917 - options of a command, each by name
    pcr0: Annotated[str, typer.Option(help="PCR0 of the enclave image, 96 hex digits")],
    pcr1: Annotated[str, typer.Option()],
    pcr2: Annotated[str, typer.Option()],
    policy: Annotated[str, typer.Option(help="digest that enclaves must attest: `registry_policy` of `policy check`")],
    keystore: Keystore = None,
    output: Output = "table",
    *,
    yes: Yes = False,
) -> None:
    """Creates another registry under the context's package, as for a new policy; needs the AdminCap.

    It is simulated where the context's registry is.
    """
    try:
        pcrs = (bytes.fromhex(pcr0), bytes.fromhex(pcr1), bytes.fromhex(pcr2))
        digest = bytes.fromhex(policy)
    except ValueError:
        raise InvalidInput("PCRs and the policy digest are hexadecimal", reason="not-hex") from None
    confirm("create another registry, with a chain of batches of its own?", yes=yes)

    async def work(ledger: Ledger, context: Context) -> dict[str, Any]:
        before = await ledger.registry(context.registry)
        made = await ledger.create_registry(simulated=before.simulated, policy=digest, pcrs=pcrs)
        return {
            "registry": made.address,
            "policy": made.policy,
            "simulated": made.simulated,
            "registry before": before.address,
            "its head": before.head,
            "its anchored batches": before.sequence,
        }

    show(with_ledger(keystore, work), output, title="created")


@chain_app.command("fund")
def fund(
    faucet: Annotated[str, typer.Option(help="URL of a faucet that speaks Sui's v2 request")],
    address: Annotated[str | None, typer.Argument(help="whom; by default the signer")] = None,
    amount: Annotated[str, typer.Option(help="in SUI, where the faucet lets one choose")] = "10",
    keystore: Keystore = None,
    output: Output = "table",
) -> None:
    """Asks a development faucet for money."""
    recipient = address or signer_of(keystore).address
    request = {"FixedAmountRequest": {"recipient": recipient, "amount": mist(amount)}}

    async def run() -> None:
        try:
            async with (
                aiohttp.ClientSession(timeout=FAUCET_TIMEOUT) as session,
                session.post(faucet, json=request) as answer,
            ):
                if not answer.ok:
                    said = (await answer.text())[:200]
                    raise Unavailable(f"the faucet answered {answer.status}: {said}", reason="faucet")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"the faucet at {faucet} does not answer: {error}", reason="faucet") from None

    asyncio.run(run())
    show({"address": recipient, "asked for": amount + " SUI"}, output)


@chain_app.command("status")
def status(
    address: Annotated[str | None, typer.Argument(help="whose gas to show, a relay's; else the signer's")] = None,
    keystore: Keystore = None,
    output: Output = "table",
) -> None:
    """Shows the registry as it is now: head of the chain, images, stake, and what an account has for gas."""
    payer = address
    if payer is None and (keystore is not None or os.environ.get(KEY_VARIABLE)):
        payer = signer_of(keystore).address

    async def work(ledger: Ledger, context: Context) -> dict[str, Any]:
        registry = await ledger.registry(context.registry)
        pool = await ledger.staking.pool(context.registry)
        return {
            "chain": registry.chain,
            "package": ledger.package,
            "registry": registry.address,
            "simulated": registry.simulated,
            "anchored batches": registry.sequence,
            "head": registry.head,
            "log sequence": registry.log_sequence,
            "images": len(registry.measurements),
            "bonded stake": sui(pool.bonded_mist),
            "treasury": sui(pool.treasury),
            "checkpoint": await ledger.latest_checkpoint(),
            **({"account": payer, "gas": sui(await ledger.balance(payer))} if payer else {}),
        }

    show(with_ledger(None, work, signing=False), output, title="registry")
