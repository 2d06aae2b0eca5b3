/// Creates a cluster: its registry, its stake pool and its roster of nodes, bound to each other in one transaction.
module daas::cluster;

use daas::nodes;
use daas::parameters::Parameters;
use daas::registry::{Self, AdminCap};
use daas::stake;

/// Creates and shares the objects of a cluster with one allowed measurement.
public fun create(
    _: &AdminCap,
    simulated: bool,
    chain: vector<u8>,
    policy: vector<u8>,
    pcr0: vector<u8>,
    pcr1: vector<u8>,
    pcr2: vector<u8>,
    registration_ttl_ms: u64,
    document_age_ms: u64,
    batch_age_ms: u64,
    future_skew_ms: u64,
    parameters: Parameters,
    ctx: &mut TxContext,
) {
    let limits = registry::limits(registration_ttl_ms, document_age_ms, batch_age_ms, future_skew_ms);
    let registry = registry::new(simulated, chain, policy, limits, ctx);
    let pool = stake::create(&registry, parameters, ctx);
    let roster = nodes::create(&registry, ctx);
    registry.share(pool, roster, pcr0, pcr1, pcr2);
}
