"""`daas govern`: put something to the vote of the stakers, vote, and carry it out."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer

from daas.cli.context import Context
from daas.cli.ledger import Keystore, Output, Yes, confirm, mist, show, show_all, sui, with_ledger
from daas.common.errors import InvalidInput
from daas.ledger import Ledger, Limits, Parameters, Proposal

govern_app = typer.Typer(help="Stake-weighted proposals.", no_args_is_help=True)
propose_app = typer.Typer(help="Put something to the vote.", no_args_is_help=True)
govern_app.add_typer(propose_app, name="propose")

#: What a proposal does, by Move's number.
KINDS = {
    1: "change the stake parameters",
    2: "change the time limits",
    3: "allow a measurement",
    4: "retire a measurement",
    5: "change the policy that enclaves attest",
    6: "spend from the treasury",
}
Address = Annotated[str, typer.Argument(help="the proposal's object id")]
Change = Annotated[list[str], typer.Argument(help="NAME=VALUE, e.g. quorum_bps=5000; the rest stays as it is")]


def _changed(current: msgspec.Struct, changes: list[str]) -> Any:
    """The struct with some fields replaced.

    Raises:
        InvalidInput: `unknown-parameter`, `parameter-value`.
    """
    values: dict[str, int] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if name not in current.__struct_fields__ or not equals:
            known = ", ".join(current.__struct_fields__)
            raise InvalidInput(f"{change!r} names no parameter; there are {known}", reason="unknown-parameter")
        if not text.isdigit():
            raise InvalidInput(f"{name} is a whole number, not {text!r}", reason="parameter-value", field=name)
        values[name] = int(text)
    return msgspec.structs.replace(current, **values)


def _propose(keystore: Keystore, output: str, work: Callable[[Ledger, Context], Awaitable[Proposal]]) -> None:
    show(_fields(with_ledger(keystore, work)), output, title="proposed")


@propose_app.command("parameters")
def parameters(changes: Change, keystore: Keystore = None, output: Output = "table") -> None:
    """Proposes other stake parameters."""

    async def work(ledger: Ledger, context: Context) -> Proposal:
        current: Parameters = (await ledger.staking.pool(context.registry)).parameters
        return await ledger.governance.propose_parameters(context.registry, _changed(current, changes))

    _propose(keystore, output, work)


@propose_app.command("limits")
def limits(changes: Change, keystore: Keystore = None, output: Output = "table") -> None:
    """Proposes other time limits."""

    async def work(ledger: Ledger, context: Context) -> Proposal:
        current: Limits = (await ledger.registry(context.registry)).limits
        return await ledger.governance.propose_limits(context.registry, _changed(current, changes))

    _propose(keystore, output, work)


@propose_app.command("measurement")
def measurement(
    pcr0: Annotated[str, typer.Option(help="96 hex digits")],
    pcr1: Annotated[str, typer.Option()],
    pcr2: Annotated[str, typer.Option()],
    keystore: Keystore = None,
    output: Output = "table",
) -> None:
    """Proposes to allow one more enclave image."""
    pcrs = (_hex(pcr0, "pcr0"), _hex(pcr1, "pcr1"), _hex(pcr2, "pcr2"))

    async def work(ledger: Ledger, context: Context) -> Proposal:
        return await ledger.governance.propose_measurement(context.registry, pcrs)

    _propose(keystore, output, work)


@propose_app.command("retirement")
def retirement(version: int, keystore: Keystore = None, output: Output = "table") -> None:
    """Proposes to allow an enclave image no more."""

    async def work(ledger: Ledger, context: Context) -> Proposal:
        return await ledger.governance.propose_retirement(context.registry, version)

    _propose(keystore, output, work)


@propose_app.command("policy")
def policy(
    digest: Annotated[str, typer.Argument(help="64 hex digits")], keystore: Keystore = None, output: Output = "table"
) -> None:
    """Proposes another policy for enclaves to attest."""

    async def work(ledger: Ledger, context: Context) -> Proposal:
        return await ledger.governance.propose_policy(context.registry, _hex(digest, "digest"))

    _propose(keystore, output, work)


@propose_app.command("spending")
def spending(amount: str, recipient: str, keystore: Keystore = None, output: Output = "table") -> None:
    """Proposes to pay somebody out of the treasury; the amount is in SUI."""
    amount_mist = mist(amount)

    async def work(ledger: Ledger, context: Context) -> Proposal:
        return await ledger.governance.propose_spending(context.registry, amount_mist, recipient)

    _propose(keystore, output, work)


@govern_app.command("vote")
def vote(
    proposal: Address,
    decision: Annotated[str, typer.Argument(help="yes or no")],
    keystore: Keystore = None,
    output: Output = "table",
    *,
    yes: Yes = False,
) -> None:
    """Votes with all the signer's stake that counts. A vote is final."""
    if decision not in {"yes", "no"}:
        raise InvalidInput(f"a vote is yes or no, not {decision!r}", reason="vote", field="decision")
    confirm(f"vote {decision} on {proposal}? It can't be changed.", yes=yes)

    async def work(ledger: Ledger, _: Context) -> Proposal:
        await ledger.governance.vote(await ledger.governance.proposal(proposal), approve=decision == "yes")
        return await ledger.governance.proposal(proposal)

    show(_fields(with_ledger(keystore, work)), output, title="voted")


@govern_app.command("execute")
def execute(proposal: Address, keystore: Keystore = None, output: Output = "table", *, yes: Yes = False) -> None:
    """Carries an accepted proposal out, after its waiting time."""
    confirm(f"execute {proposal}?", yes=yes)

    async def work(ledger: Ledger, _: Context) -> Proposal:
        await ledger.governance.execute(await ledger.governance.proposal(proposal))
        return await ledger.governance.proposal(proposal)

    show(_fields(with_ledger(keystore, work)), output, title="executed")


@govern_app.command("show")
def show_proposal(proposal: Address, output: Output = "table") -> None:
    """Shows a proposal and the votes so far."""

    async def work(ledger: Ledger, _: Context) -> Proposal:
        return await ledger.governance.proposal(proposal)

    show(_fields(with_ledger(None, work, signing=False)), output, title="proposal")


@govern_app.command("list")
def list_proposals(output: Output = "table") -> None:
    """Lists the cluster's proposals and the votes so far, newest first."""

    async def work(ledger: Ledger, context: Context) -> list[Proposal]:
        # The package's address is learned from the registry where the context does not name it.
        await ledger.registry(context.registry)
        return list(await ledger.governance.all(context.registry))

    proposals = with_ledger(None, work, signing=False)
    if output == "json":
        show_all([_fields(proposal) for proposal in proposals], output)
        return
    mark = " (simulated)" if any(proposal.simulated for proposal in proposals) else ""
    show_all([_short(proposal) for proposal in proposals], output, title=f"proposals{mark}")


def _short(proposal: Proposal) -> dict[str, Any]:
    """One line of a list, in which the object id fits into a terminal whole: it is what one copies."""
    stands = "ahead" if proposal.accepted else "behind"
    fields = _fields(proposal)
    return {"proposal": fields["proposal"], "does": fields["does"], "vote": "executed" if proposal.executed else stands}


def _fields(proposal: Proposal) -> dict[str, Any]:
    return {
        "proposal": proposal.address,
        "does": KINDS.get(proposal.action.kind, f"kind {proposal.action.kind}"),
        "numbers": list(proposal.action.numbers),
        "digests": [digest.hex() for digest in proposal.action.digests],
        "proposer": proposal.proposer,
        "for": sui(proposal.for_mist),
        "against": sui(proposal.against_mist),
        "quorum": sui(proposal.quorum_mist),
        "voting until": _when(proposal.voting_until_ms),
        "executable": f"{_when(proposal.executable_from_ms)} to {_when(proposal.executable_until_ms)}",
        "accepted so far": proposal.accepted,
        "executed": proposal.executed,
        "simulated": proposal.simulated,
    }


def _when(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _hex(text: str, field: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise InvalidInput(f"{field} is not hexadecimal", reason="not-hex", field=field) from None
