"""The backup and the restore of ``deploy/sqlite.md`` work as they stand there, elsewhere and without systemd."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from events.topics import REPLIES
from tests.processes import Running, json_lines, opened, policy_text, run, stored, wait_until

PAGE = (Path(__file__).parents[2] / "deploy/sqlite.md").read_text(encoding="utf-8")
TIMEOUT_S = 60


def block(word, folder):
    """The block with this word, for a log in this folder."""
    [text] = [text for text in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE) if word in text]
    text = text.replace("/var/lib/vip-router", str(folder)).replace("/var/backups/vip-router.db", f"{folder}/copy.db")
    text = re.sub(r"^systemctl .*\n", "", text, flags=re.MULTILINE)
    return text.replace("-o vip-router -g vip-router ", "")


def shell(text):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


def publish(folder, *contacts):
    assert run("publish", "-", cwd=folder, stdin=json_lines([opened(contact) for contact in contacts])).code == 0


@pytest.fixture
def serve(tmp_path):
    """A ``serve`` that has asked contact a for his address and goes on."""
    (tmp_path / "p.toml").write_text(policy_text("http://127.0.0.1:9"), encoding="utf-8")
    publish(tmp_path, "a")
    with Running("serve", "--policy", "p.toml", cwd=tmp_path) as running:
        wait_until(lambda: asked(tmp_path) == ["a"], "the first question")
        yield running


def asked(folder):
    return [event["data"]["contact"]["id"] for event in stored(folder, REPLIES)]


def test_a_backup_of_a_log_in_use_is_whole_and_a_copy_by_cp_does_not_pass(serve, tmp_path):
    done = shell(block("log.backup", tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "Nothing is broken." in done.stdout
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    assert serve.process.poll() is None
    shutil.copy(tmp_path / "vip-router.db", tmp_path / "cp.db")
    assert run("audit", "verify", "--log", "sqlite:///cp.db", cwd=tmp_path).code != 0


def test_a_restored_log_is_that_of_the_backup_and_goes_on(serve, tmp_path):
    """Also after a kill, which leaves a write-ahead log that must not meet another file."""
    assert shell(block("log.backup", tmp_path)).returncode == 0
    publish(tmp_path, "b")
    wait_until(lambda: asked(tmp_path) == ["a", "b"], "the second question")
    serve.end(signal.SIGKILL)
    assert (tmp_path / "vip-router.db-wal").stat().st_size > 0
    done = shell(block("systemctl stop", tmp_path))
    assert "Nothing is broken." in done.stdout, done.stderr
    assert asked(tmp_path) == ["a"]
    publish(tmp_path, "a", "b")
    ended = run("serve", "--policy", "p.toml", "--until-idle", "1s", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert asked(tmp_path) == ["a", "b"]
    assert run("audit", "verify", cwd=tmp_path).code == 0
