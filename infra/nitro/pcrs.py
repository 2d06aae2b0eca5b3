"""Measures an enclave image as Nitro does: PCR0, PCR1 and PCR2 of an EIF or of its parts.

    python3 infra/nitro/pcrs.py image.eif
    python3 infra/nitro/pcrs.py --kernel bzImage --cmdline "..." --ramdisk init.cpio --ramdisk rootfs.cpio

PCR0 covers kernel, command line and every ramdisk, PCR1 kernel, command line and the first ramdisk, PCR2 the others:
each is SHA-384(48 zero bytes || SHA-384(their bytes, one after the other)). The format and the division: the crate
aws-nitro-enclaves-image-format, src/defs/mod.rs and src/utils/eif_reader.rs. Metadata and signature are in no PCR of
these three; PCR8, the signing certificate's, is not computed here.
"""

import argparse
import hashlib
import json
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO

MAGIC = b".eif"
SECTIONS_MAX = 32
#: Versions before 2 have no checksum; 4 is the newest.
VERSIONS = range(2, 5)
_HEADER = struct.Struct(f">4sHHQQHH{SECTIONS_MAX}Q{SECTIONS_MAX}QII")
_SECTION = struct.Struct(">HHQ")
_CHUNK_BYTES = 1 << 20


class EifError(Exception):
    """A file that is no EIF, or one that contradicts itself."""


class Section(IntEnum):
    """What a section holds."""

    KERNEL = 1
    CMDLINE = 2
    RAMDISK = 3
    SIGNATURE = 4
    METADATA = 5


@dataclass(frozen=True)
class Measurements:
    """Three registers, 48 bytes each."""

    pcr0: bytes
    pcr1: bytes
    pcr2: bytes

    def json(self) -> str:
        """As `daas` contexts name them: register number to hex."""
        return json.dumps({"0": self.pcr0.hex(), "1": self.pcr1.hex(), "2": self.pcr2.hex()})


class Meter:
    """Takes the parts of an image in their order."""

    def __init__(self) -> None:
        self._image, self._bootstrap, self._application = hashlib.sha384(), hashlib.sha384(), hashlib.sha384()

    def add(self, chunks: Iterable[bytes], *, bootstrap: bool) -> None:
        """One part: of the bootstrap (kernel, command line, first ramdisk) or of the application (other ramdisks)."""
        second = self._bootstrap if bootstrap else self._application
        for chunk in chunks:
            self._image.update(chunk)
            second.update(chunk)

    def measurements(self) -> Measurements:
        """What the registers hold after boot: each extended once from zero."""
        hashes = (self._image, self._bootstrap, self._application)
        pcrs = [hashlib.sha384(bytes(48) + one.digest()).digest() for one in hashes]
        return Measurements(*pcrs)


def measure_parts(kernel: bytes, cmdline: bytes, ramdisks: Iterable[bytes]) -> Measurements:
    """The registers of an image made of these parts."""
    meter = Meter()
    meter.add([kernel, cmdline], bootstrap=True)
    for index, ramdisk in enumerate(ramdisks):
        meter.add([ramdisk], bootstrap=index == 0)
    return meter.measurements()


def measure_eif(file: BinaryIO) -> Measurements:
    """The registers of an image file; its checksum and its table of sections are checked on the way.

    Raises:
        EifError: it is no EIF of a known version, or the table, a size or the checksum is wrong.
    """
    head = file.read(_HEADER.size)
    if len(head) != _HEADER.size or not head.startswith(MAGIC):
        raise EifError("no EIF: the file does not begin with its header")
    _, version, _, _, _, _, count, *rest = _HEADER.unpack(head)
    offsets, sizes, crc_expected = rest[:SECTIONS_MAX], rest[SECTIONS_MAX : 2 * SECTIONS_MAX], rest[-1]
    if version not in VERSIONS:
        raise EifError(f"EIF version {version}; known are {VERSIONS.start} to {VERSIONS.stop - 1}")
    if not 0 < count <= SECTIONS_MAX:
        raise EifError(f"{count} sections; an EIF has 1 to {SECTIONS_MAX}")
    crc = zlib.crc32(head[:-4])
    meter, ramdisks = Meter(), 0
    for index in range(count):
        if file.tell() != offsets[index]:
            raise EifError(f"section {index} is at {file.tell()}, the header says {offsets[index]}")
        raw = file.read(_SECTION.size)
        if len(raw) != _SECTION.size:
            raise EifError(f"the file ends before section {index}")
        kind, _, size = _SECTION.unpack(raw)
        if kind not in set(Section) or size != sizes[index]:
            raise EifError(f"section {index} has kind {kind} and {size} bytes, the header says {sizes[index]}")
        crc = zlib.crc32(raw, crc)
        chunks = _chunks(file, size)
        if kind in {Section.SIGNATURE, Section.METADATA}:
            for chunk in chunks:
                crc = zlib.crc32(chunk, crc)
            continue
        for chunk in chunks:
            crc = zlib.crc32(chunk, crc)
            meter.add([chunk], bootstrap=kind != Section.RAMDISK or ramdisks == 0)
        ramdisks += kind == Section.RAMDISK
    if file.read(1):
        raise EifError("bytes after the last section")
    if crc != crc_expected:
        raise EifError(f"checksum {crc:08x}, the header says {crc_expected:08x}")
    return meter.measurements()


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        chunk = file.read(min(size, _CHUNK_BYTES))
        if not chunk:
            raise EifError(f"the file ends {size} bytes before its section does")
        size -= len(chunk)
        yield chunk


def main() -> int:
    """Prints the three registers as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("eif", nargs="?", type=Path, help="an enclave image file")
    parser.add_argument("--kernel", type=Path)
    parser.add_argument("--cmdline", default="")
    parser.add_argument("--ramdisk", type=Path, action="append", default=[])
    options = parser.parse_args()
    if (options.eif is None) == (options.kernel is None):
        parser.error("either an EIF, or --kernel with --cmdline and --ramdisk")
    try:
        if options.eif is not None:
            with options.eif.open("rb") as file:
                found = measure_eif(file)
        else:
            ramdisks = [path.read_bytes() for path in options.ramdisk]
            found = measure_parts(options.kernel.read_bytes(), options.cmdline.encode(), ramdisks)
    except (OSError, EifError) as error:
        sys.stderr.write(f"pcrs: {error}\n")
        return 1
    sys.stdout.write(found.json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
