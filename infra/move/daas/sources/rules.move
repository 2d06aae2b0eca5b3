/// What must hold for a key to be released under a policy: stake, nodes, time, and how often.
module daas::rules;

/// The list of allowed nodes is bounded, because it lives inside the policy.
const ETooManyNodes: u64 = 0;
/// The time window ends before it begins.
const EInvalidWindow: u64 = 1;
/// A usage limit goes with a ticket's time of validity of at most an hour; without a limit there are neither tickets
/// nor a price.
const EInvalidTickets: u64 = 2;
/// It is too early: the policy's time window has not begun.
const ETooEarly: u64 = 3;
/// It is too late: the policy's time window has ended.
const ETooLate: u64 = 4;
/// This policy opens to nodes only.
const ENodeRequired: u64 = 5;
/// This node is not among the allowed ones.
const ENodeNotAllowed: u64 = 6;

const MAX_NODES: u64 = 64;
/// Seal sessions last half an hour at most; twice that is room for clocks.
const MAX_TICKET_TTL_MS: u64 = 3_600_000;

/// What must hold for a key to be released. Zero or empty: no such condition.
public struct Rules has copy, drop, store {
    /// What the reader, or the operator of the reading node, must have bonded.
    required_stake_mist: u64,
    /// Object ids of the only nodes that may read.
    allowed_nodes: vector<address>,
    not_before_ms: u64,
    /// The first moment at which it is too late.
    not_after_ms: u64,
    /// How many tickets are sold in one generation.
    usage_limit: u64,
    ticket_price_mist: u64,
    ticket_ttl_ms: u64,
}

/// Rules that fit together.
public fun new(
    required_stake_mist: u64,
    allowed_nodes: vector<address>,
    not_before_ms: u64,
    not_after_ms: u64,
    usage_limit: u64,
    ticket_price_mist: u64,
    ticket_ttl_ms: u64,
): Rules {
    assert!(allowed_nodes.length() <= MAX_NODES, ETooManyNodes);
    assert!(not_after_ms == 0 || not_after_ms > not_before_ms, EInvalidWindow);
    if (usage_limit == 0) {
        assert!(ticket_ttl_ms == 0 && ticket_price_mist == 0, EInvalidTickets);
    } else {
        assert!(ticket_ttl_ms > 0 && ticket_ttl_ms <= MAX_TICKET_TTL_MS, EInvalidTickets);
    };
    Rules {
        required_stake_mist,
        allowed_nodes,
        not_before_ms,
        not_after_ms,
        usage_limit,
        ticket_price_mist,
        ticket_ttl_ms,
    }
}

public fun required_stake_mist(rules: &Rules): u64 { rules.required_stake_mist }

public fun usage_limit(rules: &Rules): u64 { rules.usage_limit }

public fun ticket_price_mist(rules: &Rules): u64 { rules.ticket_price_mist }

public fun ticket_ttl_ms(rules: &Rules): u64 { rules.ticket_ttl_ms }

/// Aborts outside of the time window.
public fun assert_time(rules: &Rules, now_ms: u64) {
    assert!(now_ms >= rules.not_before_ms, ETooEarly);
    assert!(rules.not_after_ms == 0 || now_ms < rules.not_after_ms, ETooLate);
}

/// Aborts where only certain nodes may read.
public fun assert_open_to_all(rules: &Rules) {
    assert!(rules.allowed_nodes.length() == 0, ENodeRequired);
}

/// Aborts where this node is not among the only ones that may read.
public fun assert_allows(rules: &Rules, node: address) {
    let allowed = &rules.allowed_nodes;
    if (allowed.length() == 0) return;
    let mut i = 0;
    while (i < allowed.length()) {
        if (allowed[i] == node) return;
        i = i + 1;
    };
    abort ENodeNotAllowed
}
