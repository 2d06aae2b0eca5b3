"""The stand-in's quilts: files in one blob, in columns like Walrus's, with patch ids of the same form.

A patch id is the quilt's blob id, a version byte, and the first column and the one behind the last as u16, little
endian. Equal files give an equal blob: they stand in it in the order of their identifiers.
"""

import base64
import json
import struct
from typing import Any, Final

VERSION: Final = 1
MAX_PATCHES: Final = 666
#: Bytes of a column; Walrus derives it from the sizes so that everything fits into its columns, and so do we.
_COLUMNS: Final = 667
_MAGIC: Final = b"daas-simulated-quilt-1\n"
_PATCH: Final = struct.Struct("<BHH")


def encode(files: dict[str, tuple[bytes, dict[str, str]]]) -> tuple[bytes, list[dict[str, Any]]]:
    """The blob and its index: identifier, tags, columns and length of each file.

    Raises:
        ValueError: no files, too many, or an identifier that is none.
    """
    if not 1 <= len(files) <= MAX_PATCHES:
        raise ValueError(f"{len(files)} files; expected 1 to {MAX_PATCHES}")
    column = 1
    while sum(-(-max(1, len(data)) // column) for data, _ in files.values()) > _COLUMNS - 1:
        column *= 2
    index, body, start = [], bytearray(), 1
    for identifier in sorted(files):
        data, tags = files[identifier]
        if not identifier or identifier.startswith("_") or not identifier[0].isalnum():
            raise ValueError(f"identifier {identifier!r}")
        width = -(-max(1, len(data)) // column)
        index.append({"identifier": identifier, "tags": tags, "start": start, "end": start + width, "size": len(data)})
        body += data.ljust(width * column, b"\0")
        start += width
    head = json.dumps({"column": column, "patches": index}, sort_keys=True).encode()
    return _MAGIC + len(head).to_bytes(4, "big") + head + bytes(body), index


def index_of(blob: bytes) -> tuple[dict[str, Any], int] | None:
    """The table of contents of a quilt, and where its columns begin; None where the blob is no quilt."""
    if not blob.startswith(_MAGIC):
        return None
    at = len(_MAGIC) + 4
    length = int.from_bytes(blob[at - 4 : at], "big")
    head: dict[str, Any] = json.loads(blob[at : at + length])
    return head, at + length


def data_of(blob: bytes, patch: dict[str, Any], head: dict[str, Any], begin: int) -> bytes:
    """The bytes of a file."""
    start = begin + (int(patch["start"]) - 1) * int(head["column"])
    return blob[start : start + int(patch["size"])]


def patch_id(quilt: bytes, patch: dict[str, Any]) -> str:
    """The id of a file in a quilt."""
    return _text(quilt + _PATCH.pack(VERSION, patch["start"], patch["end"]))


def parse_patch_id(text: str) -> tuple[bytes, int, int]:
    """Quilt id, first column, and the column behind the last.

    Raises:
        ValueError: it is none.
    """
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if len(data) != 32 + _PATCH.size or data[32] != VERSION:
        raise ValueError(f"{len(data)} bytes")
    _, start, end = _PATCH.unpack(data[32:])
    return data[:32], start, end


def parse_blob_id(text: str) -> bytes:
    """The 32 bytes of a blob id.

    Raises:
        ValueError: it is none.
    """
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if len(data) != 32:
        raise ValueError(f"{len(data)} bytes; expected 32")
    return data


def blob_id_text(blob_id: bytes) -> str:
    """A blob id as it is written."""
    return _text(blob_id)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
