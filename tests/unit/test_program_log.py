"""What the program writes on stderr: its own details if they are asked for, never what libraries send and receive."""

from __future__ import annotations

import re
import subprocess
import sys

LIBRARIES = ("aiokafka.conn", "aiokafka.consumer.fetcher", "httpx", "httpcore.http11", "aiohttp.client", "asyncio", "x")
STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} "
PROGRAM = """
import logging, sys
from consumers.cli.output import log_to_stderr, notice_with_time
from consumers.cli.serve_command import _tell
if sys.argv[1] == "unguarded":
    logging.basicConfig(level="DEBUG")
else:
    log_to_stderr(sys.argv[1])
for name in sys.argv[2:]:
    logging.getLogger(name).debug("sent b'ann@example.com'")
    logging.getLogger(name).info("of %s", name)
logging.getLogger("events.kafka.log").debug("a detail of ours")
_tell("metrics on http://127.0.0.1:1/metrics")
_tell("ready")
notice_with_time("stopped: \\x1b[2J")
"""


def told(level: str, *libraries: str) -> str:
    """What stderr gets, which is no terminal."""
    arguments = [sys.executable, "-c", PROGRAM, level, *libraries]
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stderr


def leaks(text: str) -> bool:
    """The oracle: whether the bytes that a library sent are told."""
    return "ann@example.com" in text


def test_no_library_tells_its_details_whatever_the_level_is() -> None:
    text = told("debug", *LIBRARIES)
    assert not leaks(text)
    assert "events.kafka.log: a detail of ours" in text, "the level is heeded"
    assert [name for name in LIBRARIES if f"of {name}\n" not in text] == [], "from info on they are heard"


def test_a_library_that_nobody_holds_back_is_found() -> None:
    """The oracle's negative control."""
    assert leaks(told("unguarded", "aiokafka.conn"))


def test_sentences_for_people_have_their_time_and_programs_find_ready_alone_on_its_line() -> None:
    lines = told("warning").splitlines()
    assert "ready" in lines
    lines.remove("ready")
    assert [re.sub(f"^{STAMP}INFO vip-router: ", "", line) for line in lines] == [
        "metrics on http://127.0.0.1:1/metrics",
        "from now on all that this process has is read",
        "stopped: <U+001B>[2J",
    ]
    assert all(re.match(STAMP, line) for line in lines)
