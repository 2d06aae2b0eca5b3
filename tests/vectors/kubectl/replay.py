"""Replay recorded kubectl commands against a server: what a real kube-apiserver answered must come back.

`python replay.py KUBECONFIG`, on a server without nodes and namespaces of its own; exit status 1 on any difference.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TRANSCRIPT = Path(__file__).with_name("transcript.json")

# What differs from run to run: ages, generated suffixes, uids, versions, times, the padding of columns.
_NORMAL = [
    (re.compile(r"\b\d+(s|m|h|d)\b"), "AGE"),
    (re.compile(r"job-[a-z0-9]{5}"), "job-SUFFIX"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UID"),
    (re.compile(r'"resourceVersion":"\d+"'), '"resourceVersion":"VERSION"'),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"[ \t]+"), " "),
]


def normal(text: str) -> str:
    """Text without what differs from run to run."""
    for pattern, replacement in _NORMAL:
        text = pattern.sub(replacement, text)
    return text.strip()


def replay(kubeconfig: Path, home: Path) -> list[str]:
    """Run every entry in order; a line per difference in exit status, output or errors."""
    differences: list[str] = []
    environment = os.environ | {"KUBECONFIG": str(kubeconfig), "HOME": str(home)}
    for entry in json.loads(TRANSCRIPT.read_text()):
        done = subprocess.run(
            ["timeout", "20", "bash", "-c", entry["run"]],
            input=entry.get("stdin", ""),
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        for name, ours in (("rc", str(done.returncode)), ("stdout", done.stdout), ("stderr", done.stderr)):
            real = str(entry[name])
            if normal(real) != normal(ours):
                differences.append(f"{entry['run']}: {name}: real {normal(real)!r}, ours {normal(ours)!r}")
    return differences


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        found = replay(Path(sys.argv[1]), Path(directory))
    print("\n".join([*found, f"{len(found)} differences"]))
    sys.exit(bool(found))
