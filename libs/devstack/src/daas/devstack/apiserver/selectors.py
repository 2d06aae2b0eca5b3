"""Label and field selectors: parsed once per request, matched against what storage keeps beside each object."""

import re
from collections.abc import Callable, Collection, Mapping

from daas.devstack.apiserver.errors import bad_request

Predicate = Callable[[Mapping[str, str]], bool]

_TERM = re.compile(
    r"""\s*(?:
      !\s*(?P<absent>[^\s=!<>,()]+)
    | (?P<key>[^\s=!<>,()]+)\s+(?P<set>in|notin)\s*\((?P<values>[^()]*)\)
    | (?P<left>[^\s=!<>,()]+)\s*(?P<op>==|=|!=|>|<)\s*(?P<right>[^\s=!<>,()]*)
    | (?P<present>[^\s=!<>,()]+)
    )\s*(?:,|$)""",
    re.VERBOSE,
)
_KEY = re.compile(r"^(?:[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
_VALUE = re.compile(r"^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")


def _number(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _label_term(match: re.Match[str]) -> Predicate:
    if key := match["absent"]:
        return lambda labels: key not in labels
    if key := match["present"]:
        return lambda labels: key in labels
    if key := match["key"]:
        wanted = frozenset(value.strip() for value in match["values"].split(","))
        if match["set"] == "in":
            return lambda labels: labels.get(key) in wanted
        return lambda labels: labels.get(key) not in wanted
    key, operator, value = match["left"], match["op"], match["right"]
    if operator in ("=", "=="):
        return lambda labels: labels.get(key) == value
    if operator == "!=":
        return lambda labels: labels.get(key) != value
    bound = _number(value)
    if bound is None:
        raise bad_request(
            f"unable to parse requirement: for 'Gt', 'Lt' operators, the value must be an integer: {value!r}"
        )
    if operator == ">":
        return lambda labels: (n := _number(labels.get(key))) is not None and n > bound
    return lambda labels: (n := _number(labels.get(key))) is not None and n < bound


def parse_labels(text: str) -> Predicate | None:
    """The predicate of a label selector, None for the empty one. Raises ApiError 400."""
    if not text.strip():
        return None
    terms: list[Predicate] = []
    at = 0
    while at < len(text):
        match = _TERM.match(text, at)
        if match is None or match.end() == at:
            raise bad_request(
                f"unable to parse requirement: found unexpected text {text[at:]!r} in label selector {text!r}"
            )
        key = match["absent"] or match["present"] or match["key"] or match["left"]
        if not _KEY.match(key):
            raise bad_request(
                f'unable to parse requirement: <nil>: Invalid value: "{key}": name part must consist of alphanumeric '
                "characters, '-', '_' or '.', and must start and end with an alphanumeric character"
            )
        for value in (match["values"] or match["right"] or "").split(","):
            if not _VALUE.match(value.strip()):
                raise bad_request(f'unable to parse requirement: values[0][{key}]: Invalid value: "{value.strip()}"')
        terms.append(_label_term(match))
        at = match.end()
    if len(terms) == 1:
        return terms[0]
    return lambda labels: all(term(labels) for term in terms)


def _split_fields(text: str) -> list[str]:
    return [part for part in re.split(r"(?<!\\),", text) if part]


def parse_fields(text: str, supported: Collection[str], unsupported: Callable[[str], str]) -> Predicate | None:
    """The predicate of a field selector over the values storage keeps, None for the empty one.

    `supported` are the field labels of the resource, `unsupported` words the refusal. Raises ApiError 400.
    """
    terms: list[tuple[str, str, bool]] = []
    for part in _split_fields(text):
        match = re.match(r"^(.*?)(!=|==|=)(.*)$", part)
        if match is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        key, operator, value = match.groups()
        if key not in supported:
            raise bad_request(unsupported(key))
        terms.append((key, re.sub(r"\\(.)", r"\1", value), operator != "!="))
    if not terms:
        return None
    return lambda fields: all((fields.get(key, "") == value) is equal for key, value, equal in terms)
