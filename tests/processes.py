"""Runs the command as processes: on real files, with signals, with limits. Nothing in here waits for a fixed time."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

ROOT = Path(__file__).parent.parent
DEADLINE_S = 60.0
TOKEN = "demo-token"
POLL_S = 0.02


class Ended(NamedTuple):
    """A command that ran to its end."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it printed, one JSON value a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def wait_until(holds: Callable[[], bool], what: str, *, deadline_s: float = DEADLINE_S) -> None:
    """Wait until something holds; fails with ``what`` after the deadline."""
    give_up_s = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < give_up_s, f"{what}: not within {deadline_s} s"
        time.sleep(POLL_S)


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a command: nothing of ours but what is said here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VIP_ROUTER_")}
    return {**kept, "PYTHONPATH": str(ROOT), "CRM_TOKEN": TOKEN, "COLUMNS": "200", **(changes or {})}


def run(
    *arguments: str,
    cwd: Path,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    before: str | None = None,
) -> Ended:
    """Run ``vip-router`` with these arguments to its end."""
    done = subprocess.run(
        _command("consumers.cli", arguments, before),
        cwd=cwd,
        input=stdin,
        capture_output=True,
        env=environment(env),
        timeout=DEADLINE_S,
        check=False,
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


class Running:
    """A command that runs; what it writes is read as it comes."""

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        before: str | None = None,
        module: str = "consumers.cli",
    ) -> None:
        self.process = subprocess.Popen(
            _command(module, arguments, before),
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(env),
        )
        self.lines: dict[str, list[str]] = {"out": [], "err": []}
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream), daemon=True)
            for name, stream in (("out", self.process.stdout), ("err", self.process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, stream: Any) -> None:
        for line in stream:
            self.lines[name].append(line.decode().rstrip("\n"))

    def says(self, text: str, *, on: str = "err") -> bool:
        """Whether a line with this text was written."""
        return any(text in line for line in list(self.lines[on]))

    def wait_for(self, text: str, *, on: str = "err") -> None:
        """Wait for a line with this text; fails if the process ends without it."""
        wait_until(lambda: self.says(text, on=on) or self.process.poll() is not None, f"{text!r} on std{on}")
        self._join_if_ended()
        assert self.says(text, on=on), f"ended with {self.process.returncode}: {self.lines}"

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self, number: signal.Signals | None = None) -> Ended:
        """Send a signal, if one is given, and wait for the end."""
        if number is not None:
            self.send(number)
        code = self.process.wait(timeout=DEADLINE_S)
        self._join_if_ended()
        return Ended(code, "\n".join(self.lines["out"]), "\n".join(self.lines["err"]))

    def _join_if_ended(self) -> None:
        if self.process.poll() is not None:
            for reader in self._readers:
                reader.join(timeout=DEADLINE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=DEADLINE_S)
        self._join_if_ended()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def stored(folder: Path, topic: str) -> list[dict[str, Any]]:
    """The events of a topic as they stand in the log's file, by time: quicker to ask for than ``tail``."""
    path = folder / "vip-router.db"
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
        query = 'SELECT value FROM records WHERE topic = ? ORDER BY time, partition, "offset"'
        return [json.loads(value) for (value,) in connection.execute(query, (topic,))]


@contextmanager
def crm(folder: Path, contacts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The demo's CRM as a process; gives its URL."""
    data = folder / "crm.json"
    data.write_text(json.dumps(contacts), encoding="utf-8")
    with Running("--data", str(data), "--port", "0", cwd=folder, module="consumers.demo.crm_server") as server:
        server.wait_for("http://", on="out")
        yield server.lines["out"][0]


def policy_text(crm_url: str, *, vip: str = "anna", extra: str = "") -> str:
    """A policy for tests: VIPs to ``vip``, others to anybody, at once and without end."""
    return f"""
[workflow]
languages = ["en", "fr"]
[email]
grace = "0s"
{extra}
[crm]
url = "{crm_url}/v1/contacts?email={{email}}"
headers = {{ Authorization = "Bearer ${{CRM_TOKEN}}" }}
timeout = "10s"
deadline = "30s"
[crm.variables]
customer_type = "$.customerType"
[branch.vip]
conditions = [{{ variable = "customer_type", operator = "is equal to", value = "VIP" }}]
[route.vip]
agent = "{vip}"
[route.regular]
workspace = true
[route.escalated]
agent = "maya"
[agents]
max_open = 10000
[agents.anna]
teams = []
[agents.berta]
teams = []
[agents.maya]
teams = []
"""


def event(
    type: str, contact: str, conversation: str | None, data: Mapping[str, Any], **attributes: Any
) -> dict[str, Any]:
    """A CloudEvent as a producer writes it."""
    found: dict[str, Any] = {
        "specversion": "1.0",
        "id": f"{type}-{contact}-{conversation}",
        "source": "/test",
        "type": type,
        "time": "2026-11-22T10:00:00.000Z",
        "partitionkey": contact,
        "data": data,
    }
    if conversation is not None:
        found["subject"] = conversation
    return {**found, **attributes}


def opened(contact: str, *, email: str | None = None, **attributes: Any) -> dict[str, Any]:
    """``conversation.opened`` of a contact's conversation, which is named after him."""
    data: dict[str, Any] = {"contact": {"id": contact}}
    if email is not None:
        data["contact"]["email"] = email
    return event("conversation.opened", contact, f"v-{contact}", data, **attributes)


def json_lines(events: Sequence[Mapping[str, Any]]) -> bytes:
    """Events as a file for ``publish``."""
    return b"".join(json.dumps(one).encode() + b"\n" for one in events)


def limit_file_size(size_bytes: int) -> str:
    """For ``before``: files of the process cannot grow beyond this, as on a full disk."""
    return f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size_bytes}, {size_bytes}))"


#: For ``before``: also root may write only what its mode lets it. PR_CAPBSET_DROP (24) of CAP_DAC_OVERRIDE (1),
#: CAP_DAC_READ_SEARCH (2) and CAP_FOWNER (3) holds from the next exec on.
OBEY_FILE_MODES = """
import ctypes, os
if os.geteuid() == 0:
    assert not any(ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) for capability in (1, 2, 3))
"""


def _command(module: str, arguments: Sequence[str], before: str | None) -> list[str]:
    """The command line; ``before`` is Python that a process of its own runs first and then becomes the command."""
    command = [sys.executable, "-m", module, *arguments]
    if before is None:
        return command
    code = f"{before}\nimport os, sys\nos.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", code, *command]
