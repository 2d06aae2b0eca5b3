"""Pieces of Move from which programs are made: operations on containers, and statements that stop."""

# ruff: noqa: E501 - a statement of Move reads better on one line

HEADER = """#[allow(unused_let_mut, unused_variable, unused_mut_parameter, unused_function, dead_code, lint(all))]
module fuzz::programs {
    use std::ascii;
    use std::bcs;
    use std::hash;
    use std::option::{Self, Option};
    use std::string;
    use sui::address;
    use sui::bag;
    use sui::balance;
    use sui::bcs as reader;
    use sui::coin;
    use sui::dynamic_field;
    use sui::dynamic_object_field;
    use sui::ed25519;
    use sui::event;
    use sui::hash as sui_hash;
    use sui::object_bag;
    use sui::object_table;
    use sui::table;
    use sui::vec_map;
    use sui::vec_set;

    public struct Money has drop {}
    public struct Vault has key, store { id: UID, supply: balance::Supply<Money> }
    public struct Thing has key, store { id: UID, value: u64 }
    public struct Inner has copy, drop, store { small: u8, wide: u256, list: vector<u64> }
    public struct Outer<T: copy + drop + store> has copy, drop, store { inner: Inner, held: T, flag: bool, more: vector<Inner> }
    public struct Happened has copy, drop { number: u64, bytes: vector<u8>, who: address, maybe: Option<u32> }

    public fun swap_fields<T: copy + drop + store>(outer: &mut Outer<T>, held: T): T {
        let before = outer.held;
        outer.held = held;
        outer.flag = !outer.flag;
        before
    }

    public fun log<T: drop>(out: &mut vector<vector<u8>>, value: T) { out.push_back(bcs::to_bytes(&value)) }

"""

SEQUENCES: dict[str, tuple[list[str], list[str], list[str]]] = {
    "vector": (
        ["let mut v: vector<u64> = vector[3, 1, 2];"],
        [
            "v.push_back({v});", "if (!v.is_empty()) log(&mut out, v.pop_back());", "v.reverse();",
            "if ({k} <= v.length()) v.insert({v}, {k});", "if ({k} < v.length()) log(&mut out, v.remove({k}));",
            "if ({k} < v.length()) log(&mut out, v.swap_remove({k}));",
            "if ({k} < v.length() && {j} < v.length()) v.swap({k}, {j});", "v.append(vector[{k}, {v}]);",
            "log(&mut out, v.contains(&{k}));",
            "let (found, at) = v.index_of(&{k}); log(&mut out, found); log(&mut out, at);",
            "if ({k} < v.length()) *v.borrow_mut({k}) = {j};", "if ({k} < v.length()) log(&mut out, v[{k}]);",
            "log(&mut out, v.length());", "log(&mut out, v);",
        ],
        ["log(&mut out, v);"],
    ),
    "bytes": (
        ['let mut v: vector<u8> = b"abc";'],
        [
            "v.push_back({b});", "if (!v.is_empty()) log(&mut out, v.pop_back());", "v.reverse();",
            "if ({k} <= v.length()) v.insert({b}, {k});", "if ({k} < v.length()) log(&mut out, v.remove({k}));",
            'v.append(x"00ff{b:02x}");', "log(&mut out, v.contains(&{b}));", "log(&mut out, sui_hash::blake2b256(&v));",
            "log(&mut out, hash::sha2_256(v));", "log(&mut out, hash::sha3_256(v));",
            "if ({k} < v.length()) *v.borrow_mut({k}) = {b};", "log(&mut out, bcs::to_bytes(&v));",
            'log(&mut out, v == b"abc");',
        ],
        ["log(&mut out, v);"],
    ),
    "nested": (
        ["let mut v: vector<vector<u128>> = vector[vector[1], vector[]];"],
        [
            "v.push_back(vector[{v}, {k}]);", "let n = v.length(); if (n > 0) v[{k} % n].push_back({v});",
            "if (!v.is_empty()) log(&mut out, v.pop_back());", "let copy_ = v; log(&mut out, copy_ == v);",
            "log(&mut out, vector::flatten(v));", "let n = v.length(); if (n > 0) log(&mut out, v[{k} % n]);",
        ],
        ["log(&mut out, v);"],
    ),
    "option": (
        ["let mut o: Option<u64> = option::none();"],
        [
            "if (o.is_none()) o.fill({v});", "if (o.is_some()) log(&mut out, o.extract());",
            "if (o.is_some()) log(&mut out, o.swap({v}));", "log(&mut out, o.swap_or_fill({v}));",
            "log(&mut out, o.get_with_default({k}));", "log(&mut out, o.contains(&{k}));",
            "if (o.is_some()) *o.borrow_mut() = {j};", "if (o.is_some()) log(&mut out, *o.borrow());",
            "log(&mut out, *o.borrow_with_default(&{v}));", "log(&mut out, o.is_some());",
            "let p = o; log(&mut out, p.destroy_with_default({v}));", "let p = o; log(&mut out, p.to_vec());",
            "log(&mut out, o == option::some({k}));",
        ],
        ["log(&mut out, o);"],
    ),
    "map": (
        ["let mut m = vec_map::empty<u64, u64>();"],
        [
            "if (!m.contains(&{k})) m.insert({k}, {v});", "if (m.contains(&{k})) *m.get_mut(&{k}) = {v};",
            "if (m.contains(&{k})) {{ let (a, b) = m.remove(&{k}); log(&mut out, a); log(&mut out, b); }};",
            "log(&mut out, m.try_get(&{k}));", "log(&mut out, m.length());", "log(&mut out, m.keys());",
            "log(&mut out, m.get_idx_opt(&{k}));", "if (m.contains(&{k})) log(&mut out, m.get_idx(&{k}));",
            "if ({k} < m.length()) {{ let (a, b) = m.get_entry_by_idx({k}); log(&mut out, *a); log(&mut out, *b); }};",
            "if ({k} < m.length()) {{ let (a, b) = m.remove_entry_by_idx({k}); log(&mut out, a); log(&mut out, b); }};",
            "if (!m.is_empty()) {{ let (a, b) = m.pop(); log(&mut out, a); log(&mut out, b); }};",
            "let (a, b) = m.into_keys_values(); log(&mut out, a); log(&mut out, b); m = vec_map::from_keys_values(a, b);",
        ],
        ["log(&mut out, m);"],
    ),
    "set": (
        ["let mut s = vec_set::singleton<u8>(1);"],
        [
            "if (!s.contains(&{k})) s.insert({k});", "if (s.contains(&{k})) s.remove(&{k});",
            "log(&mut out, s.contains(&{k}));", "log(&mut out, s.length());", "log(&mut out, *s.keys());",
            "log(&mut out, s.is_empty());", "let t = s; log(&mut out, vec_set::from_keys(t.into_keys()) == s);",
        ],
        ["log(&mut out, s.into_keys());"],
    ),
    "struct": (
        ["let mut o = Outer<u16> { inner: Inner { small: 1, wide: 2, list: vector[3] }, held: 4, flag: true, more: vector[] };"],
        [
            "o.inner.small = {b};", "o.inner.wide = o.inner.wide + {v};", "o.inner.list.push_back({v});",
            "let i = o.inner; o.more.push_back(i);", "let n = o.more.length(); if (n > 0) o.more[{k} % n].small = {b};",
            "log(&mut out, swap_fields(&mut o, {k}));", "log(&mut out, o);", "let copy_ = o; log(&mut out, copy_ == o);",
            "log(&mut out, o.inner);", "let Outer {{ inner, held, flag, more: _ }} = o; log(&mut out, inner); log(&mut out, held); log(&mut out, flag);",
        ],
        ["log(&mut out, o);"],
    ),
    "text": (
        ['let mut t = string::utf8(b"caf\\xc3\\xa9");'],
        [
            't.append(string::utf8(b"{k}"));', 't.append_utf8(b"x{v}");', "log(&mut out, t.length());",
            'log(&mut out, t.index_of(&string::utf8(b"{k}")));', "log(&mut out, t.substring(0, 3));", "log(&mut out, t);",
            't.insert(1, string::utf8(b"{j}"));', "log(&mut out, *t.as_bytes());", "log(&mut out, t.is_empty());",
            'log(&mut out, string::try_utf8(x"ff{b:02x}"));', 'log(&mut out, ascii::string(b"Ab{v}").to_uppercase());',
            'log(&mut out, ascii::try_string(x"{b:02x}"));', 'log(&mut out, ascii::string(b"a{v}b").index_of(&ascii::string(b"b")));',
        ],
        ["log(&mut out, t.into_bytes());"],
    ),
    "reader": (
        ['let mut r = reader::new(x"01000200030000000400000000000000");'],
        [
            "r = reader::new(bcs::to_bytes(&vector[{v}u64, {k}])); log(&mut out, r.peel_vec_u64());",
            "r = reader::new(bcs::to_bytes(&{v}u128)); log(&mut out, r.peel_u128());",
            "r = reader::new(bcs::to_bytes(&{v}u256)); log(&mut out, r.peel_u256());",
            "r = reader::new(bcs::to_bytes(&{v}u32)); log(&mut out, r.peel_u16()); log(&mut out, r.peel_u16());",
            "r = reader::new(bcs::to_bytes(&option::some({v}u64))); log(&mut out, r.peel_option_u64());",
            "r = reader::new(bcs::to_bytes(&@0x{v:x})); log(&mut out, r.peel_address());",
            'r = reader::new(bcs::to_bytes(&vector[b"{k}", b"{v}"])); log(&mut out, r.peel_vec_vec_u8());',
            "r = reader::new(bcs::to_bytes(&vector[true, false])); log(&mut out, r.peel_vec_bool());",
            'r = reader::new(x"{b:02x}01"); log(&mut out, r.peel_vec_length());',
            "log(&mut out, address::to_u256(@0x{v:x}));", "log(&mut out, address::from_u256({v}));",
            "log(&mut out, @0x{v:x}.to_bytes());", "log(&mut out, object::id_from_address(@0x{v:x}));",
        ],
        ["log(&mut out, r.into_remainder_bytes());"],
    ),
    "table": (
        ["let mut t = table::new<u64, u64>(ctx);"],
        [
            "if (!t.contains({k})) t.add({k}, {v});", "if (t.contains({k})) log(&mut out, t.remove({k}));",
            "if (t.contains({k})) *t.borrow_mut({k}) = {v};", "if (t.contains({k})) log(&mut out, t[{k}]);",
            "log(&mut out, t.length());", "log(&mut out, t.contains({k}));", "log(&mut out, t.is_empty());",
        ],
        ["t.drop();"],
    ),
    "bag": (
        ["let mut t = bag::new(ctx);"],
        [
            "if (!t.contains({k}u64)) t.add({k}u64, {v}u64);", "if (!t.contains({k}u8)) t.add({k}u8, vector[{v}u32]);",
            "if (t.contains({k}u64)) log(&mut out, t.remove<u64, u64>({k}));",
            "if (t.contains({k}u8)) t.borrow_mut<u8, vector<u32>>({k}).push_back({v});",
            "if (t.contains({k}u8)) log(&mut out, *t.borrow<u8, vector<u32>>({k}));",
            "log(&mut out, t.contains_with_type<u64, u64>({k}));", "log(&mut out, t.contains_with_type<u8, u64>({k}));",
            "log(&mut out, t.length());",
        ],
        ["transfer::public_freeze_object(t);"],
    ),
    "field": (
        ["let mut parent = Thing { id: object::new(ctx), value: 0 };"],
        [
            "if (!dynamic_field::exists_(&parent.id, {k}u64)) dynamic_field::add(&mut parent.id, {k}u64, vector[{v}u64]);",
            "if (dynamic_field::exists_(&parent.id, {k}u64)) log(&mut out, dynamic_field::remove<u64, vector<u64>>(&mut parent.id, {k}));",
            "log(&mut out, dynamic_field::remove_if_exists<u64, vector<u64>>(&mut parent.id, {k}));",
            "log(&mut out, dynamic_field::exists_with_type<u64, vector<u64>>(&parent.id, {k}));",
            "log(&mut out, dynamic_field::exists_with_type<u64, u8>(&parent.id, {k}));",
            "if (dynamic_field::exists_(&parent.id, {k}u64)) dynamic_field::borrow_mut<u64, vector<u64>>(&mut parent.id, {k}).push_back({v});",
            "if (dynamic_field::exists_(&parent.id, {k}u64)) log(&mut out, *dynamic_field::borrow<u64, vector<u64>>(&parent.id, {k}));",
        ],
        ["transfer::public_transfer(parent, @0x1);"],
    ),
    "objects": (
        ["let mut t = object_table::new<u64, Thing>(ctx); let mut b = object_bag::new(ctx);"],
        [
            "if (!t.contains({k})) t.add({k}, Thing {{ id: object::new(ctx), value: {v} }});",
            "if (t.contains({k})) {{ let Thing {{ id, value }} = t.remove({k}); id.delete(); log(&mut out, value); }};",
            "if (t.contains({k})) t.borrow_mut({k}).value = {v};", "if (t.contains({k})) log(&mut out, t[{k}].value);",
            "log(&mut out, t.length());", "log(&mut out, t.value_id({k}).is_some());",
            "if (!b.contains({k}u8)) b.add({k}u8, Thing {{ id: object::new(ctx), value: {v} }});",
            "if (b.contains({k}u8)) b.borrow_mut<u8, Thing>({k}).value = {j};",
            "if (b.contains({k}u8)) {{ let Thing {{ id, value }} = b.remove<u8, Thing>({k}); id.delete(); log(&mut out, value); }};",
            "log(&mut out, b.contains_with_type<u8, Thing>({k}));", "log(&mut out, b.length());",
        ],
        ["transfer::public_freeze_object(t); transfer::public_freeze_object(b);"],
    ),
    "money": (
        ["let mut supply = balance::create_supply(Money {}); let mut held = balance::zero<Money>();",
         "let mut c = coin::zero<Money>(ctx);"],
        [
            "log(&mut out, held.join(supply.increase_supply({v})));", "if (held.value() >= {k}) {{ let part = held.split({k}); log(&mut out, part.value()); c.balance_mut().join(part); }};",
            "if (c.value() >= {j}) {{ let other = c.split({j}, ctx); log(&mut out, other.value()); held.join(other.into_balance()); }};",
            "let all = held.withdraw_all(); log(&mut out, all.value()); log(&mut out, supply.decrease_supply(all));",
            "log(&mut out, supply.supply_value());", "log(&mut out, c.value());",
            "let half = c.value() / 2; let taken = coin::take(c.balance_mut(), half, ctx); log(&mut out, taken.value()); c.join(taken);",
            "if (c.value() > 3) {{ let mut parts = c.divide_into_n(3, ctx); log(&mut out, parts.length()); while (!parts.is_empty()) coin::put(&mut held, parts.pop_back()); parts.destroy_empty(); }};",
        ],
        [
            "log(&mut out, held.value()); held.join(c.into_balance()); supply.decrease_supply(held);",
            "log(&mut out, supply.supply_value()); transfer::public_freeze_object(Vault { id: object::new(ctx), supply });",
        ],
    ),
    "event": (
        ["let mut count = 0u64;"],
        [
            'event::emit(Happened {{ number: {v}, bytes: b"{k}", who: @0x{v:x}, maybe: option::some({k}) }}); count = count + 1;',
            'event::emit(Happened {{ number: count, bytes: b"", who: @0x{k}, maybe: option::none() }}); count = count + 1;',
            "log(&mut out, count);",
        ],
        ["log(&mut out, count);"],
    ),
}  # fmt: skip
CONTEXT_KINDS = frozenset({"table", "bag", "field", "objects", "money"})

# (statements, whether they need a context): each stops somewhere in the framework, or in a primitive operation.
ABORTS: tuple[tuple[list[str], bool], ...] = (
    (["abort 77;"], False),
    (["let mut m = vec_map::empty<u8, u8>(); m.insert(1, 1); m.insert(1, 2);"], False),
    (["let mut m = vec_map::empty<u8, u8>(); m.remove(&1);"], False),
    (["let m = vec_map::empty<u8, u8>(); log(&mut out, *m.get(&1));"], False),
    (["let m = vec_map::empty<u8, u8>(); log(&mut out, m.get_idx(&1));"], False),
    (["let mut m = vec_map::empty<u8, u8>(); m.insert(1, 1); m.destroy_empty();"], False),
    (["let m = vec_map::empty<u8, u8>(); let (a, b) = m.get_entry_by_idx(0); log(&mut out, *a);"], False),
    (["let mut m = vec_map::empty<u8, u8>(); let (a, b) = m.pop(); log(&mut out, a);"], False),
    (["let m = vec_map::from_keys_values(vector[1u8], vector[1u8, 2]); log(&mut out, m);"], False),
    (["let m = vec_map::from_keys_values(vector[1u8, 1], vector[1u8, 2]); log(&mut out, m);"], False),
    (["let mut s = vec_set::singleton(1u8); s.insert(1);"], False),
    (["let mut s = vec_set::singleton(1u8); s.remove(&2);"], False),
    (["let s = vec_set::from_keys(vector[1u8, 1]); log(&mut out, s.length());"], False),
    (["let o = option::none<u8>(); log(&mut out, *o.borrow());"], False),
    (["let mut o = option::none<u8>(); log(&mut out, o.extract());"], False),
    (["let mut o = option::some(1u8); o.fill(2);"], False),
    (["let o = option::none<u8>(); log(&mut out, o.destroy_some());"], False),
    (["let o = option::some(1u8); o.destroy_none();"], False),
    (["let mut o = option::none<u8>(); log(&mut out, o.swap(1));"], False),
    (["let mut v = vector[1u8]; log(&mut out, v.remove(1));"], False),
    (["let mut v = vector[1u8]; v.insert(1, 2);"], False),
    (["let mut v = vector<u8>[]; log(&mut out, v.swap_remove(0));"], False),
    (["let mut v = vector[1u8]; log(&mut out, v.swap_remove(1));"], False),
    (["let mut v = vector[1u8]; v.swap(0, 1);"], False),
    (["let mut v = vector<u8>[]; log(&mut out, v.pop_back());"], False),
    (["let v = vector[1u8]; log(&mut out, v[1]);"], False),
    (["let v = vector[1u8]; v.destroy_empty();"], False),
    (['log(&mut out, string::utf8(x"ff"));'], False),
    (['let t = string::utf8(b"caf\\xc3\\xa9"); log(&mut out, t.substring(0, 4));'], False),
    (['let t = string::utf8(b"abc"); log(&mut out, t.substring(2, 1));'], False),
    (['let mut t = string::utf8(b"abc"); t.insert(4, string::utf8(b"x"));'], False),
    (['let mut t = string::utf8(b"abc"); t.append_utf8(x"ff");'], False),
    (['log(&mut out, ascii::string(x"80"));'], False),
    (['log(&mut out, string::utf8(b"\\xc3\\xa9").to_ascii());'], False),
    (['log(&mut out, ascii::string(b"abc").substring(2, 4));'], False),
    (['let mut r = reader::new(x"01"); log(&mut out, r.peel_u16());'], False),
    (['let mut r = reader::new(x""); log(&mut out, r.peel_u8());'], False),
    (['let mut r = reader::new(x"02"); log(&mut out, r.peel_bool());'], False),
    (['let mut r = reader::new(x"01"); log(&mut out, r.peel_address());'], False),
    (['let mut r = reader::new(x"ffffffffffff01"); log(&mut out, r.peel_vec_length());'], False),
    (['let mut r = reader::new(x"ff"); log(&mut out, r.peel_vec_length());'], False),
    (['let mut r = reader::new(x"0201"); log(&mut out, r.peel_vec_u8());'], False),
    (['let mut r = reader::new(x"03"); log(&mut out, r.peel_option_u64());'], False),
    (['log(&mut out, address::from_bytes(x"01"));'], False),
    (['log(&mut out, object::id_from_bytes(x"01"));'], False),
    (["let mut t = table::new<u8, u8>(ctx); t.add(1, 1); t.add(1, 2); t.drop();"], True),
    (["let t = table::new<u8, u8>(ctx); log(&mut out, t[1]); t.drop();"], True),
    (["let mut t = table::new<u8, u8>(ctx); log(&mut out, t.remove(1)); t.drop();"], True),
    (["let mut t = table::new<u8, u8>(ctx); t.add(1, 1); t.destroy_empty();"], True),
    (["let mut t = bag::new(ctx); t.add(1u8, 1u8); log(&mut out, *t.borrow<u8, u64>(1)); t.destroy_empty();"], True),
    (["let mut t = bag::new(ctx); t.add(1u8, 1u8); log(&mut out, t.remove<u8, u64>(1)); t.destroy_empty();"], True),
    (["let mut t = bag::new(ctx); t.add(1u8, 1u8); t.destroy_empty();"], True),
    (["let t = object_table::new<u8, Thing>(ctx); log(&mut out, t[1].value); t.destroy_empty();"], True),
    (["let mut t = object_table::new<u8, Thing>(ctx); let Thing { id, value } = t.remove(1); id.delete(); t.destroy_empty();"], True),
    (["let mut h = balance::zero<Money>(); let p = h.split(1); h.join(p); h.destroy_zero();"], False),
    (["let mut s = balance::create_supply(Money {}); let h = s.increase_supply(1); h.destroy_zero(); abort 1;"], False),
    (["let mut s = balance::create_supply(Money {}); let h = s.increase_supply(18446744073709551615); h.destroy_zero(); abort 1;"], False),
    (["let mut c = coin::zero<Money>(ctx); let d = c.split(1, ctx); c.join(d); c.destroy_zero();"], True),
    (["let mut c = coin::zero<Money>(ctx); let d = coin::take(c.balance_mut(), 1, ctx); c.join(d); c.destroy_zero();"], True),
    (["let mut c = coin::zero<Money>(ctx); let d = c.divide_into_n(1, ctx); d.destroy_empty(); c.destroy_zero();"], True),
    (["let mut c = coin::zero<Money>(ctx); let d = c.divide_into_n(0, ctx); d.destroy_empty(); c.destroy_zero();"], True),
    (["let mut s = balance::create_supply(Money {}); let mut o = balance::create_supply(Money {}); let mut a = s.increase_supply(18446744073709551614); a.join(o.increase_supply(18446744073709551614)); abort 1;"], False),
    (["let mut i = 0u8; while (true) { i = i + 100; };"], False),
    (["let n = out.length(); log(&mut out, 1u64 / n);"], False),
    (["let n = out.length(); log(&mut out, 1u8 << ((n + 8) as u8));"], False),
    (["let n = out.length(); log(&mut out, ((n + 256) as u8));"], False),
)  # fmt: skip
