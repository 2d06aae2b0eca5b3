// Interfaces of the Move standard library functions that the package `daas` calls: signatures only, enough for the
// compiler to emit the same bytecode as with the real library. Bodies abort: nothing here is ever executed or published.

#[defines_primitive(vector)]
module std::vector {
    #[bytecode_instruction]
    native public fun empty<Element>(): vector<Element>;
    #[bytecode_instruction]
    native public fun length<Element>(v: &vector<Element>): u64;
    #[syntax(index)]
    #[bytecode_instruction]
    native public fun borrow<Element>(v: &vector<Element>, i: u64): &Element;
    #[bytecode_instruction]
    native public fun push_back<Element>(v: &mut vector<Element>, e: Element);
    #[syntax(index)]
    #[bytecode_instruction]
    native public fun borrow_mut<Element>(v: &mut vector<Element>, i: u64): &mut Element;
    #[bytecode_instruction]
    native public fun pop_back<Element>(v: &mut vector<Element>): Element;
    #[bytecode_instruction]
    native public fun destroy_empty<Element>(v: vector<Element>);
    #[bytecode_instruction]
    native public fun swap<Element>(v: &mut vector<Element>, i: u64, j: u64);

    public fun append<Element>(_lhs: &mut vector<Element>, _other: vector<Element>) { abort 0 }
}

module std::option {
    public struct Option<Element> has copy, drop, store { vec: vector<Element> }

    public fun is_some<Element>(_t: &Option<Element>): bool { abort 0 }

    public fun borrow<Element>(_t: &Option<Element>): &Element { abort 0 }
}

module std::bcs {
    native public fun to_bytes<MoveValue>(v: &MoveValue): vector<u8>;
}
