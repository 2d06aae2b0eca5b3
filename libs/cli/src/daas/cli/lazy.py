"""Subcommands that are imported when they are asked for: `daas --help` must not wait for gRPC, numpy and a bus."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group


@dataclass(frozen=True, slots=True)
class Subcommand:
    """Where a subcommand is, and what `--help` says of it: the first paragraph of its own help.

    Attributes:
        place: `module:attribute`, a function or a Typer application with commands of its own.
    """

    place: str
    help: str

    def load(self, name: str) -> Any:
        """Imports it: the command as Typer runs it."""
        module, _, attribute = self.place.partition(":")
        found = getattr(import_module(module), attribute)
        if isinstance(found, typer.Typer):
            command: Any = get_group(found)
        else:
            alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            alone.command(name)(found)
            command = get_command(alone)
        command.name = name
        return command


class LazyGroup(TyperGroup):
    """A group whose registered commands stand for what `subcommands` names; only that is ever run."""

    subcommands: dict[str, Subcommand] = {}  # noqa: RUF012 - set once by `lazy_app`, on a class of its own

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that is named first, imported."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and name in self.subcommands:
            command = self.subcommands[name].load(name)
        return name, command, rest


def lazy_app(subcommands: dict[str, Subcommand], **options: Any) -> typer.Typer:
    """An application of these subcommands, in this order."""
    group = type("Commands", (LazyGroup,), {"subcommands": dict(subcommands)})
    app = typer.Typer(cls=group, **options)
    for name, subcommand in subcommands.items():
        app.command(name, help=subcommand.help)(_named)
    return app


def _named() -> None:
    """Stands in the list of commands; the group runs the imported one instead."""
