"""CEL as the API server uses it: match conditions of webhooks and the validations of admission policies."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import cel

from daas.common.errors import InvalidInput

#: Longest expression accepted; kube-apiserver bounds the cost of evaluation instead, which comes to the same.
EXPRESSION_LENGTH_MAX = 16_384
_EVALUATION_ERRORS = (KeyError, RuntimeError, ValueError, TypeError)


class ExpressionError(InvalidInput):
    """An expression can't be compiled, or fails on this request."""


@lru_cache(maxsize=512)
def _program(expression: str) -> "cel.Program":
    if len(expression) > EXPRESSION_LENGTH_MAX:
        raise ExpressionError(f"expression above {EXPRESSION_LENGTH_MAX} characters", reason="cel-length")
    try:
        return cel.compile(expression)
    except ValueError as error:
        raise ExpressionError(f"{expression}: {error}", reason="cel-syntax") from None


def check(expression: str) -> None:
    """Raises ExpressionError where an expression does not compile."""
    _program(expression)


def evaluate(expression: str, variables: Mapping[str, Any]) -> Any:
    """The value of an expression.

    Raises:
        ExpressionError: it does not compile, or reads a field that is not there.
    """
    program = _program(expression)
    try:
        return program.execute(dict(variables))
    except _EVALUATION_ERRORS as error:
        raise ExpressionError(f"expression '{expression}' resulted in error: {error}", reason="cel-error") from None


def all_match(expressions: Iterable[str], variables: Mapping[str, Any]) -> bool:
    """Whether every condition holds. One that is false decides, even where another fails.

    Raises:
        ExpressionError: one fails and none is false: the caller's failurePolicy decides.
    """
    failed: ExpressionError | None = None
    for expression in expressions:
        try:
            if evaluate(expression, variables) is not True:
                return False
        except ExpressionError as error:
            failed = failed or error
    if failed is not None:
        raise failed
    return True
