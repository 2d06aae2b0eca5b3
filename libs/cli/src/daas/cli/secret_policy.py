"""`daas secret policy`: Seal policies on the ledger by name: who may open what is sealed under them."""

import sys
from typing import Annotated, Any

import msgspec
import typer

from daas.cli.context import Context
from daas.cli.ledger import Keystore, Output, Yes, confirm, mist, show, show_all, sui, with_ledger
from daas.cli.secret_access import checked_policy, parameters_of, policy_id, policy_names, publish_name
from daas.common.errors import InvalidInput, NotFound
from daas.ledger import Ledger, Policy, Rules

policy_app = typer.Typer(help="Seal policies: stake, nodes, time and number of releases.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="what Secrets are labelled with, or the policy's object id")]
Stake = Annotated[str | None, typer.Option(help="stake that a reader, or its node's operator, needs; SUI")]
Nodes = Annotated[list[str] | None, typer.Option("--node", help="only these nodes may read; may be repeated")]
NotBefore = Annotated[int | None, typer.Option(help="ms since the epoch from which on it opens; 0: always")]
NotAfter = Annotated[int | None, typer.Option(help="ms since the epoch before which it opens; 0: for ever")]
Limit = Annotated[int | None, typer.Option(help="releases of keys in one generation; 0: not counted")]
Price = Annotated[str | None, typer.Option("--ticket-price", help="what one release costs the reader; SUI")]
Ttl = Annotated[int | None, typer.Option("--ticket-ttl", help="how long a ticket is good for, seconds")]

_TICKET_TTL_S = 300


@policy_app.command("create")
def create(
    name: Name,
    *,
    stake: Stake = None,
    nodes: Nodes = None,
    not_before: NotBefore = None,
    not_after: NotAfter = None,
    limit: Limit = None,
    price: Price = None,
    ttl: Ttl = None,
    keystore: Keystore = None,
    output: Output = "table",
    publish: Annotated[bool, typer.Option(help="write the name down on the API server")] = True,
) -> None:
    """Makes a policy that the signer owns."""
    if name.startswith("0x"):
        raise InvalidInput("a new policy needs a name", reason="policy-name", field="name")
    changes = _Changes(
        stake=stake, nodes=nodes, not_before=not_before, not_after=not_after, limit=limit, price=price, ttl=ttl
    )

    async def work(ledger: Ledger, context: Context) -> dict[str, Any]:
        if name in await policy_names(context):
            raise InvalidInput(f"a policy is called {name} already", reason="policy-name-taken", field="name")
        rules = await changes.applied(ledger, context, Rules())
        policy = await ledger.policies.create(context.registry, rules)
        if publish:
            await publish_name(context, name, policy.address)
        return _fields(name, policy)

    show(with_ledger(keystore, work), output, title="created")


@policy_app.command("set")
def set_(
    name: Name,
    *,
    stake: Stake = None,
    nodes: Nodes = None,
    not_before: NotBefore = None,
    not_after: NotAfter = None,
    limit: Limit = None,
    price: Price = None,
    ttl: Ttl = None,
    keystore: Keystore = None,
    output: Output = "table",
    yes: Yes = False,
) -> None:
    """Changes what is named, and nothing else. What has been released stays released: see `daas secret rotate`."""
    confirm(f"change who may open what is sealed under {name}?", yes=yes)
    changes = _Changes(
        stake=stake, nodes=nodes, not_before=not_before, not_after=not_after, limit=limit, price=price, ttl=ttl
    )

    async def work(ledger: Ledger, context: Context) -> dict[str, Any]:
        policy = await checked_policy(ledger, context, await policy_id(context, name))
        rules = await changes.applied(ledger, context, policy.rules)
        await ledger.policies.set_rules(policy.address, rules)
        return _fields(name, await ledger.policies.policy(policy.address))

    show(with_ledger(keystore, work), output, title="changed")


@policy_app.command("show")
def show_policy(
    name: Name,
    output: Annotated[str, typer.Option("--output", "-o", help="table, or json: the parameters for sealing")] = "table",
) -> None:
    """Shows a policy; as JSON, what `daas secret seal --parameters` needs to work without network."""

    async def work(ledger: Ledger, context: Context) -> tuple[dict[str, Any], bytes]:
        policy = await checked_policy(ledger, context, await policy_id(context, name))
        parameters = (await parameters_of(ledger, context, name)).encode() if output == "json" else b""
        return _fields(name, policy), parameters

    fields, parameters = with_ledger(None, work, signing=False)
    if output == "json":
        sys.stdout.write(parameters.decode())
    else:
        show(fields, output, title=f"policy {name}")


@policy_app.command("list")
def list_policies(output: Output = "table") -> None:
    """Lists the policies that have a name here."""

    async def work(ledger: Ledger, context: Context) -> list[dict[str, Any]]:
        return [
            _fields(name, await ledger.policies.policy(address))
            for name, address in sorted((await policy_names(context)).items())
        ]

    show_all(list(with_ledger(None, work, signing=False)), output, title="Seal policies")


class _Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a command names of a policy's rules; None: left as it is."""

    stake: str | None
    nodes: list[str] | None
    not_before: int | None
    not_after: int | None
    limit: int | None
    price: str | None
    ttl: int | None

    async def applied(self, ledger: Ledger, context: Context, now: Rules) -> Rules:
        """The rules with these changes."""
        allowed = now.allowed_nodes
        if self.nodes is not None:
            allowed = tuple([await _node(ledger, context, node) for node in self.nodes if node])
        limit = now.usage_limit if self.limit is None else self.limit
        price_mist = now.ticket_price_mist if self.price is None else _mist_or_none(self.price)
        ttl_ms = now.ticket_ttl_ms if self.ttl is None else self.ttl * 1000
        return Rules(
            required_stake_mist=now.required_stake_mist if self.stake is None else _mist_or_none(self.stake),
            allowed_nodes=allowed,
            not_before_ms=now.not_before_ms if self.not_before is None else self.not_before,
            not_after_ms=now.not_after_ms if self.not_after is None else self.not_after,
            usage_limit=limit,
            ticket_price_mist=price_mist if limit else 0,
            ticket_ttl_ms=(ttl_ms or _TICKET_TTL_S * 1000) if limit else 0,
        )


def _mist_or_none(amount_sui: str) -> int:
    return 0 if amount_sui.strip("0.") == "" else mist(amount_sui)


async def _node(ledger: Ledger, context: Context, name: str) -> str:
    found = await ledger.nodes.find(context.registry, name)
    if found is None:
        raise NotFound(f"no node called {name} is registered", reason="no-node", field="node")
    return found.address


def _fields(name: str, policy: Policy) -> dict[str, Any]:
    rules = policy.rules
    return {
        "name": name,
        "policy": policy.address,
        "owner": policy.owner,
        "generation": policy.generation,
        "oldest_generation": policy.oldest_generation,
        "required_stake": sui(rules.required_stake_mist),
        "allowed_nodes": ", ".join(rules.allowed_nodes) or "all",
        "not_before_ms": rules.not_before_ms,
        "not_after_ms": rules.not_after_ms,
        "usage_limit": rules.usage_limit,
        "tickets_sold": policy.tickets_sold,
        "ticket_price": sui(rules.ticket_price_mist),
        "ticket_ttl_ms": rules.ticket_ttl_ms,
        "simulated": policy.simulated,
    }
