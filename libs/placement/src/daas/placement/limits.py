"""Rules about other pods while many are placed in a row: which domains they close, told placement by placement."""

from daas.placement.columns import Domains
from daas.placement.table import Slots
from daas.placement.view import SpreadCounts

#: Up to here, the best node of every domain is kept; beyond, the domains of a rule are too many to look through.
FEW_DOMAINS = 64


def few_domains(counts: SpreadCounts) -> bool:
    """Whether the best node of every domain can be kept."""
    return len(counts.totals) <= FEW_DOMAINS


def is_steady(counts: SpreadCounts, most: int) -> bool:
    """Whether so many pods can't fill up all of the emptiest domains, so that the same skew holds for all of them."""
    at_least = counts.least()
    return at_least is None or at_least[1] > most


class Bar:
    """Domains that hold a pod of a group are out.

    Attributes:
        domain_of: slot to domain; shut: domains that were closed since the run began.
    """

    __slots__ = ("domain_of", "shut")

    def __init__(self, domains: Domains) -> None:
        self.domain_of = domains.ids.item
        self.shut: set[int] = set()

    def note(self, slot: int, times: int) -> None:  # noqa: ARG002 - as all rules are told
        """A pod of the group was placed."""
        domain = self.domain_of(slot)
        if domain:
            self.shut.add(domain)


class Steady:
    """A rule of hard spread whose emptiest domain stays as empty; what it has let in is for the caller to know.

    Attributes:
        domain_of: slot to domain; shut: domains that were closed since the run began.
    """

    __slots__ = ("_counts", "_more", "domain_of", "shut")

    def __init__(self, counts: SpreadCounts) -> None:
        self._counts = counts
        self._more: dict[int, int] = {}
        self.domain_of = counts.ids.item
        self.shut: set[int] = set()

    def note(self, slot: int, times: int) -> None:
        """A pod of the group was placed."""
        counts = self._counts
        if counts.takes_part.item(slot):
            domain = self.domain_of(slot)
            self._more[domain] = self._more.get(domain, 0) + times
            if counts.totals.item(domain) + self._more[domain] > counts.limit():
                self.shut.add(domain)


class Lead:
    """A rule of hard spread over few domains, whose emptiest domain may fill up.

    Attributes:
        ids: per slot its domain; domains: all that nodes may be in; members: the slots of one.
        totals: pods by domain; limit: domains with more are out.
    """

    __slots__ = (
        "_counts",
        "_least",
        "_takes_part",
        "_there",
        "domain_of",
        "domains",
        "ids",
        "limit",
        "members",
        "totals",
    )

    def __init__(self, counts: SpreadCounts) -> None:
        self._counts = counts
        self.ids: Slots = counts.ids
        self.domain_of = counts.ids.item
        self.totals: list[int] = counts.totals.tolist()
        self.members = counts.members
        self.domains = range(1, len(self.totals))
        self.limit = counts.limit()
        self._there = counts.there
        self._takes_part = counts.takes_part.item
        self._least = min([self.totals[domain] for domain in self._there], default=0)

    def note(self, slot: int, times: int) -> None:
        """A pod of the group was placed."""
        if self._takes_part(slot):
            totals, domain = self.totals, self.domain_of(slot)
            before = totals[domain]
            totals[domain] = before + times
            if before <= self._least:
                self._least = min([totals[domain] for domain in self._there], default=0)
                self.limit = self._counts.limit_at(self._least)


Limit = Bar | Steady
