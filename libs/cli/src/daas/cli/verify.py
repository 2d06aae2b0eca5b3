"""`daas verify` and `daas evidence`: what a stranger can check about a pod, a batch or the whole chain.

Exit codes: 0 where every check passed, 1 where one did not, 2 for wrong usage.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from daas.attestation import Measurement
from daas.cli.anchors import LedgerAnchors, NoAnchors
from daas.cli.context import Context, load_context
from daas.cli.report import Format, print_report, print_summary
from daas.cli.stores import etcd_of
from daas.cli.terminal import console, errors
from daas.common.errors import ConfigurationError, DaasError, InvalidInput
from daas.evidence import AnchorSource, Case, EvidenceStore, Keys, Report, decode_file, encode_file
from daas.evidence import verify as verification
from daas.evidence.bundle import MAX_FILE_BYTES
from daas.evidence.checks import PodName
from daas.evidence.recorded import record_of
from daas.evidence.trust import Trust
from daas.evidence.writer import EtcdWriter
from daas.ledger import Ledger
from daas.walrus import WalrusClient

verify_app = typer.Typer(help="Check what the cluster decided, without trusting it.", no_args_is_help=True)
evidence_app = typer.Typer(no_args_is_help=True)


Offline = Annotated[
    bool, typer.Option("--offline", help="don't ask the ledger; its checks are shown as not made, and don't fail")
]
Evidence = Annotated[
    Path | None, typer.Option("--evidence", help="verify this exported file instead of the cluster's store")
]
Output = Annotated[Format, typer.Option("--output", "-o", help="how to print")]
Uid = Annotated[str | None, typer.Option("--uid", help="which life of this name, by the pod's uid")]


def trust_of(context: Context) -> Trust:
    """What the verifier pins, from the context.

    Raises:
        ConfigurationError: a pin is none.
    """
    return Trust(
        cluster=context.cluster,
        chain=bytes.fromhex(context.chain),
        registry=bytes.fromhex(context.registry[2:]),
        attestation_root=bytes.fromhex(context.attestation_root),
        measurements=tuple(Measurement.from_hex(image.pcr0, image.pcr1, image.pcr2) for image in context.images),
        policy=context.policy,
    )


def now_ms() -> int:
    """The verifier's clock."""
    return time.time_ns() // 1_000_000


@contextlib.asynccontextmanager
async def evidence_store(context: Context) -> AsyncIterator[EvidenceStore]:
    """The cluster's evidence in etcd and Walrus."""
    async with contextlib.AsyncExitStack() as stack:
        etcd = await stack.enter_async_context(etcd_of(context))
        walrus = None
        if context.walrus_aggregators:
            walrus = await stack.enter_async_context(WalrusClient([], context.walrus_aggregators))
        yield EvidenceStore(etcd, context.cluster, walrus=walrus)


@contextlib.asynccontextmanager
async def anchor_source(context: Context, *, offline: bool) -> AsyncIterator[AnchorSource | None]:
    """The ledger that the context names; None where there is none or `offline` was asked for.

    A ledger that is named but does not answer is an error of the checks that need it, not a reason to go without.
    """
    if offline or context.ledger_url is None:
        yield None
        return
    try:
        if context.package is None:
            raise ConfigurationError(
                "the context names a ledger, but not the package",
                reason="no-package",
                field="package",
            )
        ledger = await Ledger.connect(context.ledger_url, package=context.package)
    except DaasError as error:
        yield NoAnchors(error)
        return
    async with ledger:
        yield LedgerAnchors(ledger)


async def check_pod(context: Context, pod: PodName, *, offline: bool = False) -> Report:
    """All checks on the newest decision about a pod, from the cluster's store and ledger."""
    async with evidence_store(context) as store, anchor_source(context, offline=offline) as source:
        return await verification.verify_pod(
            store, pod, trust_of(context), source=source, now_ms=now_ms(), offline=offline
        )


async def check_batch(context: Context, sequence: int, *, offline: bool = False) -> Report:
    """All checks on one batch, from the cluster's store and ledger."""
    async with evidence_store(context) as store, anchor_source(context, offline=offline) as source:
        return await verification.verify_batch(
            store, sequence, trust_of(context), source=source, now_ms=now_ms(), offline=offline
        )


async def check_file(
    context: Context, file: Path, *, pod: PodName | None = None, sequence: int | None = None, offline: bool = False
) -> Report:
    """All checks on an exported file, the ledger's included unless `offline`.

    Raises:
        ConfigurationError: `unreadable-file`.
    """
    async with anchor_source(context, offline=offline) as source:
        return await verification.verify_file(
            read_evidence(file),
            trust_of(context),
            source=source,
            now_ms=now_ms(),
            pod=pod,
            sequence=sequence,
            offline=offline,
        )


def read_evidence(file: Path) -> bytes:
    """The bytes of a file, if they can be evidence by their number.

    Raises:
        ConfigurationError: `unreadable-file`.
    """
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{file} can't be read: {error.strerror}", reason="unreadable-file", field="--evidence"
        ) from None


def write_evidence(file: Path, data: bytes) -> None:
    """Writes a file that somebody named on the command line."""
    try:
        file.write_bytes(data)
    except OSError as error:
        raise typer.BadParameter(f"{file} can't be written: {error.strerror}", param_hint="FILE") from None


@verify_app.command("pod")
def verify_pod(
    namespace: Annotated[str, typer.Argument(help="namespace of the pod")],
    name: Annotated[str, typer.Argument(help="name of the pod")],
    *,
    uid: Uid = None,
    evidence: Evidence = None,
    offline: Offline = False,
    output: Output = Format.TEXT,
) -> None:
    """Checks the newest decision about a pod: evidence, signature, attestation, chain, anchor, inclusion, replay."""
    context, pod = command_context(), PodName(namespace, name, uid)
    if evidence is None:
        report = asyncio.run(check_pod(context, pod, offline=offline))
    else:
        report = asyncio.run(check_file(context, _existing(evidence), pod=pod, offline=offline))
    print_report(report, output)
    raise typer.Exit(0 if report.ok else 1)


@verify_app.command("batch")
def verify_batch(
    sequence: Annotated[
        int | None, typer.Argument(min=1, help="number of the batch; may be left out of a file")
    ] = None,
    *,
    evidence: Evidence = None,
    offline: Offline = False,
    output: Output = Format.TEXT,
) -> None:
    """Checks one batch with all its leaves."""
    context = command_context()
    if evidence is not None:
        report = asyncio.run(check_file(context, _existing(evidence), sequence=sequence, offline=offline))
    elif sequence is not None:
        report = asyncio.run(check_batch(context, sequence, offline=offline))
    else:
        raise typer.BadParameter("name a batch, or a file with --evidence", param_hint="SEQUENCE")
    print_report(report, output)
    raise typer.Exit(0 if report.ok else 1)


@verify_app.command("all")
def verify_all(
    first: Annotated[int, typer.Option("--from", min=1, help="number of the first batch")] = 1,
    *,
    offline: Offline = False,
    output: Output = Format.TEXT,
) -> None:
    """Checks every batch from the first to the newest, and replays the whole log once."""
    context = command_context()
    reports = asyncio.run(_all(context, first, offline=offline, output=output))
    print_summary(reports, output)
    raise typer.Exit(0 if reports and all(report.ok for report in reports) else 1)


async def _all(context: Context, first: int, *, offline: bool, output: Format) -> list[Report]:
    reports = []
    async with evidence_store(context) as store, anchor_source(context, offline=offline) as source:
        checking = verification.verify_all(
            store, trust_of(context), source=source, now_ms=now_ms(), offline=offline, first=first
        )
        async for report in checking:
            reports.append(report)
            if output is Format.TEXT and not report.ok:
                print_report(report, output)
    return reports


@evidence_app.callback()
def evidence_commands() -> None:
    """Take evidence away in a file, or bring it back."""


@evidence_app.command("export")
def export(
    what: Annotated[str, typer.Argument(metavar="POD|SEQ", help="NAMESPACE/NAME of a pod, or number of a batch")],
    file: Annotated[Path, typer.Argument(help="file to write")],
) -> None:
    """Writes all evidence of a batch, or of the newest decision about a pod, to a file that verifies anywhere."""
    context = command_context()
    try:
        sequence, data = asyncio.run(collect_evidence(context, what))
    except InvalidInput as error:
        raise typer.BadParameter(error.message, param_hint="POD|SEQ") from None
    write_evidence(file, data)
    console.print(f"evidence of batch {sequence}: {len(data)} bytes in {file}", soft_wrap=True)


@evidence_app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="file that `daas evidence export` wrote")],
    *,
    offline: Offline = False,
    output: Output = Format.TEXT,
) -> None:
    """Puts the batch of an exported file back into the cluster's store, where it is missing, if every check passes."""
    context = command_context()
    report, created = asyncio.run(restore_evidence(context, _existing(file), offline=offline))
    if not report.ok:
        print_report(report, output)
        raise typer.Exit(1)
    word = "stored" if created else "was stored already"
    console.print(f"evidence of batch {report.sequence} {word}", soft_wrap=True)


async def restore_evidence(context: Context, file: Path, *, offline: bool) -> tuple[Report, bool]:
    """The checks on a file and, where all of them pass, whether its batch was written now.

    Raises:
        Refused: `evidence-fork`: another batch is stored under this number; `etcd-not-allowed`.
    """
    report = await check_file(context, file, offline=offline)
    if not report.ok:
        return report, False
    bundle = decode_file(read_evidence(file)).case.bundle
    async with etcd_of(context) as etcd:
        try:
            stored = await EtcdWriter(etcd, Keys(context.cluster)).evidence(bundle, bundle.decision())
        except ExceptionGroup as several:  # the writer puts parts side by side; the first refusal says it all
            raise next((error for error in several.exceptions if isinstance(error, DaasError)), several) from None
    return report, stored.created


async def collect_evidence(context: Context, what: str) -> tuple[int, bytes]:
    """The number of a batch, and the file with all its evidence.

    Args:
        context: the cluster.
        what: `NAMESPACE/NAME` of a pod, for the newest decision about it, or a batch's number.

    Raises:
        InvalidInput: `what` is neither.
        NotFound: there is no such evidence.
    """
    async with evidence_store(context) as store:
        if what.isdecimal():
            sequence = int(what)
        else:
            namespace, slash, name = what.partition("/")
            if not (slash and namespace and name) or "/" in name:
                raise InvalidInput(f"{what!r} is neither NAMESPACE/NAME nor a number", reason="usage", field="what")
            sequence = (await store.newest_decision(namespace, name)).sequence
        case = await store.case(sequence)
    return sequence, encode_file(await with_record(context, case))


async def with_record(context: Context, case: Case) -> Case:
    """The case with what the ledger says about it, where a ledger answers."""
    async with anchor_source(context, offline=False) as source:
        if source is None:
            return case
        try:
            return msgspec.structs.replace(case, record=await record_of(case, source, context.policy))
        except DaasError as error:
            errors.print(f"the file has no record of the ledger: {error.message}", highlight=False)
            return case


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise typer.BadParameter(f"there is no file {file}", param_hint="--evidence")
    return file


def command_context() -> Context:
    """The context; without a usable one the command can't be what was meant."""
    try:
        return load_context()
    except DaasError as error:
        raise typer.BadParameter(error.message, param_hint=error.field) from None
