"""Filters of transactions and events, and the facts about a transaction that they look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from daas.devstack.ledger.errors import TransactionRefusedError
from daas.devstack.ledger.type_tags import format_address, format_type, parse_address, parse_type

TERMS_MAX: Final = 10
LITERALS_MAX: Final = 10

EventFacts = tuple[str, str, str]
"""Package, module and canonical type of an event."""


class Facts(msgspec.Struct, frozen=True, array_like=True):
    """What filters look at of a transaction; addresses are in canonical form."""

    sender: str = ""
    addresses: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    events: tuple[EventFacts, ...] = ()
    package_write: bool = False


Predicate = Callable[[Facts, EventFacts | None], bool]


def transaction_filter(message: Any) -> Predicate:
    """The predicate of a `TransactionFilter`; None as the event: any of the transaction's events may match.

    Raises:
        TransactionRefusedError: the filter is empty, too large, or names something that is no address, path or type.
    """
    return _filter(message)


def event_filter(message: Any) -> Predicate:
    """The predicate of an `EventFilter`, for one event of a transaction.

    Raises:
        TransactionRefusedError: as `transaction_filter`.
    """
    return _filter(message)


def _filter(message: Any) -> Predicate:
    if message is None:
        return lambda _facts, _event: True
    if not 1 <= len(message.terms) <= TERMS_MAX:
        raise _refused(f"expected 1 to {TERMS_MAX} terms, got {len(message.terms)}")
    terms = []
    for term in message.terms:
        if not 1 <= len(term.literals) <= LITERALS_MAX:
            raise _refused(f"expected 1 to {LITERALS_MAX} literals in a term, got {len(term.literals)}")
        terms.append([_literal(literal) for literal in term.literals])

    def matches(facts: Facts, event: EventFacts | None) -> bool:
        return any(all(literal(facts, event) for literal in term) for term in terms)

    return matches


def _literal(literal: Any) -> Predicate:
    predicate = _predicate(literal)
    if literal.negated:
        return lambda facts, event: not predicate(facts, event)
    return predicate


def _predicate(literal: Any) -> Predicate:
    if literal.sender is not None:
        sender = _address(literal.sender.address)
        return lambda facts, _event: facts.sender == sender
    if literal.emit_module is not None:
        prefix = _path(literal.emit_module.module, 2)
        return _of_events(lambda event: _starts(f"{event[0]}::{event[1]}", prefix))
    if literal.event_type is not None:
        wanted = _type_path(literal.event_type.event_type)
        return _of_events(lambda event: _is_type(event[2], wanted))
    if literal.event_stream_head is not None:
        _address(literal.event_stream_head.stream_id)
        return lambda _facts, _event: False  # there are no authenticated event streams here
    # What follows exists for transactions only.
    if getattr(literal, "affected_address", None) is not None:
        address = _address(literal.affected_address.address)
        return lambda facts, _event: address in facts.addresses
    if getattr(literal, "affected_object", None) is not None:
        object_id = _address(literal.affected_object.object_id)
        return lambda facts, _event: object_id in facts.objects
    if getattr(literal, "move_call", None) is not None:
        path = _path(literal.move_call.function, 3)
        return lambda facts, _event: any(_starts(call, path) for call in facts.calls)
    if getattr(literal, "package_write", None) is not None:
        return lambda facts, _event: facts.package_write
    raise _refused("expected a predicate in each literal")


def _of_events(matches: Callable[[EventFacts], bool]) -> Predicate:
    def predicate(facts: Facts, event: EventFacts | None) -> bool:
        return any(map(matches, facts.events)) if event is None else matches(event)

    return predicate


def _starts(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix + "::")


def _is_type(type_: str, wanted: str) -> bool:
    return type_ == wanted or type_.startswith((wanted + "::", wanted + "<"))


def _address(text: str | None) -> str:
    return format_address(parse_address(text or ""))


def _path(text: str | None, parts_max: int) -> str:
    first, *rest = (text or "").split("::")
    if len(rest) >= parts_max or not all(part.isidentifier() for part in rest):
        raise _refused(f"expected an address and at most {parts_max - 1} names, got {(text or '')[:200]!r}")
    return "::".join((_address(first), *rest))


def _type_path(text: str | None) -> str:
    if (text or "").count("::") >= 2:
        return format_type(parse_type(text or ""))
    return _path(text, 2)


def _refused(message: str) -> TransactionRefusedError:
    return TransactionRefusedError(message, field="filter")
