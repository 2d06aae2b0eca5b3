"""Random Move programs, as source for the real compiler.

Every function returns its observations as `vector<vector<u8>>`, each the BCS of one value, so that two machines can be
compared value by value.
"""

import random
from dataclasses import dataclass, field

from move_snippets import ABORTS, CONTEXT_KINDS, HEADER, SEQUENCES

WIDTHS = {"u8": 8, "u16": 16, "u32": 32, "u64": 64, "u128": 128, "u256": 256}
OPERATORS = ("+", "-", "*", "/", "%", "&", "|", "^")


@dataclass(frozen=True)
class Call:
    """One call of a function of the generated module: arguments as (Move literal, value of the machine)."""

    function: str
    arguments: tuple[tuple[str, object], ...] = ()
    needs_context: bool = False


@dataclass
class Programs:
    """The generated module's functions, and the calls to make."""

    functions: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def add(self, name: str, signature: str, body: list[str]) -> None:
        lines = "\n".join(f"        {line}" for line in body)
        self.functions.append(
            f"    public fun {name}({signature}): vector<vector<u8>> {{\n"
            f"        let mut out: vector<vector<u8>> = vector[];\n{lines}\n        out\n    }}\n"
        )

    def source(self) -> str:
        return HEADER + "\n".join(self.functions) + "}\n"


def literal(value: int, width: str) -> str:
    return f"{value}{width}"


class Generator:
    """Generates programs from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.programs = Programs()

    def number(self, width: str) -> int:
        most = (1 << WIDTHS[width]) - 1
        pick = self.random.randrange(6)
        if pick == 0:
            return self.random.choice((0, 1, 2, most, most - 1, most // 2, most // 2 + 1))
        if pick < 3:
            return self.random.randrange(1 + min(most, 1 << self.random.randrange(1, WIDTHS[width] + 1)))
        return self.random.randrange(min(most, 1000) + 1)

    def expression(self, width: str, depth: int) -> str:
        choice = self.random.randrange(10)
        if depth == 0 or choice == 0:
            return self.random.choice(("x", "y", literal(self.number(width), width)))
        left, right = self.expression(width, depth - 1), self.expression(width, depth - 1)
        if choice == 1:
            return f"(({left}) << (s % {WIDTHS[width]}u16 as u8))"
        if choice == 2:
            return f"(({left}) >> (s as u8))"
        if choice == 3:
            other = self.random.choice(list(WIDTHS))
            return f"((({left}) as {other}) as {width})"
        if choice == 4:
            comparison = self.random.choice(("<", ">", "<=", ">=", "==", "!="))
            joined = self.random.choice(("&&", "||"))
            return f"(if (({left}) {comparison} ({right}) {joined} x != y) {left} else {right})"
        return f"(({left}) {self.random.choice(OPERATORS)} ({right}))"

    def arithmetic(self, functions: int, calls: int) -> None:
        for index in range(functions):
            width = self.random.choice(list(WIDTHS))
            name = f"arithmetic_{index}"
            body = [f"log(&mut out, {self.expression(width, 2)});" for _ in range(2)]
            if self.random.randrange(4) == 0:
                body += [
                    "let mut i = 0u64; let mut sum = x;",
                    f"while (i < 5) {{ sum = sum ^ ({self.expression(width, 1)}); i = i + 1; }};",
                    "log(&mut out, sum);",
                ]
            self.programs.add(name, f"x: {width}, y: {width}, s: u16", body)
            for _ in range(calls):
                x, y, s = self.number(width), self.number(width), self.random.randrange(WIDTHS[width] + 3) % 256
                self.programs.calls.append(Call(name, ((literal(x, width), x), (literal(y, width), y), (f"{s}u16", s))))

    def sequence(self, name: str, kind: str, steps: int) -> None:
        """A random sequence of operations on one kind of container, every observation logged."""
        start, operations, finish = SEQUENCES[kind]
        body = list(start)
        for _ in range(steps):
            k, v = self.random.randrange(6), self.random.randrange(1 << 20)
            body.append(self.random.choice(operations).format(k=k, j=self.random.randrange(6), v=v, b=v % 251))
        body += finish
        context = kind in CONTEXT_KINDS
        self.programs.add(name, "ctx: &mut TxContext" if context else "", body)
        self.programs.calls.append(Call(name, (), context))

    def containers(self, each: int, steps: int) -> None:
        for kind in SEQUENCES:
            for index in range(each):
                self.sequence(f"{kind}_{index}", kind, steps)

    def aborts(self) -> None:
        for index, (code, context) in enumerate(ABORTS):
            self.programs.add(f"abort_{index}", "ctx: &mut TxContext" if context else "", code)
            self.programs.calls.append(Call(f"abort_{index}", (), context))
