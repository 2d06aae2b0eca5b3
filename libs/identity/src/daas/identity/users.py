"""From an account and its stake to a Kubernetes user: name, groups by tier, stake in `extra`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from daas.common.errors import ConfigurationError

USER_PREFIX: Final = "sui:"
STAKERS: Final = "daas:stakers"
ACCOUNTS: Final = "daas:accounts"
TIER_PREFIX: Final = "daas:tier:"
STAKE_KEY: Final = "k3s-daas.io/stake"
NONCE_KEY: Final = "k3s-daas.io/nonce"
MIST_PER_SUI: Final = 1_000_000_000
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Tier:
    """A name for everyone with at least this much bonded stake, in MIST (10^-9 SUI)."""

    name: str
    stake_mist_min: int


class Tiers:
    """The tiers of a cluster, the highest that applies counts.

    Args:
        tiers: in any order.

    Raises:
        ConfigurationError: `tiers` where names or amounts repeat, or are none.
    """

    def __init__(self, tiers: Sequence[Tier]) -> None:
        self._tiers = tuple(sorted(tiers, key=lambda tier: -tier.stake_mist_min))
        names = {tier.name for tier in tiers}
        amounts = {tier.stake_mist_min for tier in tiers}
        good = all(_NAME.fullmatch(tier.name) and tier.stake_mist_min > 0 for tier in tiers)
        if not good or len(names) != len(tiers) or len(amounts) != len(tiers):
            raise ConfigurationError("tiers: names and amounts must differ, amounts be positive", reason="tiers")

    @classmethod
    def parse(cls, text: str) -> "Tiers":
        """Tiers from `bronze=10,silver=100`, in SUI.

        Raises:
            ConfigurationError: `tiers`.
        """
        found = []
        for part in filter(None, (one.strip() for one in text.split(","))):
            name, _, amount = part.partition("=")
            if not amount.isdecimal():
                raise ConfigurationError(f"tiers: expected NAME=SUI, not {part!r}", reason="tiers")
            found.append(Tier(name, int(amount) * MIST_PER_SUI))
        return cls(found)

    def of(self, stake_mist: int) -> Tier | None:
        """The highest tier that this stake reaches."""
        return next((tier for tier in self._tiers if stake_mist >= tier.stake_mist_min), None)


@dataclass(frozen=True, slots=True)
class User:
    """A Kubernetes UserInfo."""

    username: str
    uid: str
    groups: tuple[str, ...]
    extra: Mapping[str, tuple[str, ...]]

    def info(self) -> dict[str, object]:
        """As it stands in a TokenReview."""
        return {
            "username": self.username,
            "uid": self.uid,
            "groups": list(self.groups),
            "extra": {name: list(values) for name, values in self.extra.items()},
        }


def username(account: str) -> str:
    """`sui:0x...`: no name of Kubernetes itself begins like that."""
    return USER_PREFIX + account


def account_of(name: str) -> str | None:
    """The account behind a username, None for users of another kind."""
    return name.removeprefix(USER_PREFIX) if name.startswith(USER_PREFIX) else None


def user_of(account: str, stake_mist: int, tiers: Tiers, *, nonce: str | None = None) -> User:
    """The user of an account with this much bonded stake."""
    groups = [ACCOUNTS]
    if stake_mist > 0:
        groups.append(STAKERS)
    if tier := tiers.of(stake_mist):
        groups.append(TIER_PREFIX + tier.name)
    extra = {STAKE_KEY: (str(stake_mist),)} | ({NONCE_KEY: (nonce,)} if nonce else {})
    return User(username(account), account, tuple(groups), extra)
