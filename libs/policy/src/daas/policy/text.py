"""Policy texts in tokens with their places: Cedar's parser says what is wrong, this module knows where.

It also keeps texts within bounds before they reach the parser, which descends recursively and would take the process
with it: a thousand nested parentheses end in a segmentation fault.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from daas.policy.errors import Location, PolicyError

#: Bounds of one policy; its syntax tree is no deeper than its tokens, and brackets are the deepest per token.
MAX_TOKENS = 2_000
MAX_NESTING = 32

_TOKEN = re.compile(
    r"""(?P<skip>[ \t\r\n]+|//[^\n]*)
      | (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*|\?[A-Za-z_]+|[0-9]+)
      | (?P<operator>::|==|!=|<=|>=|&&|\|\||[-+*/%<>!=@.,;:?()\[\]{}])""",
    re.VERBOSE | re.DOTALL,
)
_CLOSING = {")": "(", "]": "[", "}": "{"}
_NAMED = re.compile(r"`([^`]+)`")
_LAST = re.compile(r": (\w+)$")
_PART = re.compile(r'"[^"]*"|\w+')
_UNFINISHED = "unexpected end of input"


class Token(NamedTuple):
    """A token and the offsets of its characters."""

    text: str
    start: int
    end: int


class Statement(NamedTuple):
    """One policy of a text, from its first token through its semicolon."""

    source: str
    text: str
    tokens: tuple[Token, ...]

    @property
    def policy(self) -> str:
        """The policy's own text."""
        return self.text[self.tokens[0].start : self.tokens[-1].end]

    def location(self, token: Token | None = None) -> Location:
        """Where a token, or else the policy, starts."""
        return locate(self.source, self.text, (token or self.tokens[0]).start)

    def blamed(self, message: str) -> Location:
        """The first token that a message names, between backticks or at its end, or the start of the policy."""
        for name in (*_NAMED.findall(message), *_LAST.findall(message)):
            for part in (name, *reversed(_PART.findall(name))):
                for token in self.tokens:
                    if token.text == part:
                        return self.location(token)
        return self.location()

    def offending(self, check: Callable[[str], str | None]) -> Location:
        """Where the parser stops: the first token with which the beginning of the policy can't be finished any more.

        Args:
            check: parses a text; what is wrong with it, or None.
        """
        low, high = 0, len(self.tokens)
        while low < high:
            middle = (low + high) // 2
            wrong = check(self.text[self.tokens[0].start : self.tokens[middle].end])
            if wrong is None or _UNFINISHED in wrong:
                low = middle + 1
            else:
                high = middle
        if low == len(self.tokens):
            return locate(self.source, self.text, self.tokens[-1].end)
        if low == len(self.tokens) - 1:
            wrong = check(self.policy) or ""
            return self.location(self.tokens[low]) if "unexpected token" in wrong else self.blamed(wrong)
        # a number out of range is noticed when the token after it is read
        late = "integer parse error" in (check(self.policy) or "")
        return self.location(self.tokens[max(low - late, 0)])


def locate(source: str, text: str, offset: int) -> Location:
    """Line and column of a character."""
    before = text[:offset]
    return Location(source, before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1)


def statements(source: str, text: str) -> tuple[Statement, ...]:
    """The policies of a text.

    Raises:
        PolicyError: `policy-syntax` for a character that starts no token or a bracket without its partner,
            `policy-size` for too many tokens or too deep nesting.
    """
    found: list[Statement] = []
    tokens: list[Token] = []
    brackets: list[str] = []
    offset = 0
    while offset < len(text):
        match = _TOKEN.match(text, offset)
        if match is None:
            raise PolicyError.at(
                locate(source, text, offset), f"no token starts with {text[offset]!r}", reason="policy-syntax"
            )
        offset = match.end()
        if match.lastgroup == "skip":
            continue
        token = Token(match.group(), match.start(), match.end())
        tokens.append(token)
        where = locate(source, text, token.start) if token.text in "()[]{};" else None
        if len(tokens) > MAX_TOKENS:
            raise PolicyError.at(
                locate(source, text, tokens[0].start), f"more than {MAX_TOKENS} tokens", reason="policy-size"
            )
        if token.text in "([{" and where is not None:
            brackets.append(token.text)
            if len(brackets) > MAX_NESTING:
                raise PolicyError.at(where, f"more than {MAX_NESTING} brackets deep", reason="policy-size")
        elif token.text in _CLOSING and where is not None:
            if not brackets or brackets.pop() != _CLOSING[token.text]:
                raise PolicyError.at(where, f"{token.text!r} closes nothing", reason="policy-syntax")
        elif token.text == ";" and not brackets:
            found.append(Statement(source, text, tuple(tokens)))
            tokens = []
    if tokens:
        found.append(Statement(source, text, tuple(tokens)))
    return tuple(found)
