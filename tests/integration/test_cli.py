"""The commands as processes: what they print, what they refuse, and their exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import (
    Running,
    environment,
    event,
    json_lines,
    limit_file_size,
    opened,
    policy_text,
    run,
    stored,
    wait_until,
)

AGENT = event("agent.updated", "default", "sam", {"teams": ["support"]})
COMMANDS = [
    ["demo"],
    ["chat"],
    ["audit"],
    ["audit", "show"],
    ["audit", "replay"],
    ["audit", "verify"],
    ["serve"],
    ["publish"],
    ["tail"],
    ["policy"],
    ["policy", "new"],
    ["policy", "check"],
    ["workspace"],
    ["workspace", "show"],
    ["fairness"],
    ["policy", "diagram"],
    ["dead-letters"],
    ["dead-letters", "list"],
    ["schema"],
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p.toml").write_text(policy_text("http://127.0.0.1:9"), encoding="utf-8")
    return tmp_path


def write(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return name


# --- publish ---


def test_publish_sends_each_event_to_its_topic_with_the_bytes_that_it_has(tmp_path):
    events = [AGENT, opened("c1"), opened("c2"), opened("c3")]
    name = write(tmp_path, "e.jsonl", b"\xef\xbb\xbf" + json_lines(events).replace(b"\n", b"\r\n\n"))
    done = run("publish", name, cwd=tmp_path)
    made = "made a new log, sqlite:///vip-router.db: partitions 4 by contact and 1 by workspace, fixed for ever\n"
    assert (done.code, done.err) == (0, made), "a slip of the pen in the log's name makes one, too"
    assert run("publish", "-", cwd=tmp_path).err == "", "it is there now"
    assert done.out == "4 of 4 events acknowledged: 1 on agents.events, 3 on conversations.events\n"
    assert stored(tmp_path, "agents.events") == [AGENT]
    printed = run("tail", "conversations.events", "--json", cwd=tmp_path)
    assert sorted(printed.out.encode().splitlines()) == json_lines(events[1:]).splitlines()


def test_publish_reads_a_pipe_and_says_in_json_what_it_did(tmp_path):
    done = run("publish", "-", "--json", cwd=tmp_path, stdin=json_lines([opened("c1"), AGENT]))
    assert done.code == 0
    assert json.loads(done.out) == {
        "acknowledged": 2,
        "events": 2,
        "topics": {"agents.events": 1, "conversations.events": 1},
        "skipped": 0,
        "unusable": 0,
        "problems": [],
    }


def test_one_line_that_is_no_event_keeps_the_whole_file_back(tmp_path):
    name = write(tmp_path, "e.jsonl", json_lines([opened("c1")]) + b"\n{broken\n" + json_lines([opened("c2")]))
    done = run("publish", name, cwd=tmp_path)
    assert done.code == 2
    assert "line 3: no event: not-json" in done.err
    assert f"{name}: nothing was published, because 1 line of it is no event: correct the file" in done.err
    assert "--skip-bad" in done.err
    assert stored(tmp_path, "conversations.events") == []


def test_skip_bad_publishes_the_rest_and_says_what_it_skipped(tmp_path):
    name = write(tmp_path, "e.jsonl", json_lines([opened("c1")]) + b"{broken\n[]\n" + json_lines([opened("c2")]))
    done = run("publish", name, "--skip-bad", cwd=tmp_path)
    assert done.code == 0
    assert "2 of 2 events acknowledged" in done.out
    assert "2 lines skipped" in done.out
    assert "line 2: skipped: not-json" in done.err
    assert "line 3: skipped: not-an-object" in done.err
    assert len(stored(tmp_path, "conversations.events")) == 2


def test_an_event_that_the_router_cannot_use_is_published_with_a_warning(tmp_path):
    done = run("publish", "-", cwd=tmp_path, stdin=json_lines([event("conversation.open", "c1", "v1", {})]))
    assert done.code == 0
    assert "line 1: the router will not use it: unknown-type" in done.err
    assert "vip-router dead-letters list" in done.err
    assert len(stored(tmp_path, "conversations.events")) == 1


def test_where_nothing_can_be_published_nothing_is_said_to_have_been(tmp_path):
    """What is told of a line before it is sent holds whether or not the disk is full then."""
    assert run("publish", "-", cwd=tmp_path, stdin=json_lines([AGENT])).code == 0
    size_bytes = max(file.stat().st_size for file in tmp_path.iterdir())
    long = event("conversation.open", "c1", "v1", {"text": "x" * 200_000})
    done = run("publish", "-", cwd=tmp_path, stdin=json_lines([long]), before=limit_file_size(size_bytes))
    assert done.code == 3, done.err
    assert "line 1: the router will not use it" in done.err
    assert "0 of 1 event acknowledged" in done.err
    assert "published" not in done.err


def test_many_bad_lines_are_counted_not_listed(tmp_path):
    done = run("publish", "-", cwd=tmp_path, stdin=b"x\n" * 1000)
    assert done.code == 2
    assert "and 990 lines more" in done.err
    assert "1,000 lines of it are no events" in done.err
    assert len(done.err.splitlines()) == 13, "with the new log"


@pytest.mark.parametrize("file", ["missing.jsonl", "."])
def test_a_file_that_cannot_be_read_exits_2(tmp_path, file):
    done = run("publish", file, cwd=tmp_path)
    assert done.code == 2
    assert done.err.startswith(f"vip-router: {file}: ")


def test_a_disk_that_is_full_while_publishing_exits_3_and_says_how_many_are_safe(tmp_path):
    events = [opened(f"c{n}", padding="x" * 1000) for n in range(3000)]
    name = write(tmp_path, "e.jsonl", json_lines(events))
    assert run("publish", "-", cwd=tmp_path).code == 0
    done = run("publish", name, cwd=tmp_path, before=limit_file_size(2_000_000))
    assert done.code == 3
    safe = int(done.err.split(" of 3,000 events acknowledged")[0].replace(",", ""))
    assert 0 < safe < 3000
    assert "free space" in done.err
    assert len(stored(tmp_path, "conversations.events")) == safe, "what was acknowledged is there, and nothing else"
    assert run("publish", name, cwd=tmp_path).code == 0
    assert {one["id"] for one in stored(tmp_path, "conversations.events")} == {one["id"] for one in events}


# --- tail ---


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A log with twelve openings, published one after the other."""
    for n in range(0, 12, 4):
        assert run("publish", "-", cwd=tmp_path, stdin=json_lines([opened(f"c{m}") for m in range(n, n + 4)])).code == 0
    return tmp_path


def contacts(printed: str) -> list[str]:
    return [json.loads(line)["partitionkey"] for line in printed.splitlines()]


def test_tail_merges_partitions_by_time_and_counts_from_the_end_or_from_an_offset(filled):
    everything = contacts(run("tail", "conversations.events", "--json", cwd=filled).out)
    assert [sorted(everything[n : n + 4]) for n in (0, 4, 8)] == [
        sorted(f"c{m}" for m in range(n, n + 4)) for n in (0, 4, 8)
    ]
    assert contacts(run("tail", "conversations.events", "--json", "-n", "3", cwd=filled).out) == everything[-3:]
    (first,) = contacts(
        run("tail", "conversations.events", "--json", "--partition", "1", "--from", "0", "-n", "1", cwd=filled).out
    )
    assert first in everything
    assert run("tail", "conversations.events", "--json", "--from", "end", cwd=filled).out == ""
    assert run("tail", "conversations.events", "--json", "--from", "999999", cwd=filled).out == ""


def test_tail_prints_an_outline_for_people(filled):
    done = run("tail", "conversations.events", cwd=filled)
    assert done.code == 0
    assert len(done.out.splitlines()) == 12
    assert "conversation.opened  c0/v-c0" in done.out


def test_tail_shows_no_control_characters_of_others(tmp_path):
    assert run("publish", "-", cwd=tmp_path, stdin=json_lines([
        event("message.received", "c1", "v1", {"text": "\x1b]0;owned\x07 \u202ereversed"})
    ])).code == 0  # fmt: skip
    done = run("tail", "conversations.events", cwd=tmp_path)
    assert "\x1b" not in done.out
    assert "\u202e" not in done.out
    assert "<U+001B>]0;owned<U+0007>" in done.out


def test_tail_follows_until_it_has_enough(filled):
    with Running("tail", "conversations.events", "--json", "--follow", "-n", "2", cwd=filled) as follower:
        wait_until(lambda: len(follower.lines["out"]) == 2, "the last two")
        assert run("publish", "-", cwd=filled, stdin=json_lines([opened("new")])).code == 0
        wait_until(lambda: len(follower.lines["out"]) == 3, "the new one")
        assert contacts(follower.end(signal.SIGINT).out)[-1] == "new"
    with Running("tail", "conversations.events", "--json", "--from", "end", "-f", "-n", "1", cwd=filled) as follower:
        publishes = iter(range(1000))
        while follower.process.poll() is None:  # it may not be at the end yet: publish until it has seen one
            assert run("publish", "-", cwd=filled, stdin=json_lines([opened(f"later{next(publishes)}")])).code == 0
        ended = follower.end()
    assert (ended.code, len(ended.events)) == (0, 1)


def test_tail_ends_quietly_when_its_reader_has_gone(filled):
    many = [opened(f"c{n}", padding="x" * 5000) for n in range(400)]
    assert run("publish", "-", cwd=filled, stdin=json_lines(many)).code == 0
    with subprocess.Popen(
        [sys.executable, "-m", "consumers.cli", "tail", "conversations.events", "--json"],
        cwd=filled,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0


# --- errors ---


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["tail", "nonsense"], 2, "the topics are conversations.events"),
        (["tail", "assignments", "--from", "soon"], 2, "--from: give start, end or an offset"),
        (["tail", "assignments", "--partition", "99"], 2, "partitions 0 to 3"),
        (["tail", "assignments", "-n", "0"], 2, "-n"),
        (["tail", "assignments", "--log", "sqlite:///nowhere.db"], 3, "there is no log nowhere.db"),
        (["tail", "assignments", "--log", "sqlite:///nowhere/x.db"], 3, "does not exist"),
        (["tail", "assignments", "--log", "sqlite:///p.toml"], 3, "not a log"),
        (["tail", "assignments", "--log", "postgres://x"], 2, "--log"),
        (["tail", "assignments", "--log", "kafka://127.0.0.1:1"], 3, "Kafka cannot be reached"),
        (["dead-letters", "list", "--log", "sqlite:///nowhere.db"], 3, "there is no log nowhere.db"),
        (["serve"], 2, "--policy"),
        (["serve", "--policy", "missing.toml"], 2, "vip-router policy new"),
        (["serve", "--policy", "p.toml", "--roles", "router,cook"], 2, "'cook' is no role"),
        (["serve", "--policy", "p.toml", "--until-idle", "soon"], 2, "--until-idle"),
        (["serve", "--policy", "p.toml", "--partitions", "0"], 2, "--partitions"),
        (["serve", "--policy", "p.toml", "--log-level", "loud"], 2, "--log-level"),
        (["policy", "check", "missing.toml"], 2, "there is no such file"),
        (["policy", "diagram", "p.toml", "--workspace", "w"], 0, ""),
        (["schema", "nonsense"], 2, "message.received"),
        (["nonsense"], 2, "nonsense"),
        ([], 2, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_done_is_said_with_the_exit_code_of_the_contract(folder, arguments, code, says):
    if arguments[:1] == ["tail"]:
        assert run("publish", "-", cwd=folder).code == 0
    done = run(*arguments, cwd=folder)
    assert done.code == code, done.err
    assert says in done.err
    assert "Traceback" not in done.err


def test_a_fault_of_ours_exits_70_without_what_nobody_may_read(tmp_path):
    code = """
import sys
from consumers.cli.main import main
import events.schema
def broken(): raise KeyError("ann@example.com")
events.schema.schemas = broken
sys.argv = ["vip-router", "schema"]
sys.exit(main())
"""
    for debug in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment({"VIP_ROUTER_DEBUG": debug}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 70
        assert "a fault of vip-router: KeyError at <string>:5" in done.stderr
        assert ("Traceback" in done.stderr) == (debug == "1")
        assert ("ann@example.com" in done.stderr) == (debug == "1")


# --- help ---


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_every_command_has_help(tmp_path, command):
    done = run(*command, "--help", cwd=tmp_path)
    assert done.code == 0
    assert f"Usage: vip-router {' '.join(command)}".rstrip() in " ".join(done.out.split())


def test_help_imports_nothing_that_takes_time(tmp_path):
    code = """
import sys
from consumers.cli.main import main
sys.argv = ["vip-router", "--help"]
main()
print("LOADED", *sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split("LOADED")[1].split())
    assert not loaded & {"httpx", "statemachine", "orjson", "msgspec", "sqlite3", "email_validator", "routing.policy"}


# --- policy, schema ---


def test_policy_new_prints_a_policy_that_policy_check_takes(tmp_path):
    printed = run("policy", "new", cwd=tmp_path)
    write(tmp_path, "new.toml", printed.out.encode())
    checked = run("policy", "check", "new.toml", cwd=tmp_path)
    assert (printed.code, checked.code) == (0, 0)
    assert "can be used, version sha256:" in checked.out


def test_policy_check_names_key_and_line_and_warns(folder):
    text = policy_text("http://127.0.0.1:9")
    write(folder, "bad.toml", text.replace("max_open = 10000", "max_open = 0").encode())
    line = text.splitlines().index("max_open = 10000") + 1
    done = run("policy", "check", "bad.toml", cwd=folder)
    assert done.code == 2
    assert f"bad.toml:{line}: agents.max_open" in done.err
    for_programs = run("policy", "check", "bad.toml", "--json", cwd=folder)
    assert for_programs.code == 2
    assert json.loads(for_programs.out)["error"]["line"] == line
    warned = run("policy", "check", "p.toml", cwd=folder, env={"CRM_TOKEN": ""})
    assert warned.code == 0
    assert "warning: crm: ${CRM_TOKEN}" in warned.out


def test_policy_check_names_the_file_and_line_of_a_warning(folder):
    text = policy_text("http://127.0.0.1:9", extra='stop_words = ["stop!"]')
    line = text.splitlines().index('stop_words = ["stop!"]') + 1
    (folder / "policies").mkdir()
    write(folder / "policies", "acme.toml", text.encode())
    for given in ("policies", "policies/acme.toml"):
        warned = run("policy", "check", given, cwd=folder)
        assert f"warning: policies/acme.toml:{line}: email.stop_words[0]: only a message" in warned.out
    for_programs = json.loads(run("policy", "check", "policies", "--json", cwd=folder).out)
    assert for_programs["policies"]["acme"]["warnings"][0].startswith("email.stop_words[0]: only a message")


@pytest.mark.parametrize("command", ["check", "diagram"])
def test_a_policy_is_that_of_a_workspace_with_a_name(folder, command):
    done = run("policy", command, "p.toml", "--workspace", "", cwd=folder)
    assert (done.code, done.out) == (2, "")
    assert "--workspace: it is empty; leave it out for the workspace default" in done.err


def test_policy_diagram_has_as_many_retries_as_the_policy(folder):
    write(folder, "one.toml", policy_text("http://127.0.0.1:9", extra="retries = 1").encode())
    printed = run("policy", "diagram", "one.toml", cwd=folder)
    assert printed.out.startswith("stateDiagram-v2")
    assert "email-retry-1" in printed.out
    assert "email-retry-2" not in printed.out
    assert run("policy", "diagram", "one.toml", "-o", "d.mmd", cwd=folder).out == ""
    assert (folder / "d.mmd").read_text(encoding="utf-8") == printed.out


def test_a_picture_comes_from_graphviz_or_the_sentence_how_to_get_it(folder):
    nowhere = folder / "bin"
    nowhere.mkdir()
    missing = run("policy", "diagram", "p.toml", "--format", "svg", cwd=folder, env={"PATH": str(nowhere)})
    assert missing.code == 2
    assert "install" in missing.err
    dot = nowhere / "dot"
    dot.write_text(f"#!{sys.executable}\nimport sys\nassert 'digraph' in sys.stdin.read()\nprint(sys.argv[1])\n")
    dot.chmod(0o755)
    drawn = run("policy", "diagram", "p.toml", "--format", "png", cwd=folder, env={"PATH": str(nowhere)})
    assert (drawn.code, drawn.out) == (0, "-Tpng\n")
    dot.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no fonts')\n")
    failed = run("policy", "diagram", "p.toml", "--format", "svg", cwd=folder, env={"PATH": str(nowhere)})
    assert failed.code == 2
    assert "no fonts" in failed.err


def test_schema_prints_every_public_type_or_one(tmp_path):
    everything = json.loads(run("schema", cwd=tmp_path).out)
    one = json.loads(run("schema", "message.received", cwd=tmp_path).out)
    assert everything["message.received"] == one
    assert {"conversation.opened", "conversation.assigned", "dead.letter"} <= set(everything)


def test_settings_come_from_the_environment_too(folder):
    other = {"VIP_ROUTER_LOG": "sqlite:///other.db", "VIP_ROUTER_POLICY": "p.toml", "VIP_ROUTER_UNTIL_IDLE": "200ms"}
    done = run("serve", cwd=folder, env=other)
    assert done.code == 0, done.err
    assert [path.name for path in folder.glob("*.db")] == ["other.db"]
