"""The processes that the demo starts: the example CRM and a real ``serve``. Whatever happens, they end with it.

Both are our own programs, run by this Python. They are in process groups of their own, so that Ctrl-C reaches the demo
alone, which then ends them in order. Should the demo be killed, the CRM sees its end of the pipe close, and ``serve``
stops by itself after ``ORPHAN_IDLE`` without work.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from consumers.demo.crm_server import TOKEN

START_S: Final = 60.0  #: so long a process may take until it can be used
STOP_S: Final = 15.0  #: so long it may take to end when asked to
ORPHAN_IDLE: Final = "1m"
SAID_LINES_MAX: Final = 20  #: the last lines on stderr, for the case that it fails


class ChildError(Exception):
    """A process that did not start, or ended before its time. ``str()`` says what it said."""


class Child:
    """A process of ours, and the last that it said on stderr."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process
        self._said: deque[str] = deque(maxlen=SAID_LINES_MAX)
        self._lines = asyncio.create_task(self._listen())
        self._ready = asyncio.Event()
        self._reread = asyncio.Event()

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            text = line.decode(errors="replace").rstrip()
            self._said.append(text)
            if text == "ready":
                self._ready.set()
            elif " vip-router: the policy " in text:
                self._reread.set()

    async def until_ready(self) -> None:
        """Wait until it says so; ``ChildError`` if it ends before or takes too long."""
        await self._until(self._ready)

    async def reread_policy(self) -> None:
        """Tell ``serve`` to read its policy again, and wait until it has; ``ChildError`` if it refuses it."""
        self._reread.clear()
        self._process.send_signal(signal.SIGHUP)
        await self._until(self._reread)
        if any("refused" in line for line in self._said):
            raise self.error()

    async def _until(self, said: asyncio.Event) -> None:
        waiting = asyncio.create_task(said.wait())
        try:
            await asyncio.wait({waiting, self._lines}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
            if not said.is_set():
                raise self.error()
        finally:
            waiting.cancel()

    async def first_line(self) -> str | None:
        """The first line on stdout; None if it ends without one. ``ChildError`` if it takes too long."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_S):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise self.error() from None
        return line.decode().strip() or None

    def error(self) -> ChildError:
        """What there is to say of its failure."""
        said = "; ".join(self._said) or "it said nothing"
        return ChildError(f"{self.name} does not run: {said}")

    async def ended(self) -> None:
        """Wait until it has ended by itself."""
        await self._process.wait()
        await self._lines

    async def stop(self) -> int:
        """Ask it to end, see to it that it does; returns its exit code. Doing it twice is once."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
        code = await self._process.wait()
        await self._lines
        return code


@asynccontextmanager
async def crm(data: Path, *, port: int) -> AsyncIterator[str]:
    """The example CRM; gives its URL. Takes another port if ``port`` is taken."""
    for number in dict.fromkeys((port, 0)):
        child = await _start("the example CRM", "consumers.demo.crm_server", "--data", str(data), "--port", str(number))
        try:
            url = await child.first_line()
            if url is not None:
                yield url
                return
        finally:
            await child.stop()
    raise child.error()


@asynccontextmanager
async def serving(log_url: str, policy: Path) -> AsyncIterator[Child]:
    """A ``serve`` with all roles that is ready."""
    options = ("--log", log_url, "--policy", str(policy), "--until-idle", ORPHAN_IDLE)
    child = await _start("serve", "consumers.cli", "serve", *options)
    try:
        await child.until_ready()
        yield child
    finally:
        await child.stop()


async def _start(name: str, module: str, *arguments: str) -> Child:
    # -P: a folder named "events" where the user stands must not be taken for ours.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", module, *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(),
        process_group=0,
    )  # fmt: skip
    return Child(name, process)


def _environment() -> dict[str, str]:
    """Ours without what would set options of ``serve``, and with the example CRM's token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VIP_ROUTER_")}
    return {**kept, "CRM_TOKEN": TOKEN}


def command(arguments: Sequence[str]) -> str:
    """A ``vip-router`` command that works when it is copied, called as this process was."""
    import shlex  # noqa: PLC0415  # only at the end
    import shutil  # noqa: PLC0415  # only at the end

    program = sys.argv[0]
    if Path(program).name == "__main__.py":
        words = [_short(sys.executable), "-m", "consumers.cli"]
    else:
        found = shutil.which("vip-router")
        same = found is not None and Path(program).exists() and Path(found).samefile(program)
        words = ["vip-router" if same else _short(program)]
    return shlex.join([*words, *arguments])


def _short(program: str) -> str:
    """Relative to where the user stands if it lies below, else as it is."""
    path = Path(os.path.abspath(program))  # noqa: PTH100  # a virtual environment's python is a link: not to be resolved
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
