"""Tiers: names for how much is staked. A principal is in the highest tier its stake reaches and in every lower one."""

import re
from itertools import pairwise

import msgspec

from daas.common import bcs
from daas.policy.errors import PolicyError

MAX_TIERS = 16
MIST_PER_SUI = 10**9
#: The supply of SUI; a larger stake is a mistake.
MAX_STAKE_SUI = 10**10

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


class Tier(msgspec.Struct, frozen=True):
    """A name and the stake, in whole SUI, from which on it is reached."""

    name: str
    stake_sui: int


DEFAULT_TIERS = (Tier("observer", 0), Tier("member", 1), Tier("operator", 1_000), Tier("guardian", 100_000))


def sui_from_mist(mist: int) -> int:
    """Stake in whole SUI, rounded down: a rule that asks for n SUI is never met by less."""
    return mist // MIST_PER_SUI


def check_tiers(tiers: tuple[Tier, ...]) -> None:
    """Asserts that the tiers start at no stake and rise.

    Raises:
        PolicyError: `policy-tiers`.
    """
    names = [tier.name for tier in tiers]
    if not 1 <= len(tiers) <= MAX_TIERS or len(set(names)) != len(names):
        raise PolicyError(f"1 to {MAX_TIERS} tiers of different names, not {names}", reason="policy-tiers")
    for name in names:
        if not _NAME.fullmatch(name):
            raise PolicyError(f"{name!r} is no name of a tier", reason="policy-tiers", field=name)
    if tiers[0].stake_sui != 0 or tiers[-1].stake_sui > MAX_STAKE_SUI:
        raise PolicyError("the first tier starts at 0 SUI, the last within the supply", reason="policy-tiers")
    for below, above in pairwise(tiers):
        if below.stake_sui >= above.stake_sui:
            raise PolicyError(
                f"{above.name} does not start above {below.name}", reason="policy-tiers", field=above.name
            )


def tier_bcs(tier: Tier) -> bytes:
    """Name and stake."""
    return bcs.string(tier.name) + bcs.u64(tier.stake_sui)


def reached(tiers: tuple[Tier, ...], stake_sui: int) -> str:
    """The highest tier that a stake reaches."""
    return [tier.name for tier in tiers if tier.stake_sui <= stake_sui][-1]
