"""`daas attest`: reads and verifies Nitro attestation documents from files."""

import base64
import binascii
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from daas.attestation import (
    AWS_ROOT_SHA256,
    UNCHECKED,
    AttestationDocument,
    AttestationPolicy,
    Measurement,
    TimeMode,
    parse_document,
    verify,
)
from daas.cli.terminal import console, simulated_mark
from daas.common.errors import InvalidInput

attest_app = typer.Typer(help="Nitro attestation documents.", no_args_is_help=True)

#: A genuine document has about 5 kB; base64 or hex of the largest allowed one stays below this.
MAX_FILE_BYTES = 256 * 1024

File = Annotated[Path, typer.Argument(help="the document: raw, base64 or hexadecimal", exists=True, dir_okay=False)]
Output = Annotated[str, typer.Option("--output", "-o", help="table or json")]


def read_document(path: Path) -> bytes:
    """The document's bytes, whichever of the three forms the file has.

    Raises:
        InvalidInput: `document-size`.
    """
    data = path.read_bytes()
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInput(f"{path}: {len(data)} bytes are no attestation document", reason="document-size")
    text = b"".join(data.split())
    for decode in (binascii.unhexlify, lambda value: base64.b64decode(value, validate=True)):
        try:
            return decode(text)
        except (binascii.Error, ValueError):
            continue
    return data


@attest_app.command("show")
def show(file: File, output: Output = "table") -> None:
    """Shows what a document says. Nothing is verified."""
    document = parse_document(read_document(file))
    fields = _fields(document)
    if output == "json":
        console.print_json(msgspec.json.encode({"verified": False, **fields}).decode())
        return
    table = Table("field", "value", title=f"{file.name} — not verified", box=None)
    for name, value in fields.items():
        table.add_row(name, str(value))
    console.print(table)


def _fields(document: AttestationDocument) -> dict[str, object]:
    def text(value: bytes | None) -> str | None:
        return None if value is None else value.hex()

    return {
        "module_id": document.module_id,
        "timestamp_ms": document.timestamp_ms,
        **{f"pcr{index}": value.hex() for index, value in sorted(document.pcrs.items()) if any(value)},
        "public_key": text(document.public_key),
        "user_data": text(document.user_data),
        "nonce": text(document.nonce),
    }


@attest_app.command("verify")
def verify_document(  # noqa: PLR0917 - options of a command, each by name
    file: File,
    pcr0: Annotated[str, typer.Option(help="PCR0 that is allowed, 96 hex digits")],
    pcr1: Annotated[str, typer.Option(help="PCR1 that is allowed")],
    pcr2: Annotated[str, typer.Option(help="PCR2 that is allowed")],
    nonce: Annotated[str | None, typer.Option(help="nonce that must be inside, hex; not compared if not given")] = None,
    user_data: Annotated[str | None, typer.Option(help="user data that must be inside, hex")] = None,
    development_root: Annotated[
        str | None, typer.Option(help="SHA-256 of a development root; the result is marked simulated")
    ] = None,
    output: Output = "table",
    *,
    historical: Annotated[bool, typer.Option("--historical", help="judge at the document's own time")] = False,
) -> None:
    """Verifies a document up to the AWS root (or a named development root) and against the given PCRs.

    Exit code 1 with the reason where it is refused.
    """
    attestation = verify(
        read_document(file),
        AttestationPolicy(
            measurements=[Measurement.from_hex(pcr0, pcr1, pcr2)],
            nonce=_hex(nonce, "nonce") if nonce is not None else UNCHECKED,
            user_data=_hex(user_data, "user-data") if user_data is not None else UNCHECKED,
            public_key_length_bytes=UNCHECKED,
            development_root_sha256=_hex(development_root, "development-root") if development_root else None,
            time_mode=TimeMode.HISTORICAL if historical else TimeMode.PRESENT,
        ),
        time.time_ns() // 1_000_000,
    )
    if output == "json":
        console.print_json(msgspec.json.encode({"verified": True, **attestation.to_builtins()}).decode())
        return
    root = "the AWS root" if attestation.root_fingerprint == AWS_ROOT_SHA256.hex() else "a development root"
    console.print(f"[green]✓[/] chains to {root} {attestation.root_fingerprint}")
    console.print(f"[green]✓[/] PCR0, 1 and 2 are the ones allowed; module {attestation.module_id}")
    console.print("  ", simulated_mark(simulated=attestation.simulated))
    if nonce is None or user_data is None:
        skipped = [name for name, value in (("nonce", nonce), ("user data", user_data)) if value is None]
        console.print(f"[yellow]![/] not compared: {', '.join(skipped)}")


def _hex(value: str, name: str) -> bytes:
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise InvalidInput(f"--{name} is not hexadecimal", reason="not-hex", field=name) from None
