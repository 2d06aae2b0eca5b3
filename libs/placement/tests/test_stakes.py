"""What the ledger says of stakes weighs tenants: in the ledger's order, each change once, whatever is told again."""

import pytest
from placement_world import World

from daas.placement import Scheduler, fold
from daas.placement.log import ResyncFinished, ResyncStarted, StakeChanged, TenantUpserted
from daas.placement.objects import MIST_PER_SUI, STAKE, ObjectKey


def stake(account: str, sui: int, checkpoint: int, index: int = 0) -> StakeChanged:
    return StakeChanged(
        account=account,
        bonded_mist=sui * MIST_PER_SUI + 5,
        unbonding_mist=7,
        checkpoint=checkpoint,
        event_index=index,
        timestamp_ms=1_000 + checkpoint,
    )


def stakes(world: World) -> dict[str, int]:
    return world.scheduler._state.stakes()


def leaves(world: World) -> dict[ObjectKey, bytes]:
    return {key: record.to_bcs() for key, record in world.scheduler._state.objects.items()}


def test_a_namespace_weighs_what_its_account_has_bonded() -> None:
    world = World()
    world.tell(TenantUpserted(namespace="told", stake=4), TenantUpserted(namespace="tied", stake=9, account="0xa"))
    assert stakes(world) == {"tied": 0, "told": 4}
    world.tell(stake("0xa", 30, 1), stake("0xb", 70, 2))
    assert stakes(world) == {"tied": 30, "told": 4}
    world.tell(stake("0xa", 0, 3))
    assert stakes(world) == {"tied": 0, "told": 4}


def test_the_stake_of_an_account_is_spread_over_the_namespaces_it_stands_for() -> None:
    world = World()
    world.tell(stake("0xa", 31, 1))
    world.tell(*(TenantUpserted(namespace=name, stake=0, account="0xa") for name in ("x", "y", "z")))
    assert stakes(world) == {"x": 10, "y": 10, "z": 10}


def test_what_is_told_again_or_late_changes_nothing() -> None:
    world = World()
    told = [stake("0xa", 10, 5, 0), stake("0xb", 1, 5, 1), stake("0xa", 20, 5, 2), stake("0xa", 15, 6, 0)]
    world.tell(*told, TenantUpserted(namespace="tied", stake=0, account="0xa"))
    before = leaves(world)
    assert set(before) == {(STAKE, "", "0xa"), (STAKE, "", "0xb"), ("Tenant", "", "tied")}
    for again in (told, told[:2], [told[3]]):
        world.tell(*again)
    assert leaves(world) == before
    assert stakes(world) == {"tied": 15}


def test_a_full_list_of_the_api_server_says_nothing_about_stakes() -> None:
    world = World()
    world.tell(TenantUpserted(namespace="tied", stake=0, account="0xa"), stake("0xa", 12, 1))
    again = TenantUpserted(namespace="tied", stake=0, account="0xa")
    world.tell(ResyncStarted(id="r"), again, ResyncFinished(id="r"))
    assert stakes(world) == {"tied": 12}


def test_a_snapshot_keeps_the_stakes() -> None:
    world = World()
    world.tell(TenantUpserted(namespace="tied", stake=0, account="0xa"), stake("0xa", 12, 1))
    restored = Scheduler.restore(world.genesis, world.scheduler.snapshot())
    assert restored._state.stakes() == {"tied": 12}


def test_many_small_accounts_do_not_crowd_out_the_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(fold, "MAX_STAKES", 3)
    world.tell(*(stake(f"0x{n}", sui, n + 1) for n, sui in enumerate((50, 1, 40, 2, 0, 30))))
    kept = {key[2] for key in world.scheduler._state.objects if key[0] == STAKE}
    assert kept == {"0x0", "0x2", "0x5"}
