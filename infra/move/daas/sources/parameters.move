/// What a cluster asks of stake: minimum amounts, waiting times, what misbehaviour costs, and how its stakers decide.
module daas::parameters;

/// A duration is zero, or longer than a year.
const EInvalidDuration: u64 = 0;
/// A share is over its bound, or zero where zero would switch the rule off.
const EInvalidShare: u64 = 1;
/// Stake must stay bound at least as long as a vote with it takes to have its effect.
const EUnbondingTooShort: u64 = 2;
/// A minimum is more than there can ever be.
const EInvalidMinimum: u64 = 3;

/// Hundredths of a percent.
const WHOLE: u64 = 10_000;
/// At most half of what is slashed goes to whoever reports it: operators who report themselves still lose the rest.
const MAX_REPORTER_BPS: u64 = 5_000;
/// 366 days: no sum of clock value and durations can overflow.
const MAX_DURATION_MS: u64 = 31_622_400_000;
/// The whole supply of SUI, in MIST.
const MAX_MINIMUM_MIST: u64 = 10_000_000_000_000_000_000;

/// Amounts in MIST, durations in milliseconds, shares in hundredths of a percent (bps).
public struct Parameters has copy, drop, store {
    /// What an operator must have bonded to register an enclave.
    operator_minimum_mist: u64,
    /// What an operator must have bonded for each node.
    node_minimum_mist: u64,
    /// What an address must have bonded to make a proposal.
    proposal_minimum_mist: u64,
    /// From asking for stake to getting it: as long it can still be slashed.
    unbonding_ms: u64,
    /// How much of an operator's stake two contradicting signatures cost.
    slash_bps: u64,
    /// How much of what is slashed goes to the reporter; the rest goes to the treasury.
    reporter_bps: u64,
    /// How much of all bonded stake must vote on a proposal.
    quorum_bps: u64,
    /// How long a proposal can be voted on.
    voting_ms: u64,
    /// From the end of a vote to the first moment at which it can be executed.
    timelock_ms: u64,
}

/// Parameters that fit together.
public fun new(
    operator_minimum_mist: u64,
    node_minimum_mist: u64,
    proposal_minimum_mist: u64,
    unbonding_ms: u64,
    slash_bps: u64,
    reporter_bps: u64,
    quorum_bps: u64,
    voting_ms: u64,
    timelock_ms: u64,
): Parameters {
    assert!(operator_minimum_mist <= MAX_MINIMUM_MIST, EInvalidMinimum);
    assert!(node_minimum_mist <= MAX_MINIMUM_MIST, EInvalidMinimum);
    assert!(proposal_minimum_mist <= MAX_MINIMUM_MIST, EInvalidMinimum);
    assert_duration(unbonding_ms);
    assert_duration(voting_ms);
    assert_duration(timelock_ms);
    assert!(slash_bps > 0 && slash_bps <= WHOLE, EInvalidShare);
    assert!(reporter_bps <= MAX_REPORTER_BPS, EInvalidShare);
    assert!(quorum_bps > 0 && quorum_bps <= WHOLE, EInvalidShare);
    assert!(unbonding_ms >= voting_ms + timelock_ms, EUnbondingTooShort);
    Parameters {
        operator_minimum_mist,
        node_minimum_mist,
        proposal_minimum_mist,
        unbonding_ms,
        slash_bps,
        reporter_bps,
        quorum_bps,
        voting_ms,
        timelock_ms,
    }
}

/// The fields in their order, as a proposal keeps them.
public(package) fun numbers(parameters: &Parameters): vector<u64> {
    vector[
        parameters.operator_minimum_mist,
        parameters.node_minimum_mist,
        parameters.proposal_minimum_mist,
        parameters.unbonding_ms,
        parameters.slash_bps,
        parameters.reporter_bps,
        parameters.quorum_bps,
        parameters.voting_ms,
        parameters.timelock_ms,
    ]
}

public(package) fun from_numbers(n: &vector<u64>): Parameters {
    new(n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8])
}

public fun operator_minimum_mist(parameters: &Parameters): u64 { parameters.operator_minimum_mist }

public fun node_minimum_mist(parameters: &Parameters): u64 { parameters.node_minimum_mist }

public fun proposal_minimum_mist(parameters: &Parameters): u64 { parameters.proposal_minimum_mist }

public fun unbonding_ms(parameters: &Parameters): u64 { parameters.unbonding_ms }

public fun slash_bps(parameters: &Parameters): u64 { parameters.slash_bps }

public fun reporter_bps(parameters: &Parameters): u64 { parameters.reporter_bps }

public fun quorum_bps(parameters: &Parameters): u64 { parameters.quorum_bps }

public fun voting_ms(parameters: &Parameters): u64 { parameters.voting_ms }

public fun timelock_ms(parameters: &Parameters): u64 { parameters.timelock_ms }

/// `bps` hundredths of a percent of `amount`, rounded down.
public fun share(amount: u64, bps: u64): u64 {
    (((amount as u128) * (bps as u128) / (WHOLE as u128)) as u64)
}

fun assert_duration(duration_ms: u64) {
    assert!(duration_ms > 0 && duration_ms <= MAX_DURATION_MS, EInvalidDuration);
}
