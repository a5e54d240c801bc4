"""``vip-router demo`` as a process: real roles, a real file, a real CRM; what it prints, and what it leaves behind."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from consumers.audit.verify import verify
from consumers.cli.demo import _log_file
from consumers.demo.children import command
from consumers.demo.examples import find_folder
from consumers.opening import opened
from tests.processes import ROOT, Ended, Running, environment

FOLDER = find_folder(None)
ESCAPE = "\x1b"
DEMO_S = 300.0  #: more than a demo takes on a machine that is busy with something else


def processes_of(place: Path) -> list[str]:
    """The command lines of processes that name a folder."""
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(place) in line]


def demo(place: Path, *options: str) -> Ended:
    """Run the demo to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "consumers.cli", "demo", *options],
        cwd=place,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEMO_S,
        check=False,
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def copy_examples(place: Path) -> Path:
    return Path(shutil.copytree(FOLDER, place / "examples"))


@pytest.fixture(scope="module")
def played(tmp_path_factory) -> tuple[Path, Ended]:
    """One demo, with examples and log of its own."""
    place = tmp_path_factory.mktemp("demo")
    folder = copy_examples(place)
    return place, demo(place, "--examples", str(folder), "--keep", str(place / "day.db"))


def test_the_demo_ends_with_everything_as_expected(played):
    _, ended = played
    assert ended.code == 0, ended.out + ended.err


def test_no_process_of_the_demo_is_left(played):
    place, _ = played
    assert processes_of(place) == []


def test_the_tables_say_who_got_what_and_why(played):
    _, ended = played
    rows = {line.split()[0]: line.split() for line in ended.out.splitlines() if line.strip()}
    expected = [json.loads(line) for line in (FOLDER / "expected.jsonl").read_bytes().splitlines()]
    for one in expected:
        row = rows[one["conversation"]]
        assert one["reason"] in row, row
        assert one.get("agent", row[0]) in row, row
    assert "vip-desk" in rows["bruno"]
    assert ended.out.index("Who got what, and why") < ended.out.index("Who has what") < ended.out.index("Checked over")


def test_the_promises_are_told_with_what_was_counted(played):
    _, ended = played
    told = [line for line in ended.out.splitlines() if line.startswith(("holds", "BROKEN"))]
    assert [line.split()[1] for line in told] == ["P1", "P2", "P3", "P4", "P7"]
    assert all(line.startswith("holds") for line in told)
    assert "77 assignments of 74 conversations" in told[0]
    assert "76 conversations: 74 assigned, 1 not for this workflow, 1 dead letter; 0 without an outcome" in told[1]
    assert "2 of them copies" in told[2]


def test_without_a_terminal_there_are_plain_lines(played):
    _, ended = played
    assert ESCAPE not in ended.out + ended.err
    assert [line.split(":")[0] for line in ended.err.splitlines()] == [
        "starting the CRM and serve", "the desk opens", "morning", "nobody answers", "anna is out", "everybody is busy",
        "verifying the log", "deciding everything again",
    ]  # fmt: skip


async def test_the_log_that_is_kept_verifies(played):
    place, _ = played
    async with opened(f"sqlite:///{place}/day.db", read_only=True) as log:
        report = await verify(log)
    assert report.passed, report.first_difference
    assert report.checked["routing.log conversation.started"] == 76
    assert report.checked["records"] > 300


def test_the_commands_that_it_prints_work_as_printed(played):
    place, ended = played
    show, tail, chat = (
        subprocess.run(
            shlex.split(line), cwd=place, env=environment(), capture_output=True, check=False, timeout=60,
            input=b"Bonjour\nmoi: jl.fabre@example.com\n",
        )
        for line in ended.out.splitlines()[-3:]
    )  # fmt: skip
    assert (show.returncode, tail.returncode, chat.returncode) == (0, 0, 0), chat.stderr.decode()
    assert b"anna" in show.stdout
    assert tail.stdout.count(b"conversation.assigned") >= 77
    assert "Pourriez-vous nous envoyer".casefold() in chat.stdout.decode().casefold()
    assert b"anna has it (vip" in chat.stdout


@pytest.fixture
def taken_port() -> Iterator[int]:
    """Somebody else listens where the example CRM wants to."""
    policy = (FOLDER / "policy.toml").read_text(encoding="utf-8")
    url = next(line.split('"')[1] for line in policy.splitlines() if line.startswith("url = "))
    with socket.socket() as listener:
        port = urlsplit(url).port
        assert port is not None
        with suppress(OSError):  # then it is taken already
            listener.bind(("127.0.0.1", port))
            listener.listen(1)
        yield port


@pytest.mark.usefixtures("taken_port")
def test_what_comes_out_other_than_expected_is_named_and_ends_with_1(tmp_path):
    """Planted: an expectation that cannot come true, and a VIP whom the CRM no longer knows as one."""
    folder = copy_examples(tmp_path)
    expected = folder / "expected.jsonl"
    lines = [json.loads(line) for line in expected.read_bytes().splitlines()]
    for one in lines:
        one.update({"agent": "bruno"} if one["conversation"] == "tg-3003" else {})
    expected.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    contacts = json.loads((folder / "crm.json").read_bytes())
    contacts["bambang.wijaya@example.com"]["customerType"] = "standard"
    (folder / "crm.json").write_text(json.dumps(contacts), encoding="utf-8")

    ended = demo(tmp_path, "--examples", str(folder), "--keep", str(tmp_path / "d.db"))

    assert ended.code == 1, ended.err
    assert "tg-3003: agent: expected bruno, came maya" in ended.out
    assert "wa-3104: route: expected vip, came regular" in ended.out
    assert {line.split(":")[0] for line in ended.out.splitlines() if ": expected" in line} >= {"tg-3003", "wa-3104"}
    assert processes_of(tmp_path) == []


def test_ctrl_c_leaves_no_process_and_a_log_that_says_where_it_is(tmp_path):
    folder = copy_examples(tmp_path)
    with Running("demo", "--examples", str(folder), "--keep", str(tmp_path / "d.db"), cwd=tmp_path) as running:
        running.wait_for("the desk opens")
        assert processes_of(tmp_path)
        ended = running.end(signal.SIGINT)
    assert ended.code == 130
    assert f"kept in {tmp_path / 'd.db'}" in ended.err
    assert processes_of(tmp_path) == []


def test_a_log_that_exists_is_not_overwritten(tmp_path):
    (tmp_path / "mine.db").write_bytes(b"precious")
    ended = demo(tmp_path, "--keep", "mine.db")
    assert ended.code == 2
    assert "mine.db exists" in ended.err
    assert (tmp_path / "mine.db").read_bytes() == b"precious"


def test_without_examples_it_says_what_to_give(tmp_path):
    ended = demo(tmp_path, "--examples", str(tmp_path))
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "--examples DIR" in ended.err


def test_a_policy_that_cannot_be_used_is_named_before_anything_starts(tmp_path):
    folder = copy_examples(tmp_path)
    policy = folder / "policy.toml"
    policy.write_text(policy.read_text(encoding="utf-8").replace("retries = 3", 'retries = "3"'), encoding="utf-8")
    ended = demo(tmp_path, "--examples", str(folder), "--keep", "d.db")
    assert ended.code == 2
    assert "email.retries" in ended.err
    assert not (tmp_path / "d.db").exists()


def test_a_serve_that_cannot_work_ends_the_demo_with_what_it_said(tmp_path):
    """Planted: its policy asks for a secret that nobody has set."""
    folder = copy_examples(tmp_path)
    policy = folder / "policy.toml"
    policy.write_text(policy.read_text(encoding="utf-8").replace("CRM_TOKEN", "NOBODYS_TOKEN"), encoding="utf-8")
    ended = demo(tmp_path, "--examples", str(folder), "--keep", "d.db")
    assert ended.code == 3
    assert "serve does not run" in ended.err
    assert "NOBODYS_TOKEN" in ended.err
    assert processes_of(tmp_path) == []


def test_the_command_sets_up_a_file_for_each_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _log_file(None) == Path("vip-router-demo.db")
    Path("vip-router-demo.db").touch()
    Path("vip-router-demo-2.db").touch()
    assert _log_file(None) == Path("vip-router-demo-3.db")


def test_a_command_to_copy_is_short_where_the_program_lies_below(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", [str(ROOT / ".venv/bin/vip-router")])
    monkeypatch.setenv("PATH", os.defpath)
    assert command(["tail", "assignments"]) == ".venv/bin/vip-router tail assignments"
