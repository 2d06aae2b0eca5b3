"""Policy sets: loaded whole or refused with line and column, versioned, and named by a digest."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import cedarpy

from daas.common import bcs, merkle
from daas.policy.errors import PolicyError
from daas.policy.schema import LANGUAGE, SCHEMA
from daas.policy.text import Statement, statements
from daas.policy.tiers import DEFAULT_TIERS, Tier, check_tiers, tier_bcs

MAX_SOURCES = 64
MAX_POLICIES = 512
#: Of all texts of a set together.
MAX_CHARACTERS = 512 * 1024

_DOMAIN = "k3s-daas/policy-set/1"
_SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ID = re.compile(r'"([a-z0-9][a-z0-9-]{0,62})"')


@dataclass(frozen=True, eq=False)
class PolicySet:
    """A sound policy set.

    Attributes:
        version: rises with every change; chosen by whoever governs the cluster.
        sources: (name, text), by name.
        tiers: what stakes are called.
        ids: of the policies, in their order.
        digest: blake2b-256 over language, schema, version, tiers and texts, 32 bytes. It names the set in decisions.
        reads_time: whether a decision can depend on when it is asked for.
    """

    version: int
    sources: tuple[tuple[str, str], ...]
    tiers: tuple[Tier, ...]
    ids: tuple[str, ...]
    digest: bytes
    reads_time: bool
    handle: cedarpy.PolicySet = field(repr=False)
    schema: cedarpy.Schema = field(repr=False)

    @classmethod
    def load(cls, version: int, sources: Mapping[str, str], tiers: tuple[Tier, ...] = DEFAULT_TIERS) -> "PolicySet":
        """The set of these texts.

        Every policy carries its name as `@id("...")`, once in the set. Templates are refused: nothing would link them.

        Args:
            version: 1 or more.
            sources: text of each source by its name, a file's for example.
            tiers: from no stake on, rising.

        Raises:
            PolicyError: `policy-syntax`, `policy-type`, `policy-id`, `policy-template`, `policy-size`, `policy-source`,
                `policy-version` or `policy-tiers`; with source, line and column where a text is to blame.
        """
        if not 1 <= version < 2**63:
            raise PolicyError(f"a version is 1 or more, not {version}", reason="policy-version", field="version")
        check_tiers(tiers)
        ordered = tuple(sorted(sources.items()))
        _check_sources(ordered)
        parsed = [statement for name, text in ordered for statement in statements(name, text)]
        if len(parsed) > MAX_POLICIES:
            raise PolicyError(f"at most {MAX_POLICIES} policies, not {len(parsed)}", reason="policy-size")
        schema = cedarpy.Schema.from_str(SCHEMA)
        ids: dict[str, Statement] = {}
        reads_time = False
        for statement in parsed:
            _check_syntax(statement)
            _check_types(statement, schema)
            reads_time = reads_time or any(token.text == "context" for token in statement.tokens)
            name = _id_of(statement)
            if name in ids:
                raise PolicyError.at(
                    statement.location(), f"{name!r} is the id of {ids[name].location()}", reason="policy-id"
                )
            ids[name] = statement
        return cls(
            version=version,
            sources=ordered,
            tiers=tiers,
            ids=tuple(ids),
            digest=_digest(version, ordered, tiers),
            reads_time=reads_time,
            handle=cedarpy.PolicySet.from_str("\n".join(statement.policy for statement in parsed)),
            schema=schema,
        )


def _check_sources(sources: tuple[tuple[str, str], ...]) -> None:
    if len(sources) > MAX_SOURCES:
        raise PolicyError(f"at most {MAX_SOURCES} sources, not {len(sources)}", reason="policy-source")
    for name, _ in sources:
        if not _SOURCE_NAME.fullmatch(name):
            raise PolicyError(f"{name!r} is no name of a source", reason="policy-source", field=name)
    characters = sum(len(text) for _, text in sources)
    if characters > MAX_CHARACTERS:
        raise PolicyError(f"at most {MAX_CHARACTERS} characters, not {characters}", reason="policy-size")


def _wrong(text: str) -> str | None:
    try:
        cedarpy.PolicySet.from_str(text)
    except ValueError as error:
        return str(error)
    return None


def _check_syntax(statement: Statement) -> None:
    wrong = _wrong(statement.policy)
    if wrong is not None:
        raise PolicyError.at(statement.offending(_wrong), wrong, reason="policy-syntax")
    slot = next((token for token in statement.tokens if token.text.startswith("?")), None)
    if slot is not None:
        raise PolicyError.at(statement.location(slot), "templates are not linked here", reason="policy-template")


def _check_types(statement: Statement, schema: cedarpy.Schema) -> None:
    result = cedarpy.validate_policies(statement.policy, schema)
    if not result.validation_passed:
        messages = [str(error.error).removeprefix("for policy `policy0`, ") for error in result.errors]
        places = sorted((statement.blamed(message), message) for message in messages)
        start = statement.location()
        # of several messages about one mistake, the one that names a token says more
        where, message = next((p for p in places if p[0] != start), (start, "does not fit the schema"))
        if where == start and places:
            message = places[0][1]
        raise PolicyError.at(where, message, reason="policy-type")


def _id_of(statement: Statement) -> str:
    tokens = statement.tokens
    for index, token in enumerate(tokens[:-4]):
        if token.text in {"permit", "forbid"}:
            break
        if token.text == "@" and tokens[index + 1].text == "id":
            match = _ID.fullmatch(tokens[index + 3].text)
            if match is None:
                raise PolicyError.at(
                    statement.location(tokens[index + 3]),
                    "an id is 1 to 63 small letters, digits and dashes",
                    reason="policy-id",
                )
            return match.group(1)
    raise PolicyError.at(statement.location(), 'a policy carries its name as @id("...")', reason="policy-id")


def _digest(version: int, sources: tuple[tuple[str, str], ...], tiers: tuple[Tier, ...]) -> bytes:
    return merkle.digest(
        b"".join(
            (
                bcs.string(_DOMAIN),
                bcs.string(LANGUAGE),
                bcs.bytes_(merkle.digest(SCHEMA.encode())),
                bcs.u64(version),
                bcs.vector(tier_bcs, tiers),
                bcs.vector(lambda source: bcs.string(source[0]) + bcs.string(source[1]), sources),
            )
        )
    )
