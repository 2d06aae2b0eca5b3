/// What one address has at stake: bonded in tranches, on its way out in withdrawals, both bounded in number.
module daas::accounts;

/// As many withdrawals as an account can hold are waiting already.
const ETooManyWithdrawals: u64 = 0;

/// A deposit beyond this joins the newest tranche, which counts as new from then on.
const MAX_TRANCHES: u64 = 8;
const MAX_WITHDRAWALS: u64 = 8;

/// Stake that has been bound since a time.
public struct Tranche has copy, drop, store { amount_mist: u64, since_ms: u64 }

/// Stake on its way out: free from `until_ms` on, slashable until it is taken.
public struct Withdrawal has copy, drop, store { amount_mist: u64, until_ms: u64 }

/// One address's stake.
public struct Account has drop, store {
    /// Oldest first; withdrawals and slashes take the newest first.
    bonded: vector<Tranche>,
    unbonding: vector<Withdrawal>,
    /// Nodes that this stake stands for.
    nodes: u64,
    /// Expiry of the last enclave key that this stake answers for: no withdrawal is free earlier than the unbonding
    /// time after it.
    answers_until_ms: u64,
}

public(package) fun new(): Account {
    Account { bonded: vector[], unbonding: vector[], nodes: 0, answers_until_ms: 0 }
}

public(package) fun nodes(account: &Account): u64 { account.nodes }

public(package) fun add_node(account: &mut Account) { account.nodes = account.nodes + 1 }

public(package) fun remove_node(account: &mut Account) { account.nodes = account.nodes - 1 }

public(package) fun is_empty(account: &Account): bool {
    account.bonded.length() == 0 && account.unbonding.length() == 0 && account.nodes == 0
}

/// Everything bonded now.
public(package) fun bonded(account: &Account): u64 {
    let mut sum = 0;
    let mut i = 0;
    while (i < account.bonded.length()) {
        sum = sum + account.bonded[i].amount_mist;
        i = i + 1;
    };
    sum
}

/// What of it has been bonded since before a time.
public(package) fun bonded_since(account: &Account, snapshot_ms: u64): u64 {
    let mut sum = 0;
    let mut i = 0;
    while (i < account.bonded.length()) {
        if (account.bonded[i].since_ms < snapshot_ms) sum = sum + account.bonded[i].amount_mist;
        i = i + 1;
    };
    sum
}

/// Everything on its way out.
public(package) fun unbonding(account: &Account): u64 {
    let mut sum = 0;
    let mut i = 0;
    while (i < account.unbonding.length()) {
        sum = sum + account.unbonding[i].amount_mist;
        i = i + 1;
    };
    sum
}

/// Adds new stake.
public(package) fun bind(account: &mut Account, amount_mist: u64, now_ms: u64) {
    let count = account.bonded.length();
    if (count > 0 && (count == MAX_TRANCHES || account.bonded[count - 1].since_ms == now_ms)) {
        let newest = &mut account.bonded[count - 1];
        newest.amount_mist = newest.amount_mist + amount_mist;
        newest.since_ms = now_ms;
    } else {
        account.bonded.push_back(Tranche { amount_mist, since_ms: now_ms });
    }
}

/// Keeps stake answerable for a key until it expires.
public(package) fun answer_until(account: &mut Account, expires_ms: u64) {
    if (expires_ms > account.answers_until_ms) account.answers_until_ms = expires_ms;
}

/// Puts bonded stake on its way out; there must be enough.
public(package) fun request(account: &mut Account, amount_mist: u64, now_ms: u64, unbonding_ms: u64) {
    assert!(account.unbonding.length() < MAX_WITHDRAWALS, ETooManyWithdrawals);
    account.unbind(amount_mist);
    let from_ms = if (account.answers_until_ms > now_ms) account.answers_until_ms else now_ms;
    account.unbonding.push_back(Withdrawal { amount_mist, until_ms: from_ms + unbonding_ms });
}

/// Takes stake away, bonded first, then on its way out; there must be enough. Returns how much of it was bonded.
public(package) fun slash(account: &mut Account, amount_mist: u64): u64 {
    let bonded_mist = bonded(account);
    let from_bonded_mist = if (amount_mist < bonded_mist) amount_mist else bonded_mist;
    account.unbind(from_bonded_mist);
    account.cut_unbonding(amount_mist - from_bonded_mist);
    from_bonded_mist
}

/// Removes the withdrawals that are free now; their sum.
public(package) fun take_free(account: &mut Account, now_ms: u64): u64 {
    let mut waiting = vector[];
    let mut free_mist = 0;
    let mut i = 0;
    while (i < account.unbonding.length()) {
        let withdrawal = account.unbonding[i];
        if (withdrawal.until_ms <= now_ms) free_mist = free_mist + withdrawal.amount_mist
        else waiting.push_back(withdrawal);
        i = i + 1;
    };
    account.unbonding = waiting;
    free_mist
}

/// Takes bonded stake away, newest first; there must be enough.
fun unbind(account: &mut Account, amount_mist: u64) {
    let mut left_mist = amount_mist;
    while (left_mist > 0) {
        let last = account.bonded.length() - 1;
        let newest = &mut account.bonded[last];
        if (newest.amount_mist > left_mist) {
            newest.amount_mist = newest.amount_mist - left_mist;
            left_mist = 0;
        } else {
            left_mist = left_mist - newest.amount_mist;
            account.bonded.pop_back();
        };
    }
}

/// Takes stake away that is on its way out, latest first; there must be enough.
fun cut_unbonding(account: &mut Account, amount_mist: u64) {
    let mut left_mist = amount_mist;
    while (left_mist > 0) {
        let last = account.unbonding.length() - 1;
        let newest = &mut account.unbonding[last];
        if (newest.amount_mist > left_mist) {
            newest.amount_mist = newest.amount_mist - left_mist;
            left_mist = 0;
        } else {
            left_mist = left_mist - newest.amount_mist;
            account.unbonding.pop_back();
        };
    }
}
