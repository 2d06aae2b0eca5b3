"""What `parameters`, `accounts` and `stake` accept and refuse, executed from the committed bytecode."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from move_machine import DAY_MS, NOW_MS, OPERATOR, PARAMETERS, REPORTER, STRANGER, Cluster, Machine

from daas.ledger.cluster import Account, Parameters, StakePool, Tranche, Withdrawal
from daas.ledger.cluster_events import ParametersChanged, StakeChanged, TreasuryFunded

U64_MAX = 2**64 - 1


@pytest.fixture
def cluster(machine: Machine) -> Cluster:
    return machine.create()


def account(machine: Machine, owner: bytes = OPERATOR) -> Account | None:
    """The account of an address, read from the table's entry."""
    for held in machine.fields.values():
        if held.type.arguments[1].name == "Account":  # type: ignore[union-attr]  # every field here has two arguments
            _, key, value = machine.program.codec.decode(held.type, held.contents)
            if key == owner:
                bonded, unbonding, nodes, answers_until_ms = value
                return Account(
                    bonded=tuple(Tranche(amount_mist=a, since_ms=s) for a, s in bonded),
                    unbonding=tuple(Withdrawal(amount_mist=a, until_ms=u) for a, u in unbonding),
                    nodes=nodes,
                    answers_until_ms=answers_until_ms,
                )
    return None


def bonded(machine: Machine, cluster: Cluster, owner: bytes = OPERATOR) -> tuple[int, int]:
    """Bonded and unbonding."""
    (held,) = machine.call("stake::bonded", cluster.pool, owner)
    (leaving,) = machine.call("stake::unbonding", cluster.pool, owner)
    return held, leaving


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"unbonding_ms": 0}, "EInvalidDuration"),
        ({"voting_ms": 0}, "EInvalidDuration"),
        ({"timelock_ms": 0}, "EInvalidDuration"),
        ({"unbonding_ms": 31_622_400_001}, "EInvalidDuration"),
        ({"voting_ms": U64_MAX, "timelock_ms": U64_MAX}, "EInvalidDuration"),
        ({"slash_bps": 0}, "EInvalidShare"),
        ({"slash_bps": 10_001}, "EInvalidShare"),
        ({"reporter_bps": 5_001}, "EInvalidShare"),
        ({"quorum_bps": 0}, "EInvalidShare"),
        ({"quorum_bps": 10_001}, "EInvalidShare"),
        ({"unbonding_ms": 7 * DAY_MS - 1}, "EUnbondingTooShort"),
        ({"operator_minimum_mist": 10**19 + 1}, "EInvalidMinimum"),
        ({"node_minimum_mist": U64_MAX}, "EInvalidMinimum"),
        ({"proposal_minimum_mist": U64_MAX}, "EInvalidMinimum"),
    ],
)
def test_parameters_are_refused_with(machine: Machine, changed: dict[str, int], code: str) -> None:
    assert machine.refused("parameters::new", *(PARAMETERS | changed).values()) == f"parameters::{code}"


def test_parameters_say_what_they_were_made_of(machine: Machine) -> None:
    made = machine.parameters()
    for name, value in PARAMETERS.items():
        assert machine.call(f"parameters::{name}", made) == [value]


@given(amount=st.integers(0, U64_MAX), bps=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_share_is_rounded_down_and_never_overflows(machine: Machine, amount: int, bps: int) -> None:
    assert machine.call("parameters::share", amount, bps) == [amount * bps // 10_000]


def test_a_deposit_is_bonded_since_now(machine: Machine, cluster: Cluster) -> None:
    machine.deposit(cluster, 700)
    event = machine.event(StakeChanged)
    assert (event.reason, event.amount_mist, event.bonded_mist, event.unbonding_mist) == (1, 700, 700, 0)
    assert (event.account, event.simulated) == ("0x" + OPERATOR.hex(), True)
    machine.now_ms += 5
    machine.deposit(cluster, 50)
    machine.deposit(cluster, 7)
    assert account(machine) == Account(
        bonded=(Tranche(amount_mist=700, since_ms=NOW_MS), Tranche(amount_mist=57, since_ms=NOW_MS + 5))
    )
    pool = machine.read(StakePool, cluster.pool)
    assert (pool.funds, pool.bonded_mist, pool.treasury, pool.accounts.size) == (757, 757, 0, 1)
    assert machine.call("stake::total_bonded", cluster.pool) == [757]
    assert bonded(machine, cluster, STRANGER) == (0, 0)
    assert machine.refused("stake::deposit", cluster.pool, machine.coin(0)) == "stake::EZeroAmount"


def test_what_counts_in_a_vote_was_bonded_before_it(machine: Machine, cluster: Cluster) -> None:
    machine.deposit(cluster, 700)
    machine.now_ms += 5
    machine.deposit(cluster, 50)

    def weight(snapshot_ms: int, owner: bytes = OPERATOR) -> int:
        (found,) = machine.call("stake::bonded_since", cluster.pool, owner, snapshot_ms)
        return int(found)

    assert [weight(NOW_MS + n) for n in (0, 1, 5, 6)] == [0, 700, 700, 750]
    assert weight(U64_MAX, STRANGER) == 0
    # The youngest stake leaves first; what is left was there before.
    machine.call("stake::request_withdraw", cluster.pool, 100)
    assert [weight(NOW_MS + n) for n in (0, 1, 6)] == [0, 650, 650]


def test_an_account_holds_eight_tranches_and_the_newest_takes_the_rest(machine: Machine, cluster: Cluster) -> None:
    for n in range(12):
        machine.now_ms = NOW_MS + n
        machine.deposit(cluster, 10)
    held = account(machine)
    assert held is not None
    assert [tranche.amount_mist for tranche in held.bonded] == [10] * 7 + [50]
    assert held.bonded[-1].since_ms == NOW_MS + 11


def test_stake_is_free_after_the_unbonding_time_and_not_before(machine: Machine, cluster: Cluster) -> None:
    machine.deposit(cluster, 700)
    machine.call("stake::request_withdraw", cluster.pool, 300)
    event = machine.event(StakeChanged)
    assert (event.reason, event.bonded_mist, event.unbonding_mist) == (2, 400, 300)
    assert machine.read(StakePool, cluster.pool).bonded_mist == 400
    assert machine.refused("stake::withdraw", cluster.pool) == "stake::ENothingToWithdraw"
    machine.now_ms += PARAMETERS["unbonding_ms"] - 1
    assert machine.refused("stake::withdraw", cluster.pool) == "stake::ENothingToWithdraw"
    machine.call("stake::request_withdraw", cluster.pool, 50)
    machine.now_ms += 1
    (coin,) = machine.call("stake::withdraw", cluster.pool)
    assert coin[1] == [300]
    event = machine.event(StakeChanged)
    assert (event.reason, event.bonded_mist, event.unbonding_mist) == (3, 350, 50)
    assert machine.refused("stake::withdraw", cluster.pool, sender=STRANGER) == "stake::ENothingToWithdraw"


def test_an_account_that_holds_nothing_is_deleted(machine: Machine, cluster: Cluster) -> None:
    machine.deposit(cluster, 700)
    machine.call("stake::request_withdraw", cluster.pool, 700)
    machine.now_ms += PARAMETERS["unbonding_ms"]
    machine.call("stake::withdraw", cluster.pool)
    pool = machine.read(StakePool, cluster.pool)
    assert (pool.accounts.size, pool.funds, account(machine)) == (0, 0, None)


def test_a_withdrawal_is_refused_with(machine: Machine, cluster: Cluster) -> None:
    machine.deposit(cluster, 700)
    assert machine.refused("stake::request_withdraw", cluster.pool, 0) == "stake::EZeroAmount"
    assert machine.refused("stake::request_withdraw", cluster.pool, 701) == "stake::ENotEnoughStake"
    refused = machine.refused("stake::request_withdraw", cluster.pool, 1, sender=STRANGER)
    assert refused == "stake::ENotEnoughStake"
    for _ in range(8):
        machine.call("stake::request_withdraw", cluster.pool, 1)
    assert machine.refused("stake::request_withdraw", cluster.pool, 1) == "accounts::ETooManyWithdrawals"


def test_stake_answers_for_a_key_until_the_unbonding_time_after_its_expiry(machine: Machine, cluster: Cluster) -> None:
    machine.deposit(cluster, 1_000)
    machine.enclave(cluster)
    machine.call("stake::request_withdraw", cluster.pool, 1_000)
    held = account(machine)
    assert held is not None
    expires_ms = NOW_MS + 3_600_000
    assert held.answers_until_ms == expires_ms
    assert held.unbonding == (Withdrawal(amount_mist=1_000, until_ms=expires_ms + PARAMETERS["unbonding_ms"]),)


def test_stake_that_stands_for_nodes_stays(machine: Machine, cluster: Cluster) -> None:
    machine.deposit(cluster, 250)
    for name in (b"a", b"b"):
        machine.call("nodes::register", cluster.roster, cluster.pool, name, OPERATOR)
    assert machine.call("stake::nodes_of", cluster.pool, OPERATOR) == [2]
    assert machine.call("stake::nodes_of", cluster.pool, STRANGER) == [0]
    assert machine.refused("stake::request_withdraw", cluster.pool, 51) == "stake::EStakeInUse"
    machine.call("stake::request_withdraw", cluster.pool, 50)


def test_anybody_can_fund_the_treasury(machine: Machine, cluster: Cluster) -> None:
    machine.call("stake::fund_treasury", cluster.pool, machine.coin(30), sender=STRANGER)
    assert machine.event(TreasuryFunded).giver == "0x" + STRANGER.hex()
    assert machine.call("stake::treasury_value", cluster.pool) == [30]
    assert machine.refused("stake::fund_treasury", cluster.pool, machine.coin(0)) == "stake::EZeroAmount"


def test_the_admin_changes_the_parameters_of_his_cluster_only(machine: Machine, cluster: Cluster) -> None:
    other = machine.create(simulated=False)
    changed = machine.parameters(node_minimum_mist=5)
    machine.call("stake::set_parameters", cluster.registry, cluster.pool, changed)
    assert machine.event(ParametersChanged).parameters == Parameters(**(PARAMETERS | {"node_minimum_mist": 5}))
    assert machine.call("stake::parameters", cluster.pool) == [changed]
    refused = machine.refused("stake::set_parameters", other.registry, cluster.pool, changed)
    assert refused == "stake::EWrongRegistry"
    free = machine.parameters(operator_minimum_mist=0)
    refused = machine.refused("stake::set_parameters", other.registry, other.pool, free)
    assert refused == "stake::EStakeRequired"
    assert machine.call("stake::registry", cluster.pool) == [[cluster.registry.id]]
    assert machine.call("stake::is_simulated", cluster.pool) == [True]


@given(
    st.lists(
        st.tuples(st.sampled_from([OPERATOR, REPORTER]), st.integers(0, 3), st.integers(0, 400), st.integers(0, 6)),
        max_size=25,
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_pool_holds_exactly_what_the_accounts_say(
    machine: Machine, steps: list[tuple[bytes, int, int, int]]
) -> None:
    machine.fields.clear()
    machine.now_ms = NOW_MS
    cluster = machine.create()
    coins = {OPERATOR: 0, REPORTER: 0}
    for owner, kind, amount, days in steps:
        machine.now_ms += days * DAY_MS
        try:
            if kind == 0:
                machine.deposit(cluster, amount, sender=owner)
                coins[owner] -= amount
            elif kind == 1:
                machine.call("stake::request_withdraw", cluster.pool, amount, sender=owner)
            else:
                (coin,) = machine.call("stake::withdraw", cluster.pool, sender=owner)
                coins[owner] += coin[1][0]
        except Exception as error:  # noqa: BLE001 - any refusal is fine here: the sums must hold after it
            assert type(error).__name__ == "MoveAbortError"  # noqa: PT017 - the message of another would be lost
        pool = machine.read(StakePool, cluster.pool)
        held = [bonded(machine, cluster, address) for address in coins]
        assert pool.bonded_mist == sum(each for each, _ in held)
        assert pool.funds == sum(sum(each) for each in held) == -sum(coins.values())
