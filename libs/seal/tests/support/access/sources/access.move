/// A small policy for tests: members of a shared list may have keys from one moment on, and only for ids that start with
/// the list's own address.
module access::access;

use std::bcs;
use sui::clock::Clock;

/// The id does not start with the list's address.
const EWrongId: u64 = 1;
/// The sender is not on the list.
const ENotMember: u64 = 2;
/// The list does not open yet.
const ETooEarly: u64 = 3;

public struct Access has key {
    id: UID,
    members: vector<address>,
    not_before_ms: u64,
}

public fun create(members: vector<address>, not_before_ms: u64, ctx: &mut TxContext) {
    transfer::share_object(Access { id: object::new(ctx), members, not_before_ms });
}

public fun seal_approve(id: vector<u8>, access: &Access, clock: &Clock, ctx: &TxContext) {
    let address = object::id_address(access);
    let prefix = bcs::to_bytes(&address);
    assert!(vector::length(&id) >= vector::length(&prefix), EWrongId);
    let mut i = 0;
    while (i < vector::length(&prefix)) {
        assert!(*vector::borrow(&id, i) == *vector::borrow(&prefix, i), EWrongId);
        i = i + 1;
    };
    let sender = ctx.sender();
    let mut member = false;
    i = 0;
    while (i < vector::length(&access.members)) {
        if (*vector::borrow(&access.members, i) == sender) member = true;
        i = i + 1;
    };
    assert!(member, ENotMember);
    assert!(clock.timestamp_ms() >= access.not_before_ms, ETooEarly);
}
