"""Child processes of a development stack: started, awaited until ready, logged, killed, and never left behind.

A child announces readiness by one JSON line on stdout, `{"ready": true, ...}`; everything else it writes goes to its
log file. It dies with the thread that started it (PR_SET_PDEATHSIG), so start children from the thread that runs the
event loop for the life of the stack. It gets a session of its own, so that Ctrl-C reaches only the parent, which then
stops its children in order.
"""

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from daas.common.errors import Unavailable

_PR_SET_PDEATHSIG: Final = 1
#: A line that announces readiness is short; the limit bounds what a chatty child makes us hold.
_MAX_LINE_BYTES: Final = 1024 * 1024
_LOG_TAIL_BYTES: Final = 4096
_libc = ctypes.CDLL(None, use_errno=True)
# gRPC's handlers of a fork run in the child before our exec: of 150 children of a busy client 8 died of them. It looks
# at this when it is imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")


def _die_with(parent_pid: int) -> Callable[[], None]:
    """What the child runs between fork and exec: ask the kernel for SIGKILL when the parent's thread is gone."""

    def ask() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # the parent died before the request was in place
            os._exit(1)

    return ask


class Process:
    """One child process.

    Args:
        name: what it is called in errors and, by default, in the log file's name.
        argv: the command; `python` in front stands for this interpreter.
        log_path: where its stderr and the rest of its stdout go (appended to, so that restarts share a log).
        env: variables on top of this process's own environment; a None removes one.
        announces: whether it prints a ready line; if not, `start` returns at once with an empty dict.
        ready_timeout_s: how long `start` waits for the line.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log_path: Path,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        announces: bool = True,
        ready_timeout_s: float = 60.0,
    ) -> None:
        self.name = name
        self.argv = [sys.executable if part == "python" else str(part) for part in argv]
        self.log_path = log_path
        self.ready: dict[str, Any] = {}
        self._env = dict(env or {})
        self._cwd = cwd
        self._announces = announces
        self._ready_timeout_s = ready_timeout_s
        self._child: asyncio.subprocess.Process | None = None
        self._drain: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.terminate()

    async def start(self) -> dict[str, Any]:
        """Starts the child and waits for its ready line.

        Returns:
            What the line said; kept in `ready` too.

        Raises:
            Unavailable: `process-failed` when it ends first, `process-not-ready` when the time is over; both quote
                the end of the log.
        """
        if self.running:
            raise Unavailable(f"{self.name} runs already as process {self.pid}", reason="process-running")
        environment = {**os.environ, **self._env}
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                *self.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={key: value for key, value in environment.items() if value is not None},
                cwd=self._cwd,
                limit=_MAX_LINE_BYTES,
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),
            )
        announced: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._drain = asyncio.create_task(self._read_stdout(self._child, announced))
        self.ready = {}
        if not self._announces:
            return self.ready
        try:
            async with asyncio.timeout(self._ready_timeout_s):
                self.ready = await announced
        except TimeoutError:
            await self.kill()
            raise Unavailable(
                f"{self.name} was not ready after {self._ready_timeout_s} s; its log ends:\n{self.log_tail()}",
                reason="process-not-ready",
            ) from None
        except BaseException:
            await self.kill()
            raise
        return self.ready

    async def _read_stdout(self, child: asyncio.subprocess.Process, announced: asyncio.Future[dict[str, Any]]) -> None:
        assert child.stdout is not None
        with self.log_path.open("ab") as log:
            while line := await self._line(child.stdout, log):
                if not announced.done() and (said := _ready_line(line)) is not None:
                    announced.set_result(said)
        code = await child.wait()
        if self._announces and not announced.done():
            announced.set_exception(
                Unavailable(
                    f"{self.name} ended with code {code} before it was ready; its log ends:\n{self.log_tail()}",
                    reason="process-failed",
                )
            )

    @staticmethod
    async def _line(stream: asyncio.StreamReader, log: BinaryIO) -> bytes:
        try:
            line = await stream.readline()
        except ValueError:  # a line above the limit; the reader has dropped it
            line = b"(a line too long to keep)\n"
        if line:
            log.write(line)
            log.flush()
        return line

    @property
    def pid(self) -> int:
        """The process id.

        Raises:
            Unavailable: `process-not-started`.
        """
        if self._child is None:
            raise Unavailable(f"{self.name} has not been started", reason="process-not-started")
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._child is not None and self._child.returncode is None

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs or before it was started."""
        return self._child.returncode if self._child is not None else None

    async def wait(self) -> int:
        """Waits for the end, and until what it wrote is in the log. Returns the exit code."""
        child, drain = self._child, self._drain
        if child is None or drain is None:
            raise Unavailable(f"{self.name} has not been started", reason="process-not-started")
        code = await child.wait()
        await asyncio.wait([drain])
        return code

    async def kill(self) -> None:
        """SIGKILL, and waits for the end. Nothing happens to a process that has ended."""
        await self._signal(signal.SIGKILL)
        if self._child is not None:
            await self.wait()

    async def terminate(self, timeout_s: float = 20.0) -> int | None:
        """SIGTERM, then SIGKILL after `timeout_s`. Returns the exit code; None if it was never started."""
        if self._child is None:
            return None
        await self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                return await self.wait()
        except TimeoutError:
            await self.kill()
            return self.returncode

    async def _signal(self, number: signal.Signals) -> None:
        if self._child is not None and self._child.returncode is None:
            try:
                self._child.send_signal(number)
            except ProcessLookupError:  # it ended in this very moment
                return

    def rss_bytes(self) -> int:
        """Resident memory in bytes; 0 once it has ended."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        except (FileNotFoundError, ProcessLookupError, IndexError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def log_tail(self, size_bytes: int = _LOG_TAIL_BYTES) -> str:
        """The end of the log, for error messages."""
        try:
            return self.log_path.read_bytes()[-size_bytes:].decode(errors="replace")
        except FileNotFoundError:
            return ""


def _ready_line(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"{"):
        return None
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) and said.get("ready") is True else None
