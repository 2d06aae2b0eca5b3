"""Declaring framework structs and functions: each function carries the signature it has in Move, checked at import."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from daas.devstack.ledger.encoding import Value
from daas.devstack.ledger.errors import LedgerError
from daas.devstack.ledger.gas import NATIVE_INTERNAL
from daas.devstack.ledger.type_tags import STD, SUI, TX_CONTEXT, Datatype, Parameter, Type, TypeParser

COPY, DROP, STORE, KEY = 1, 2, 4, 8
ABILITIES: Final = {"copy": COPY, "drop": DROP, "store": STORE, "key": KEY}
_PACKAGES: Final = {"std": STD, "sui": SUI}

Implementation = Callable[..., Any]


class AbortError(LedgerError):
    """A framework function aborts with a code; the caller of the function adds the location.

    `within` is where the framework itself would abort, as "module::function", if that is not the function called.
    """

    def __init__(self, code: int, within: str = "") -> None:
        super().__init__(f"abort code {code}", reason="move-abort")
        self.code = code
        self.module, _, self.function = within.partition("::")


class NativeFailureError(LedgerError):
    """A primitive operation fails inside a framework function: `status` as the Move machine names it."""

    def __init__(self, status: str, within: str = "") -> None:
        super().__init__(status, reason="move-failure")
        self.status = status
        self.module, _, self.function = within.partition("::")


class Ref:
    """A Move reference: a place in a list of locals, a struct's fields or a vector."""

    __slots__ = ("container", "index")

    def __init__(self, container: Any, index: int) -> None:
        self.container = container
        self.index = index

    def get(self) -> Value:
        """The value behind the reference, not a copy."""
        return self.container[self.index]

    def set(self, value: Value) -> None:
        """Replace the value behind the reference."""
        self.container[self.index] = value


def copy_value(value: Value) -> Value:
    """A copy that shares nothing that can change."""
    kind = type(value)
    if kind is list:
        return [copy_value(item) for item in value]
    return value[:] if kind is bytearray else value


class NativeStruct(msgspec.Struct, frozen=True):
    """A struct of the framework: its abilities, type parameters and fields."""

    address: bytes
    module: str
    name: str
    abilities: int
    phantoms: tuple[bool, ...]
    fields: tuple[tuple[str, Type], ...]


class NativeFunction(msgspec.Struct, frozen=True):
    """A function of the framework, implemented in Python. `cost` is in internal gas units."""

    address: bytes
    module: str
    name: str
    type_parameters: tuple[str, ...]
    parameters: tuple[Type, ...]
    returns: tuple[Type, ...]
    public: bool
    entry: bool
    cost: int
    implementation: Implementation


STRUCTS: dict[tuple[bytes, str, str], NativeStruct] = {}
FUNCTIONS: dict[tuple[bytes, str, str], NativeFunction] = {}

_SHORT_NAMES: Final[dict[str, Datatype]] = {"TxContext": TX_CONTEXT}
_STRUCT = re.compile(r"(\w+)(?:<([\w, ]+)>)?(?: has ([a-z, ]+))? \{(.*)\}$", re.DOTALL)
_FUNCTION = re.compile(r"(public )?(entry )?fun (\w+)(?:<([\w, ]+)>)?\(([^()]*)\)(?:: (.+))?$")


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",")) if text else ()


def _resolver(parameters: tuple[str, ...]) -> Callable[[str], Type | None]:
    def resolve(name: str) -> Type | None:
        return Parameter(parameters.index(name)) if name in parameters else _SHORT_NAMES.get(name)

    return resolve


def _type_list(text: str, parameters: tuple[str, ...]) -> tuple[Type, ...]:
    parser = TypeParser(text, _resolver(parameters))
    found: list[Type] = []
    while parser.peek():
        found.append(parser.type())
        if parser.peek():
            parser.take(",")
    return tuple(found)


class FrameworkModule:
    """Declares the structs and functions of one framework module, for example `sui::coin`."""

    def __init__(self, path: str) -> None:
        package, _, self.name = path.partition("::")
        self.address = _PACKAGES[package]

    def struct(self, declaration: str, *, short: str | None = None) -> Datatype:
        """Declare `Name<T> has key, store { field: Type, ... }`; `short` is its name in other declarations."""
        match = _STRUCT.match(declaration)
        if match is None:
            raise LedgerError(f"expected a struct declaration, got {declaration!r}", reason="bad-declaration")
        name, declared = match[1], _names(match[2])
        parameters = tuple(parameter.removeprefix("phantom ") for parameter in declared)
        phantoms = tuple(parameter.startswith("phantom ") for parameter in declared)
        type_ = Datatype(self.address, self.name, name)
        _SHORT_NAMES[short or name] = type_
        fields = []
        for field in re.findall(r"(\w+): ([^;]+?)(?:;|\s*$)", match[4].strip()):
            (field_type,) = _type_list(field[1], parameters)
            fields.append((field[0], field_type))
        abilities = sum(ABILITIES[a] for a in _names(match[3]))
        STRUCTS[type_.key] = NativeStruct(*type_.key, abilities, phantoms, tuple(fields))
        return type_

    def function(self, declaration: str, *, cost: int = NATIVE_INTERNAL) -> Callable[[Implementation], Implementation]:
        """Declare `public fun name<T>(Type, ...): Type` for the Python function below it.

        The Python function takes the execution, the tuple of type arguments, then the arguments; it returns nothing,
        the one result, or a tuple of results, as the signature says.
        """
        match = _FUNCTION.match(declaration)
        if match is None:
            raise LedgerError(f"expected a function declaration, got {declaration!r}", reason="bad-declaration")
        type_parameters = _names(match[4])
        returned = (match[6] or "").strip()
        if returned.startswith("("):
            returned = returned[1:-1]
        native = NativeFunction(
            address=self.address,
            module=self.name,
            name=match[3],
            type_parameters=type_parameters,
            parameters=_type_list(match[5], type_parameters),
            returns=_type_list(returned, type_parameters),
            public=bool(match[1]),
            entry=bool(match[2]),
            cost=cost,
            implementation=_noop,
        )

        def register(implementation: Implementation) -> Implementation:
            FUNCTIONS[native.address, native.module, native.name] = msgspec.structs.replace(
                native, implementation=implementation
            )
            return implementation

        return register


def _noop(*_arguments: Any) -> None:
    return None
