"""``vip-router chat`` as a process: a script of lines, a person at a terminal, and whose log it dares to decide."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import DEADLINE_S, Ended, Running, crm, environment, json_lines, opened, policy_text, run


def chat(place: Path, script: str, *options: str) -> Ended:
    return run("chat", *options, cwd=place, stdin=script.encode())


def said(ended: Ended, kind: str) -> list[str]:
    """What was said of one kind; a text that reads from the right stands on the line after its label."""
    found, lines = [], ended.out.splitlines()
    for number, line in enumerate(lines):
        if line.split(" ")[0] == kind:
            found.append(line[7:] if len(line) > 7 else lines[number + 1])
    return found


@pytest.mark.parametrize(
    ("language", "script", "questions"),
    [
        (
            "fr",
            "Bonjour\nje préfère ne pas\nd'accord : jl.fabre@example.com, merci\n",
            ["pourriez-vous nous envoyer votre adresse", "Nous n'avons pas trouvé", "Merci Jean"],
        ),
        (
            "ar",
            "مرحبا\nلماذا؟\nبريدي layla.haddad@example.com، شكرا",  # noqa: RUF001  # Arabic as people write it
            ["هل يمكنك إرسال عنوان بريدك", "لم نجد عنوان بريدك", "وصلنا عنوان بريدك"],
        ),
    ],
)
def test_a_vip_is_asked_answers_wrongly_then_rightly_and_gets_his_manager(tmp_path, language, script, questions):
    ended = chat(tmp_path, script, "--language", language, "--name", "Jean")
    assert ended.code == 0, ended.err
    assert said(ended, "you") == script.splitlines()
    bot = said(ended, "bot")
    assert len(bot) == len(questions)
    assert all(question in text for question, text in zip(questions, bot, strict=True)), bot
    assert [line.partition(" (")[0] for line in said(ended, "state") if "→" in line] == [
        "opened → awaiting-email",
        "awaiting-email → email-retry-1",
        "email-retry-1 → fetching-crm",
        "fetching-crm → routed-vip",
    ]
    assert said(ended, "desk") == ["anna has it (vip: vip; dedicated)"]
    assert ended.out.splitlines()[-1].startswith("desk")


def test_the_commands_do_what_they_say(tmp_path):
    script = (
        "/close\nhi\n/email nonsense\n/email ben.frost@example.com\n/agent ingrid\n/agent ingrid\nthanks\n/close\n"
        "again\n/what\n/quit\nnever sent\n"
    )
    ended = chat(tmp_path, script, "--channel", "whatsapp")
    assert ended.code == 0, ended.err
    helped, desk = said(ended, "help"), said(ended, "desk")
    assert helped[0].startswith("there is no open conversation")
    assert helped[1].startswith("write /email and an address")
    assert any("/agent NAME" in line for line in helped)
    assert " of support has it (regular: not-vip; " in desk[0]
    assert desk[1].endswith("no longer has it (taken-by-hand)")
    assert desk[2:4] == [
        "ingrid has it (regular: not-vip; by-hand, taken-by-hand)",
        "ingrid no longer has it (closed in the chat)",
    ]
    assert " of support has it" in desk[4]
    assert len(desk) == 5
    assert "never sent" not in ended.out


def test_with_an_address_in_the_record_nobody_is_asked(tmp_path):
    ended = chat(tmp_path, "hello\n", "--email", "eleanor.whitfield@example.com")
    assert ended.code == 0, ended.err
    assert said(ended, "bot") == []
    assert said(ended, "desk") == ["anna has it (vip: vip; dedicated)"]


def test_it_goes_on_with_the_log_that_it_has_made(tmp_path):
    assert chat(tmp_path, "hello\n").code == 0
    ended = chat(tmp_path, "hello\njl.fabre@example.com\n")
    assert ended.code == 0, ended.err
    assert said(ended, "desk") == ["anna has it (vip: vip; dedicated)"]
    report = run("audit", "verify", cwd=tmp_path)
    assert report.code == 0, report.out + report.err


@pytest.fixture
def served(tmp_path) -> Iterator[Path]:
    """A folder where a serve works, with a policy and a CRM of its own."""
    with crm(tmp_path, {"ann@example.com": {"customerType": "VIP"}}) as url:
        (tmp_path / "p.toml").write_text(policy_text(url, vip="berta"), encoding="utf-8")
        with Running("serve", "--policy", "p.toml", cwd=tmp_path) as serve:
            serve.wait_for("ready")
            yield tmp_path
            assert serve.end(signal.SIGTERM).code == 0


def test_it_chats_with_the_serve_that_works_on_the_log(served):
    ended = chat(served, "hello\nann@example.com\n")
    assert ended.code == 0, ended.err
    assert "A serve works on this log" in ended.err
    assert said(ended, "desk") == ["berta has it (vip: vip; dedicated)"]


def test_it_names_the_dead_letter_and_chats_in_the_workspace_that_there_is_a_policy_for(tmp_path):
    with crm(tmp_path, {"ann@example.com": {"customerType": "VIP"}}) as url:
        (tmp_path / "policies").mkdir()
        (tmp_path / "policies" / "sales.toml").write_text(policy_text(url, vip="berta"), encoding="utf-8")
        with Running("serve", "--policy", "policies", cwd=tmp_path) as serve:
            serve.wait_for("ready")
            refused = chat(tmp_path, "hello\n")
            assert refused.code == 1
            assert "dead letters: unknown-workspace: no policy for workspace 'default'" in refused.err
            assert "is a serve with all roles at work" not in refused.err
            ended = chat(tmp_path, "hello\nann@example.com\n", "--workspace", "sales")
            assert ended.code == 0, ended.err
            assert said(ended, "desk") == ["berta has it (vip: vip; dedicated)"]
            assert serve.end(signal.SIGTERM).code == 0


def test_the_example_desk_opens_in_the_workspace_that_is_named(tmp_path):
    ended = chat(tmp_path, "hello\njl.fabre@example.com\n", "--workspace", "sales")
    assert ended.code == 0, ended.err
    assert said(ended, "desk") == ["anna has it (vip: vip; dedicated)"]


def test_options_for_roles_of_its_own_are_refused_where_a_serve_works(served):
    ended = chat(served, "hello\n", "--serve")
    assert ended.code == 2
    assert "a serve works on this log already" in ended.err


def test_what_others_have_published_is_not_decided_under_the_example_policy(tmp_path):
    assert run("publish", "-", cwd=tmp_path, stdin=json_lines([opened("c1", email="a@example.com")])).code == 0
    ended = chat(tmp_path, "hello\n")
    assert ended.code == 2
    assert "vip-router serve --log sqlite:///vip-router.db" in ended.err
    assert run("tail", "routing.log", "--json", cwd=tmp_path).out == ""


def test_a_policy_of_ones_own_can_be_tried_with_the_example_crm(tmp_path):
    (tmp_path / "p.toml").write_text(policy_text("https://crm.example.com", vip="berta"), encoding="utf-8")
    ended = chat(tmp_path, "hello\njl.fabre@example.com\n", "--policy", "p.toml")
    assert ended.code == 0, ended.err
    assert said(ended, "desk") == ["berta has it (vip: vip; dedicated)"]


def test_a_broken_policy_ends_it_with_the_key(tmp_path):
    (tmp_path / "p.toml").write_text("[workflow]\nnames = 1\n", encoding="utf-8")
    ended = chat(tmp_path, "hello\n", "--policy", "p.toml")
    assert ended.code == 2
    assert "workflow.names" in ended.err


class Terminal:
    """A chat at a pseudo-terminal."""

    def __init__(self, place: Path) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "consumers.cli", "chat"],
            cwd=place,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment({"TERM": "xterm"}),
            start_new_session=True,
        )
        os.close(theirs)
        self.shown = ""

    def types(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait_for(self, text: str) -> None:
        give_up_s = time.monotonic() + DEADLINE_S
        while text not in self.shown:
            left_s = give_up_s - time.monotonic()
            assert left_s > 0, f"{text!r} is not in {self.shown!r}"
            if select.select([self._ours], [], [], left_s)[0]:
                try:
                    self.shown += os.read(self._ours, 65_536).decode(errors="replace")
                except OSError:  # the other side has ended
                    raise AssertionError(f"{text!r} is not in {self.shown!r}") from None

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)


@contextmanager
def terminal(place: Path) -> Iterator[Terminal]:
    found = Terminal(place)
    try:
        yield found
    finally:
        found.close()


@pytest.mark.parametrize("how", ["Ctrl-D", "Ctrl-C"])
def test_a_person_sees_what_comes_and_ends_it_with_ctrl_d_or_ctrl_c(tmp_path, how):
    with terminal(tmp_path) as person:
        person.wait_for("/help says")
        person.types("hello there\n")
        person.wait_for("e-mail address")
        person.types("it is jl.fabre@example.com, thanks\n")
        person.wait_for("anna has it")
        if how == "Ctrl-D":
            person.types("\x04")
        else:
            person.process.send_signal(signal.SIGINT)
        assert person.process.wait(timeout=DEADLINE_S) == 0
