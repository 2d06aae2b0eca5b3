"""How an object differs from what it should be: paths and values, without what an API server fills in by itself."""

from collections.abc import Iterator
from typing import Any, Final

Object = dict[str, Any]

#: What an API server adds to admission objects that say nothing: fields that say this are no difference.
_DEFAULTS: Final[dict[str, Any]] = {"matchPolicy": "Equivalent", "reinvocationPolicy": "Never", "apiGroup": ""}
#: Of an object of the API, what is not its content.
_NOT_CONTENT: Final = ("metadata", "status")
_SHOWN_CHARS_MAX: Final = 120


def differences(expected: Any, found: Any, where: str = "") -> Iterator[str]:
    """Sentences about every place where something is missing, other, or more than it should be."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in [*expected, *(name for name in found if name not in expected)]:
            path = f"{where}.{name}" if where else str(name)
            if name not in found:
                yield f"{path} is missing"
            elif name in expected:
                yield from differences(expected[name], found[name], path)
            elif not _filled_in(name, found[name]):
                yield f"{path} is {_shown(found[name])}, and should not be there"
    elif isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            yield f"{where} has {len(found)} entries instead of {len(expected)}"
        for index, (one, other) in enumerate(zip(expected, found, strict=False)):
            yield from differences(one, other, f"{where}[{index}]")
    elif expected != found:
        yield f"{where} is {_shown(found)} instead of {_shown(expected)}"


def content(obj: Object) -> Object:
    """An object of the API without metadata and status."""
    return {name: value for name, value in obj.items() if name not in _NOT_CONTENT}


def _filled_in(name: str, value: Any) -> bool:
    return value in (None, "", {}, []) or _DEFAULTS.get(name) == value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS_MAX else f"{text[:_SHOWN_CHARS_MAX]}..."
