"""Writes docs/metrics.md from the code: `python infra/prometheus/metrics.py [--check]`.

Every metric is declared by a call with its name and its description in place, so the source is the list.
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/metrics.md"
#: Of everything of ours, and of the key servers, which keep the names of Seal.
PREFIXES = ("daas_", "seal_key_server_")
KINDS = {"Counter": "counter", "Gauge": "gauge", "Histogram": "histogram"}
UNITS = {"_timestamp_seconds": "Unix time, s", "_seconds": "s", "_bytes": "bytes", "_mist": "MIST", "_ms": "ms"}
HEAD = """# Metrics

Written by `infra/prometheus/metrics.py` from the code. Each service shows its own on `/metrics`, beside `process_*` of
the Prometheus client; a key server shows its own on a port apart. `subject` is a row of the catalogue without the
cluster, `reason` that of an error. What has no labels is there from the start; what has labels has no series before the
first of its kind, but for `daas_published_total`, which begins at zero.

| metric | kind | unit | labels | what it says | in |
|---|---|---|---|---|---|
"""


@dataclass(frozen=True, order=True)
class Metric:
    """One declaration; `name` as it is exposed, without the suffixes of histograms."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    where: str

    @property
    def unit(self) -> str:
        """By the end of the name; what has none is a number of things."""
        base = self.name.removesuffix("_total")
        return next((unit for suffix, unit in UNITS.items() if base.endswith(suffix)), "count")


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _labels(call: ast.Call) -> tuple[str, ...]:
    given = [*call.args[2:3], *(keyword.value for keyword in call.keywords if keyword.arg == "labelnames")]
    if not given or not isinstance(given[0], ast.List | ast.Tuple):
        return ()
    return tuple(str(item.value) for item in given[0].elts if isinstance(item, ast.Constant))


def declared(path: Path) -> Iterator[Metric]:
    """The metrics that a file declares."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = path.relative_to(ROOT).parts[1]
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        kind = KINDS.get(_called(call))
        texts = [arg.value for arg in call.args[:2] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        if kind is None or len(texts) != 2 or not texts[0].startswith(PREFIXES):
            continue
        name = texts[0].removesuffix("_total") + ("_total" if kind == "counter" else "")
        yield Metric(name, kind, _labels(call), texts[1], package)


def metrics() -> list[Metric]:
    """Every metric of every library and service, by name."""
    paths = [*ROOT.glob("libs/*/src/**/*.py"), *ROOT.glob("services/*/src/**/*.py")]
    return sorted({metric for path in paths for metric in declared(path)})


def page() -> str:
    """The page."""
    rows = [
        f"| `{m.name}` | {m.kind} | {m.unit} | {', '.join(m.labels) or '-'} | {m.help.rstrip('.')} | {m.where} |"
        for m in metrics()
    ]
    return HEAD + "\n".join(rows) + "\n"


def main() -> int:
    """Writes or checks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail where the page is stale; write nothing")
    check = parser.parse_args().check
    current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page()
    if not current and not check:
        PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write("all current\n" if current else "stale: docs/metrics.md\n")
    return 1 if check and not current else 0


if __name__ == "__main__":
    sys.exit(main())
