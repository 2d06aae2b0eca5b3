"""What the operators' commands share: the signer, the connection, amounts in SUI, answers as tables or JSON."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.table import Table

from daas.cli.context import Context, load_context
from daas.cli.terminal import console
from daas.common.errors import ConfigurationError, InvalidInput
from daas.ledger import Ledger, Signer

T = TypeVar("T")

#: Names the key that signs, in this order of precedence after `--keystore`.
KEY_VARIABLE = "DAAS_KEY"
KEYSTORE_VARIABLE = "DAAS_KEYSTORE"
MIST_PER_SUI = 1_000_000_000

Keystore = Annotated[
    Path | None,
    typer.Option(
        "--keystore",
        envvar=KEYSTORE_VARIABLE,
        help=f"file (mode 0600) with the signing key; else the variable {KEY_VARIABLE} holds the key itself",
    ),
]
Output = Annotated[str, typer.Option("--output", "-o", help="table or json")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]


def signer_of(keystore: Path | None) -> Signer:
    """The key that signs: a keystore file, or the environment; never the command line.

    Raises:
        ConfigurationError: `no-key`, or what is wrong with the file.
    """
    if keystore is not None:
        return Signer.from_file(keystore)
    if os.environ.get(KEY_VARIABLE):
        return Signer.from_environment(KEY_VARIABLE)
    raise ConfigurationError(
        f"no key: name a keystore with --keystore or {KEYSTORE_VARIABLE}, or put the key into {KEY_VARIABLE}",
        reason="no-key",
    )


def with_ledger(
    keystore: Path | None,
    work: Callable[[Ledger, Context], Awaitable[T]],
    *,
    signing: bool = True,
    package: str | None = None,
) -> T:
    """Runs `work` on a connection to the context's ledger, for another version of the package where one is named.

    Raises:
        ConfigurationError: `no-ledger` where the context names none.
    """
    context = load_context()
    if context.ledger_url is None:
        raise ConfigurationError("the context names no ledger_url", reason="no-ledger", field="ledger_url")
    url = context.ledger_url

    async def run() -> T:
        signer = signer_of(keystore) if signing else None
        async with await Ledger.connect(url, signer, package=package or context.package) as ledger:
            return await work(ledger, context)

    return asyncio.run(run())


def mist(amount_sui: str) -> int:
    """MIST from an amount in SUI with at most nine decimals.

    Raises:
        InvalidInput: `amount`.
    """
    try:
        value = Decimal(amount_sui)
    except InvalidOperation:
        raise InvalidInput(f"{amount_sui!r} is not an amount in SUI", reason="amount", field="amount") from None
    scaled = value * MIST_PER_SUI
    if not value.is_finite() or value <= 0 or scaled != scaled.to_integral_value():
        raise InvalidInput(
            f"an amount is positive and has at most nine decimals, not {amount_sui}", reason="amount", field="amount"
        )
    return int(scaled)


def sui(amount_mist: int) -> str:
    """An amount in SUI, exact."""
    whole, rest = divmod(amount_mist, MIST_PER_SUI)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".") + " SUI"


def confirm(question: str, *, yes: bool) -> None:
    """Asks before something that can't be taken back; `--yes` answers. Ends the command with 1 on a no."""
    if not yes and not typer.confirm(question):
        raise typer.Exit(1)


def show(fields: Mapping[str, Any], output: str, *, title: str = "") -> None:
    """One thing, as a table of its fields or as JSON."""
    if output == "json":
        console.print_json(msgspec.json.encode(_hex_bytes(fields)).decode())
        return
    table = Table("field", "value", title=title or None, box=None)
    for name, value in fields.items():
        table.add_row(name, _text(value))
    console.print(table)


def show_all(rows: list[Mapping[str, Any]], output: str, *, title: str = "") -> None:
    """Many things of one kind."""
    if output == "json":
        console.print_json(msgspec.json.encode([_hex_bytes(row) for row in rows]).decode())
        return
    if not rows:
        console.print(f"no {title}" if title else "nothing")
        return
    table = Table(*rows[0], title=title or None, box=None)
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    console.print(table)


def _hex_bytes(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Digests as hexadecimal, as everywhere else; JSON libraries would make base64 of them."""
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()}


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
