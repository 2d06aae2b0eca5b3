"""Packs the scheduler-enclave's part of the image as an initramfs archive whose bytes depend on its inputs alone.

Inputs: our packages and the wheels that infra/docker/requirements/enclave.txt names, which is the container's list too
(each taken only if its SHA-256 stands there), boot.py and forward.py, the CA of NATS. Nothing of the machine it runs on
goes in: owners are 0, times are 0, modes are 0644, 0755 or 0555 by rule, names are sorted, numbers of inodes are
counted, there is no bytecode and no compression (zlib's output differs between versions). Format: "newc" of cpio,
Documentation/driver-api/early-userspace/buffer-format.rst of Linux.
"""

import argparse
import hashlib
import io
import re
import sys
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "infra/docker/requirements/enclave.txt"
#: Where `python3 -I` of the base image looks: python:3.11-slim-bookworm has its own build under /usr/local.
SITE = PurePosixPath("usr/local/lib/python3.11/site-packages")
APP = PurePosixPath("opt/daas")
#: In a wheel, but of no use to a program that runs: installers' records, bytecode, tests, headers.
_LEFT_OUT = re.compile(
    r"(^|/)(__pycache__|tests?|testing/tests)/|\.pyc$|\.dist-info/(RECORD|INSTALLER|REQUESTED)$|\.data/"
)
_FILE, _EXECUTABLE, _DIRECTORY = 0o100644, 0o100555, 0o040755
_TRAILER = "TRAILER!!!"


class RootfsError(Exception):
    """An input is missing, or is not the one that is pinned."""


def pinned(requirements: str) -> set[str]:
    """The SHA-256 of every file that the lock allows."""
    return set(re.findall(r"--hash=sha256:([0-9a-f]{64})", requirements))


def required(requirements: str) -> set[str]:
    """Names (PEP 503) of the distributions that the image needs on CPython 3.11."""
    lines = re.findall(r"^([a-z0-9][a-z0-9._-]*)==\S+", requirements, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name) for name in lines}


def wheel_files(archive: Path) -> dict[str, bytes]:
    """What a wheel installs."""
    with zipfile.ZipFile(archive) as wheel:
        return {
            _safe(info.filename): wheel.read(info)
            for info in wheel.infolist()
            if not info.is_dir() and not _LEFT_OUT.search(info.filename)
        }


def _safe(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise RootfsError(f"{name!r} leads out of its archive")
    return str(path)


def collect(wheels: Path, nats_ca: bytes, requirements: str) -> dict[str, tuple[int, bytes]]:
    """Path to mode and contents of every file.

    Raises:
        RootfsError: a wheel is not pinned, a required one is missing, two inputs claim one path.
    """
    tree: dict[str, tuple[int, bytes]] = {}

    def add(path: PurePosixPath, content: bytes, mode: int = _FILE) -> None:
        if tree.setdefault(str(path), (mode, content)) != (mode, content):
            raise RootfsError(f"two inputs claim {path}")

    allowed, missing = pinned(requirements), required(requirements)
    for archive in sorted(wheels.iterdir()):
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest not in allowed:
            raise RootfsError(f"{archive.name} has SHA-256 {digest}, which is not pinned in {REQUIREMENTS.name}")
        missing.discard(re.sub(r"[-_.]+", "-", archive.name.split("-")[0]).lower())
        for name, content in wheel_files(archive).items():
            add(SITE / name, content)
    if missing:
        raise RootfsError(f"no file for {', '.join(sorted(missing))}")
    for folder in requirements.splitlines()[0].removeprefix("# ours: ").split():
        source = ROOT / folder / "src"
        for path in sorted(source.rglob("*")):
            if path.is_file() and not _LEFT_OUT.search(path.as_posix()):
                add(SITE / path.relative_to(source).as_posix(), path.read_bytes())
    for script in ("boot.py", "forward.py"):
        add(APP / script, (Path(__file__).resolve().parent / script).read_bytes(), _EXECUTABLE)
    add(APP / "nats-ca.pem", nats_ca)
    return tree


def archive(tree: dict[str, tuple[int, bytes]]) -> bytes:
    """The cpio archive: every folder before what it holds, in the order of their names."""
    folders = {str(parent) for path in tree for parent in PurePosixPath(path).parents if str(parent) != "."}
    entries = {**dict.fromkeys(folders, (_DIRECTORY, b"")), **tree}
    out = io.BytesIO()
    for inode, path in enumerate(sorted(entries), start=1):
        mode, content = entries[path]
        _entry(out, path, content, mode=mode, inode=inode)
    _entry(out, _TRAILER, b"", mode=0, inode=0)
    out.write(bytes(-out.tell() % 512))
    return out.getvalue()


def _entry(out: io.BytesIO, name: str, content: bytes, *, mode: int, inode: int) -> None:
    encoded = name.encode() + b"\0"
    links = 2 if mode == _DIRECTORY else 1
    numbers = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    out.write(b"070701" + b"".join(b"%08X" % number for number in numbers) + encoded)
    out.write(bytes(-out.tell() % 4))
    out.write(content)
    out.write(bytes(-out.tell() % 4))


def main() -> int:
    """Writes the archive and a list of its contents; prints the archive's SHA-256."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--wheels", type=Path, required=True, help="folder with the downloaded files, nothing else")
    parser.add_argument("--nats-ca", type=Path, required=True, help="CA (PEM) that NATS must chain to")
    parser.add_argument("--out", type=Path, required=True, help="archive to write; its list gets .txt appended")
    options = parser.parse_args()
    try:
        tree = collect(options.wheels, options.nats_ca.read_bytes(), REQUIREMENTS.read_text(encoding="utf-8"))
    except (OSError, RootfsError) as error:
        sys.stderr.write(f"rootfs: {error}\n")
        return 1
    packed = archive(tree)
    options.out.write_bytes(packed)
    lines = [
        f"{hashlib.sha256(content).hexdigest()} {mode:06o} {path}" for path, (mode, content) in sorted(tree.items())
    ]
    options.out.with_name(options.out.name + ".txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.stdout.write(f"{hashlib.sha256(packed).hexdigest()}  {options.out.name}  {len(packed)} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
