"""What this library refuses: policies that are not sound, and requests that say nothing a policy could judge."""

from typing import NamedTuple

from daas.common.errors import InvalidInput


class Location(NamedTuple):
    """A place in a policy text; line and column count from 1, columns in characters."""

    source: str
    line: int
    column: int

    def __str__(self) -> str:
        """As compilers write it."""
        return f"{self.source}:{self.line}:{self.column}"


class PolicyError(InvalidInput):
    """A policy set that is not loaded; `field` is where, as `source:line:column` when a text is to blame."""

    @classmethod
    def at(cls, location: Location, message: str, *, reason: str) -> "PolicyError":
        """An error with its place in the sentence and in the field."""
        return cls(f"{location}: {message}", reason=reason, field=str(location))

    @property
    def location(self) -> Location | None:
        """Where, if a text is to blame."""
        source, _, place = (self.field or "").rpartition(":")
        source, _, line = source.rpartition(":")
        return Location(source, int(line), int(place)) if source and line.isdigit() and place.isdigit() else None


class RequestError(InvalidInput):
    """A request with an unknown verb, or with a name or number out of bounds."""
