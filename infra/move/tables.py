"""Writes the tables of docs/chain.md that follow from the Move sources: functions, objects, events, abort codes.

`--check` writes nothing and exits 1 when the document is not what the sources say.
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "daas" / "sources"
DOCUMENT = HERE.parents[1] / "docs" / "chain.md"
ORDER = (
    "cluster", "registry", "measurements", "enclaves", "intent", "placement", "parameters", "accounts", "stake",
    "nodes", "rules", "policy", "governance", "version",
)  # fmt: skip

_DOCUMENTED = r"((?:^[ ]*///[^\n]*\n)*)"
_STRUCT = re.compile(_DOCUMENTED + r"^public struct (\w+) has ([\w, ]+) \{(.*?)\}", re.MULTILINE | re.DOTALL)
_FUNCTION = re.compile(_DOCUMENTED + r"^(public|entry) fun (\w+)\((.*?)\)(?:: ([^{]+?))? \{", re.MULTILINE | re.DOTALL)
_CODE = re.compile(_DOCUMENTED + r"^const (E[A-Z][a-z]\w*): u64 = (\d+);", re.MULTILINE)


def text_of(comment: str) -> str:
    """A documentation comment as one line that can stand in a table."""
    lines = (line.strip().removeprefix("///").strip() for line in comment.splitlines())
    return " ".join(lines).replace("|", "\\|")


def parameters(text: str) -> str:
    """Names and types of a function's parameters, without clock and context, which every call has."""
    plain = " ".join(re.sub(r"//.*", "", text).split()).rstrip(",")
    found = [part.strip() for part in re.split(r",\s*(?![^<]*>)", plain) if part.strip()]
    return ", ".join(part for part in found if not part.endswith(("Clock", "TxContext"))).replace("_: ", "")


def fields(body: str) -> str:
    """Names and types of a struct's fields."""
    plain = " ".join(re.sub(r"//.*", "", body).split()).rstrip(",")
    return f"`{plain}`" if plain else ""


def module_section(name: str) -> list[str]:
    """One module: what it is for, its objects and values, its functions."""
    text = (SOURCES / f"{name}.move").read_text(encoding="utf-8")
    text = re.sub(r"^#\[test_only\]\n.*$", "", text, flags=re.MULTILINE)
    lines = [f"### `{name}`", "", text_of(text.split("module daas::", maxsplit=1)[0]), ""]
    structs = [match for match in _STRUCT.finditer(text) if match[3] != "copy, drop"]
    if structs:
        lines += ["| struct | abilities | fields | |", "|---|---|---|---|"]
        lines += [f"| `{m[2]}` | {m[3]} | {fields(m[4])} | {text_of(m[1])} |" for m in structs]
        lines.append("")
    functions = list(_FUNCTION.finditer(text))
    if functions:
        lines += ["| function | takes | returns | |", "|---|---|---|---|"]
        for match in functions:
            label = f"`{match[3]}`" + (" (entry)" if match[2] == "entry" else "")
            returned = f"`{' '.join(match[5].split())}`" if match[5] else ""
            lines.append(f"| {label} | `{parameters(match[4])}` | {returned} | {text_of(match[1])} |")
        lines.append("")
    return lines


def events() -> list[str]:
    """Every event with its fields."""
    lines = ["| event | fields | |", "|---|---|---|"]
    for name in ORDER:
        text = (SOURCES / f"{name}.move").read_text(encoding="utf-8")
        emitted = set(re.findall(r"event::emit\((\w+)", text))
        lines += [
            f"| `{name}::{match[2]}` | {fields(match[4])} | {text_of(match[1])} |"
            for match in _STRUCT.finditer(text)
            if match[2] in emitted
        ]
    return [*lines, ""]


def aborts() -> list[str]:
    """Every abort code with its reason."""
    lines = ["| module | code | name | reason |", "|---|---|---|---|"]
    for name in ORDER:
        text = (SOURCES / f"{name}.move").read_text(encoding="utf-8")
        lines += [f"| `{name}` | {match[3]} | `{match[2]}` | {text_of(match[1])} |" for match in _CODE.finditer(text)]
    return [*lines, ""]


def filled(document: str) -> str:
    """The document with its generated parts as the sources say."""
    parts = {
        "modules": [line for name in ORDER for line in module_section(name)],
        "events": events(),
        "aborts": aborts(),
    }
    for name, lines in parts.items():
        begin, end = f"<!-- {name}: from the sources, by infra/move/tables.py -->\n", f"<!-- end of {name} -->\n"
        head, _, rest = document.partition(begin)
        _, found, tail = rest.partition(end)
        if not found:
            raise SystemExit(f"{DOCUMENT} has no part {name}")
        document = head + begin + "\n" + "\n".join(lines) + end + tail
    return document


def main() -> int:
    """Writes or checks."""
    if {path.stem for path in SOURCES.glob("*.move")} != set(ORDER):
        raise SystemExit(f"the modules are not those in {ORDER}")
    now = DOCUMENT.read_text(encoding="utf-8")
    wanted = filled(now)
    if "--check" in sys.argv[1:]:
        if now != wanted:
            sys.stderr.write(f"{DOCUMENT} is not what the sources say: run python infra/move/tables.py\n")
        return int(now != wanted)
    DOCUMENT.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
