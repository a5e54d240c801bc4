"""``serve`` as a process on a real file: signals, kill -9, take-over, policies that change, disks that are full."""

from __future__ import annotations

import json
import signal
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.output_checks import check_log, check_outputs, owners_of
from tests.processes import (
    DEADLINE_S,
    OBEY_FILE_MODES,
    Running,
    event,
    json_lines,
    limit_file_size,
    opened,
    policy_text,
    run,
    stored,
    wait_until,
)

CUSTOMERS = 240
ONE_BY_ONE = ("--look-ups", "1")  #: slows a load down, so that there is a middle to stop in
CONTACTS: dict[str, dict[str, Any]] = {
    **{f"c{n}@example.com": {"customerType": "VIP" if n % 3 == 0 else "standard"} for n in range(CUSTOMERS)},
    "slow@example.com": {"__delay_s": 1.5, "customerType": "VIP"},
}


def serving(folder: Path, *arguments: str, before: str | None = None) -> Running:
    return Running("serve", "--policy", "p.toml", *arguments, cwd=folder, before=before)


def publish(folder: Path, *events: dict[str, Any]) -> None:
    done = run("publish", "-", cwd=folder, stdin=json_lines(events))
    assert done.code == 0, done.err


def tail(folder: Path, topic: str) -> list[dict[str, Any]]:
    done = run("tail", topic, "--json", cwd=folder)
    assert done.code == 0, done.err
    return done.events


def customers(first: int = 0, count: int = CUSTOMERS) -> list[dict[str, Any]]:
    return [opened(f"c{n}", email=f"c{n}@example.com") for n in range(first, first + count)]


def owners(folder: Path) -> dict[str, str]:
    """Who got which contact, so far."""
    return owners_of(stored(folder, "assignments"))


def has_owners(folder: Path, count: int) -> bool:
    return len(owners(folder)) >= count


def check_all_assigned(folder: Path, *, copies: bool, count: int = CUSTOMERS) -> None:
    found = owners_of(tail(folder, "assignments"))
    assert set(found) == {f"c{n}" for n in range(count)}, "nothing is missing, nothing came out of nowhere"
    vips = {contact for contact, agent in found.items() if int(contact[1:]) % 3 == 0 and agent == "anna"}
    assert len(vips) == len([n for n in range(count) if n % 3 == 0])
    for topic in ("assignments", "conversations.replies", "assignment.requests"):
        check_outputs(stored(folder, topic), copies=copies)
    for topic in ("routing.log", "assignments.log"):
        check_log(stored(folder, topic))


def test_it_routes_what_was_published_and_ends_when_idle(folder):
    publish(folder, *customers(count=12), opened("x1"))
    with serving(folder, "--until-idle", "500ms") as serve:
        serve.wait_for("ready")
        assert serve.end().code == 0
    check_all_assigned(folder, copies=False, count=12)
    (ask,) = tail(folder, "conversations.replies")
    assert (ask["type"], ask["subject"], ask["data"]["kind"]) == ("reply.requested", "v-x1", "ask")


def test_it_does_not_count_as_idle_while_a_look_up_is_on_its_way(folder):
    publish(folder, opened("s1", email="slow@example.com"), event("conversation.open", "c1", "v1", {}))
    done = run("serve", "--policy", "p.toml", "--until-idle", "300ms", cwd=folder)
    assert done.code == 0
    assert " 1 dead letter came: " in done.err
    assert owners(folder) == {"s1": "anna"}


def test_publish_and_tail_work_while_it_serves(folder):
    with serving(folder) as serve:
        serve.wait_for("ready")
        with Running("tail", "assignments", "--follow", "--json", cwd=folder) as follower:
            publish(folder, *customers(count=6))
            wait_until(lambda: len(follower.lines["out"]) >= 6, "six assignments")
            followed = follower.end(signal.SIGINT)
        assert followed.code == 0
        assert serve.end(signal.SIGTERM).code == 0
    assert sorted(map(json.dumps, followed.events)) == sorted(map(json.dumps, tail(folder, "assignments")))
    check_all_assigned(folder, copies=False, count=6)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_the_middle_of_a_load_exits_0_and_leaves_no_duplicates(folder, number):
    publish(folder, *customers())
    with serving(folder, *ONE_BY_ONE) as serve:
        serve.wait_for("ready")
        wait_until(partial(has_owners, folder, 5), "some assignments")
        ended = serve.end(number)
    assert ended.code == 0, ended.err
    assert "stopped" in ended.err
    assert len(owners(folder)) < CUSTOMERS, "it was in the middle"
    assert run("serve", "--policy", "p.toml", "--until-idle", "1s", cwd=folder).code == 0
    check_all_assigned(folder, copies=False)


def test_kill_9_in_the_middle_of_a_load_loses_and_doubles_nothing(folder):
    for before in range(0, CUSTOMERS, CUSTOMERS // 3):
        with serving(folder, *ONE_BY_ONE) as serve:
            serve.wait_for("ready")
            publish(folder, *customers(before, CUSTOMERS // 3))
            wait_until(partial(has_owners, folder, len(owners(folder)) + 3), "some assignments")
            assert serve.end(signal.SIGKILL).code == -signal.SIGKILL
        assert len(owners(folder)) < before + CUSTOMERS // 3, "it was in the middle"
    assert run("serve", "--policy", "p.toml", "--until-idle", "1s", cwd=folder).code == 0
    check_all_assigned(folder, copies=True)


def test_a_second_serve_waits_and_takes_over_when_the_first_is_killed(folder):
    with serving(folder) as first:
        first.wait_for("ready")
        with serving(folder) as second:
            second.wait_for("another serve has the role router")
            publish(folder, *customers(count=20))
            wait_until(lambda: len(owners(folder)) > 0, "an assignment by the first")
            assert not second.says("ready")
            first.end(signal.SIGKILL)
            second.wait_for("ready")
            publish(folder, *customers(20, 20))
            wait_until(lambda: len(owners(folder)) == 40, "all assignments")
            assert second.end(signal.SIGTERM).code == 0
    check_all_assigned(folder, copies=True, count=40)


def test_a_serve_that_waits_for_its_roles_can_be_stopped(folder):
    with serving(folder) as first:
        first.wait_for("ready")
        with serving(folder) as second:
            second.wait_for("another serve has the role")
            assert second.end(signal.SIGTERM).code == 0
        assert first.end(signal.SIGTERM).code == 0


def test_a_serve_that_is_to_end_when_idle_does_not_wait_longer_than_that_for_its_roles(folder):
    """Exit 3 says that nothing was done; the first one goes on undisturbed."""
    with serving(folder) as first:
        first.wait_for("ready")
        publish(folder, *customers(count=3))
        second = run("serve", "--policy", "p.toml", "--until-idle", "300ms", cwd=folder)
        assert second.code == 3, second.err
        assert second.err.splitlines()[-1] == (
            "vip-router: another serve has the roles router, crm, assigner of this log, and did not end within "
            "--until-idle 0.3s: end it, or leave --until-idle out to wait for it"
        )
        wait_until(lambda: len(owners(folder)) == 3, "all assignments")
        assert first.end(signal.SIGTERM).code == 0
    check_all_assigned(folder, copies=False, count=3)


def test_roles_that_others_have_are_not_waited_for_while_there_is_work(folder):
    """What it can do it does, and only then says what it could not have."""
    publish(folder, *customers(count=3))
    with serving(folder, "--roles", "assigner") as assigner:
        assigner.wait_for("ready")
        done = run("serve", "--policy", "p.toml", "--until-idle", "500ms", cwd=folder)
        assert done.code == 3, done.err
        assert "another serve has the role assigner of this log" in done.err.splitlines()[-1]
        wait_until(lambda: len(owners(folder)) == 3, "all assignments")
        assert assigner.end(signal.SIGTERM).code == 0
    check_all_assigned(folder, copies=False, count=3)


def test_roles_may_be_spread_over_processes(folder):
    publish(folder, *customers(count=9))
    with (
        serving(folder, "--roles", "router") as router,
        serving(folder, "--roles", "crm") as looker,
        serving(folder, "--roles", "assigner") as assigner,
    ):
        for one in (router, looker, assigner):
            one.wait_for("ready")
        wait_until(lambda: len(owners(folder)) == 9, "all assignments")
        assert [one.end(signal.SIGTERM).code for one in (router, looker, assigner)] == [0, 0, 0]
    check_all_assigned(folder, copies=False, count=9)


def test_sighup_takes_a_new_policy_and_refuses_a_broken_one(folder, crm_url):
    policy = folder / "p.toml"
    with serving(folder) as serve:
        serve.wait_for("ready")
        publish(folder, *customers(0, 1))
        policy.write_text(policy_text(crm_url, vip="berta"), encoding="utf-8")
        wait_until(lambda: len(owners(folder)) == 1, "the first")
        serve.send(signal.SIGHUP)
        serve.wait_for("the policy was read again")
        publish(folder, *customers(3, 1))
        wait_until(lambda: len(owners(folder)) == 2, "the second")
        policy.write_text(policy_text(crm_url, extra="retires = 3"), encoding="utf-8")
        serve.send(signal.SIGHUP)
        serve.wait_for("the policy is refused, the old one stays")
        assert serve.says("p.toml:6: email.retires")
        publish(folder, *customers(6, 1))
        wait_until(lambda: len(owners(folder)) == 3, "the third")
        assert serve.end(signal.SIGTERM).code == 0
    assert owners(folder) == {"c0": "anna", "c3": "berta", "c6": "berta"}


def test_sighup_says_which_workspaces_lost_their_policy(folder, crm_url):
    policies = folder / "policies"
    policies.mkdir()
    for name in ("default", "shop"):
        (policies / f"{name}.toml").write_text(policy_text(crm_url), encoding="utf-8")
    with Running("serve", "--policy", "policies", cwd=folder) as serve:
        serve.wait_for("ready")
        (policies / "shop.toml").unlink()
        serve.send(signal.SIGHUP)
        serve.wait_for("no policy any more for shop: new conversations there go to the dead letters")
        assert serve.end(signal.SIGTERM).code == 0


def test_agents_that_a_new_policy_brings_get_conversations_without_a_restart(folder, crm_url):
    policy = folder / "p.toml"
    policy.write_text(policy_text(crm_url, vip="zoe"), encoding="utf-8")
    publish(folder, *customers(count=1))
    with serving(folder) as serve:
        serve.wait_for("ready")
        wait_until(lambda: len(stored(folder, "assignments")) == 1, "it waits for zoe")
        policy.write_text(policy_text(crm_url, vip="zoe") + "[agents.zoe]\nteams = []\n", encoding="utf-8")
        serve.send(signal.SIGHUP)
        wait_until(lambda: owners(folder) == {"c0": "zoe"}, "zoe gets it")
        assert serve.end(signal.SIGTERM).code == 0


def test_a_broken_policy_stops_it_before_it_reads_anything(folder, crm_url):
    (folder / "p.toml").write_text(policy_text(crm_url, extra="retires = 3"), encoding="utf-8")
    done = run("serve", "--policy", "p.toml", cwd=folder)
    assert done.code == 2
    assert "p.toml:6: email.retires" in done.err
    assert not (folder / "vip-router.db").exists()


def test_a_missing_secret_stops_it_before_it_reads_anything(folder):
    done = run("serve", "--policy", "p.toml", cwd=folder, env={"CRM_TOKEN": ""})
    assert done.code == 2
    assert "CRM_TOKEN" in done.err
    assert not (folder / "vip-router.db").exists()
    without_crm = run(
        "serve", "--policy", "p.toml", "--roles", "router", "--until-idle", "100ms", cwd=folder, env={"CRM_TOKEN": ""}
    )
    assert without_crm.code == 0, "only the role that needs secrets asks for them"


def test_a_second_ctrl_c_ends_it_at_once(folder):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the look-up and never answers
        silent.settimeout(DEADLINE_S)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (folder / "p.toml").write_text(policy_text(url), encoding="utf-8")
        publish(folder, *customers(count=1))
        with serving(folder) as serve:
            serve.wait_for("ready")
            connection, _ = silent.accept()
            with connection:
                serve.send(signal.SIGINT)
                serve.wait_for("Ctrl-C again ends it at once")
                assert serve.end(signal.SIGINT).code == -signal.SIGINT


def test_a_full_disk_exits_3_with_a_sentence_and_nothing_is_missing_afterwards(folder):
    publish(folder, *customers())
    size_bytes = (folder / "vip-router.db").stat().st_size
    with serving(folder, "--until-idle", "1s", before=limit_file_size(size_bytes + 256 * 1024)) as serve:
        ended = serve.end()
    assert ended.code == 3, ended.err
    assert "vip-router.db" in ended.err.splitlines()[-1]
    assert "free space" in ended.err.splitlines()[-1]
    assert len(owners(folder)) < CUSTOMERS, "the disk was full before all was done"
    assert run("serve", "--policy", "p.toml", "--until-idle", "1s", cwd=folder).code == 0
    check_all_assigned(folder, copies=True)


def test_a_read_only_log_exits_3_with_a_sentence(folder):
    publish(folder, *customers(count=3))
    log = folder / "vip-router.db"
    log.chmod(0o444)
    folder.chmod(0o555)
    try:
        for command in (["serve", "--policy", "p.toml"], ["publish", "-"]):
            done = run(*command, cwd=folder, stdin=json_lines(customers(3, 1)), before=OBEY_FILE_MODES)
            assert done.code == 3, done.err
            assert "writable" in done.err
        read = run("tail", "conversations.events", "--json", cwd=folder, before=OBEY_FILE_MODES)
        assert (read.code, len(read.events)) == (0, 3), "it can still be read"
    finally:
        folder.chmod(0o755)
        log.chmod(0o644)
    assert run("serve", "--policy", "p.toml", "--until-idle", "500ms", cwd=folder).code == 0
    check_all_assigned(folder, copies=False, count=3)


def test_counts_that_the_log_was_not_made_with_are_left_aside_and_said(folder):
    publish(folder, *customers(count=3))
    done = run("serve", "--policy", "p.toml", "--partitions", "9", "--until-idle", "500ms", cwd=folder)
    assert done.code == 0
    assert "--partitions 9 is left aside: this log was made with 4" in done.err
    check_all_assigned(folder, copies=False, count=3)


def test_its_logs_name_no_address_and_no_text(folder):
    publish(
        folder,
        opened("x1", email="slow@example.com"),
        opened("x2"),
        event("message.received", "x2", "v-x2", {"message_id": "m1", "text": "my secret c1@example.com text"}),
    )
    done = run("serve", "--policy", "p.toml", "--until-idle", "500ms", "--log-level", "debug", cwd=folder)
    assert done.code == 0
    assert "DEBUG" in done.err, "the level is heeded"
    assert "example.com" not in done.err.replace("crm.example.com", "")
    assert "secret" not in done.err
