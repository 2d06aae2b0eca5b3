/// The nodes of a cluster, each backed by its operator's stake, and who may open the sealed token they join with.
module daas::nodes;

use daas::registry::{AdminCap, Registry};
use daas::stake::StakePool;
use daas::version;
use std::bcs;
use sui::clock::Clock;
use sui::event;
use sui::table::{Self, Table};

/// The object was written by another version of this package.
const EWrongVersion: u64 = 0;
/// The object already has this package's version: there is nothing to migrate.
const EAlreadyMigrated: u64 = 1;
/// The objects belong to different registries.
const EWrongRegistry: u64 = 2;
/// A node name is a DNS subdomain: 1 to 253 of a-z, 0-9, "-" and ".", with a letter or digit at both ends.
const EInvalidName: u64 = 3;
/// A node with this name is registered.
const ENameTaken: u64 = 4;
/// Only the node's operator may do this.
const ENotOperator: u64 = 5;
/// Only the node itself or its operator may do this.
const ENotThisNode: u64 = 6;
/// The node is being drained: it takes part no more.
const EDraining: u64 = 7;
/// The id to open is not that of the join token, or of one that has been replaced.
const EWrongId: u64 = 8;

const MAX_NAME_LENGTH: u64 = 253;

const ACTIVE: u8 = 1;
const DRAINING: u8 = 2;

/// The names of a cluster's nodes, and which join token is the valid one.
public struct Roster has key {
    id: UID,
    version: u64,
    registry: ID,
    simulated: bool,
    /// Node object of each name.
    names: Table<vector<u8>, ID>,
    /// Number of the join token that nodes may open; the older ones are void.
    join_generation: u64,
}

/// One node.
public struct Node has key {
    id: UID,
    version: u64,
    registry: ID,
    simulated: bool,
    /// Name of the Kubernetes Node.
    name: vector<u8>,
    /// Whose stake stands for it.
    operator: address,
    /// The address of the key on the machine itself, which opens what is sealed for it.
    identity: address,
    /// 1 active, 2 draining.
    state: u8,
    registered_ms: u64,
    heartbeat_ms: u64,
}

public struct NodeRegistered has copy, drop {
    registry: ID,
    node: ID,
    name: vector<u8>,
    operator: address,
    identity: address,
    registered_ms: u64,
    simulated: bool,
}

public struct NodeHeartbeat has copy, drop { registry: ID, node: ID, timestamp_ms: u64, simulated: bool }

public struct NodeDraining has copy, drop { registry: ID, node: ID, name: vector<u8>, simulated: bool }

public struct NodeDeregistered has copy, drop { registry: ID, node: ID, name: vector<u8>, simulated: bool }

/// The join token was replaced: what was sealed for older generations opens no more.
public struct JoinTokenRotated has copy, drop { registry: ID, generation: u64, simulated: bool }

public struct RosterMigrated has copy, drop { registry: ID, from: u64, to: u64, simulated: bool }

public struct NodeMigrated has copy, drop { registry: ID, node: ID, from: u64, to: u64, simulated: bool }

/// Registers a node on the sender's stake, which must cover all its nodes.
public fun register(
    roster: &mut Roster,
    pool: &mut StakePool,
    name: vector<u8>,
    identity: address,
    clock: &Clock,
    ctx: &mut TxContext,
) {
    assert_roster(roster, pool);
    assert_name(&name);
    assert!(!roster.names.contains(name), ENameTaken);
    let operator = ctx.sender();
    pool.add_node(operator);
    let now_ms = clock.timestamp_ms();
    let node = Node {
        id: object::new(ctx),
        version: version::current(),
        registry: roster.registry,
        simulated: roster.simulated,
        name,
        operator,
        identity,
        state: ACTIVE,
        registered_ms: now_ms,
        heartbeat_ms: now_ms,
    };
    roster.names.add(name, object::id(&node));
    event::emit(NodeRegistered {
        registry: roster.registry,
        node: object::id(&node),
        name,
        operator,
        identity,
        registered_ms: now_ms,
        simulated: roster.simulated,
    });
    transfer::share_object(node);
}

/// Says that the node is alive. Aborts where its operator's stake no longer covers it.
public fun heartbeat(node: &mut Node, pool: &StakePool, clock: &Clock, ctx: &TxContext) {
    assert_node(node, pool);
    assert!(ctx.sender() == node.identity || ctx.sender() == node.operator, ENotThisNode);
    pool.assert_covers_nodes(node.operator);
    node.heartbeat_ms = clock.timestamp_ms();
    event::emit(NodeHeartbeat {
        registry: node.registry,
        node: object::id(node),
        timestamp_ms: node.heartbeat_ms,
        simulated: node.simulated,
    });
}

/// Takes the node out of service: it opens nothing any more, and its pods are to be moved. A second call changes
/// nothing.
public fun drain(node: &mut Node, ctx: &TxContext) {
    assert_node_version(node);
    assert!(ctx.sender() == node.operator, ENotOperator);
    if (node.state == DRAINING) return;
    node.state = DRAINING;
    event::emit(NodeDraining {
        registry: node.registry,
        node: object::id(node),
        name: node.name,
        simulated: node.simulated,
    });
}

/// Removes the node; its name and its share of the operator's stake are free again.
public fun deregister(roster: &mut Roster, pool: &mut StakePool, node: Node, ctx: &TxContext) {
    assert_roster(roster, pool);
    assert_node(&node, pool);
    assert!(ctx.sender() == node.operator, ENotOperator);
    let removed = object::id(&node);
    let Node { id, version: _, registry, simulated, name, operator, .. } = node;
    roster.names.remove(name);
    pool.remove_node(operator);
    event::emit(NodeDeregistered { registry, node: removed, name, simulated });
    object::delete(id);
}

/// Replaces the join token: the one sealed under the next generation is the valid one from now on.
public fun rotate_join_token(_: &AdminCap, roster: &mut Roster) {
    assert!(roster.version == version::current(), EWrongVersion);
    roster.join_generation = roster.join_generation + 1;
    event::emit(JoinTokenRotated {
        registry: roster.registry,
        generation: roster.join_generation,
        simulated: roster.simulated,
    });
}

/// For Seal key servers: the sender may open the join token, whose id is roster || generation (u64, little-endian).
entry fun seal_approve_join(id: vector<u8>, roster: &Roster, pool: &StakePool, node: &Node, ctx: &TxContext) {
    assert_roster(roster, pool);
    assert!(id == join_token_id(roster), EWrongId);
    assert_may_open(node, pool, ctx);
}

/// Brings a roster written by an older version of this package up to this one.
public fun migrate_roster(_: &AdminCap, roster: &mut Roster) {
    let from = roster.version;
    assert!(from < version::current(), EAlreadyMigrated);
    roster.version = version::current();
    event::emit(RosterMigrated { registry: roster.registry, from, to: roster.version, simulated: roster.simulated });
}

/// Brings a node written by an older version of this package up to this one.
public fun migrate(_: &AdminCap, node: &mut Node) {
    let from = node.version;
    assert!(from < version::current(), EAlreadyMigrated);
    node.version = version::current();
    event::emit(NodeMigrated {
        registry: node.registry,
        node: object::id(node),
        from,
        to: node.version,
        simulated: node.simulated,
    });
}

/// The Seal id of the valid join token, without the package's prefix.
public fun join_token_id(roster: &Roster): vector<u8> {
    let mut id = bcs::to_bytes(&object::id_address(roster));
    id.append(bcs::to_bytes(&roster.join_generation));
    id
}

public fun operator(node: &Node): address { node.operator }

public fun identity(node: &Node): address { node.identity }

public fun name(node: &Node): vector<u8> { node.name }

public fun is_draining(node: &Node): bool { node.state == DRAINING }

/// Makes and shares the roster of a new registry; its id.
public(package) fun create(registry: &Registry, ctx: &mut TxContext): address {
    let roster = Roster {
        id: object::new(ctx),
        version: version::current(),
        registry: object::id(registry),
        simulated: registry.is_simulated(),
        names: table::new(ctx),
        join_generation: 1,
    };
    let roster_address = object::id_address(&roster);
    transfer::share_object(roster);
    roster_address
}

/// Aborts unless the sender is this node, in service, on stake that covers it.
public(package) fun assert_may_open(node: &Node, pool: &StakePool, ctx: &TxContext) {
    assert_node(node, pool);
    assert!(ctx.sender() == node.identity, ENotThisNode);
    assert!(node.state == ACTIVE, EDraining);
    pool.assert_covers_nodes(node.operator);
}

fun assert_roster(roster: &Roster, pool: &StakePool) {
    assert!(roster.version == version::current(), EWrongVersion);
    pool.assert_version();
    assert!(roster.registry == pool.registry(), EWrongRegistry);
}

fun assert_node(node: &Node, pool: &StakePool) {
    assert_node_version(node);
    pool.assert_version();
    assert!(node.registry == pool.registry(), EWrongRegistry);
}

fun assert_node_version(node: &Node) {
    assert!(node.version == version::current(), EWrongVersion);
}

fun assert_name(name: &vector<u8>) {
    let length = name.length();
    assert!(length > 0 && length <= MAX_NAME_LENGTH, EInvalidName);
    assert!(is_alphanumeric(name[0]) && is_alphanumeric(name[length - 1]), EInvalidName);
    let mut i = 0;
    while (i < length) {
        let character = name[i];
        // "-" and "."
        assert!(is_alphanumeric(character) || character == 45 || character == 46, EInvalidName);
        i = i + 1;
    }
}

fun is_alphanumeric(character: u8): bool {
    // "a" to "z", "0" to "9"
    (character >= 97 && character <= 122) || (character >= 48 && character <= 57)
}
