"""Every command block of the README runs as it stands, in order, and its diagram is the machine's."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from routing.diagram import mermaid
from routing.policy_checks import warnings
from routing.policy_file import parse_policy
from routing.policy_template import template_text

TOP = Path(__file__).parents[2]
README = (TOP / "README.md").read_text()
TIMEOUT_S = 300


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what a user has after cloning and the first set-up."""
    # Set up here, or the copy's commands would set the shared .venv up for the copy.
    subprocess.run(["bash", "-c", "source deploy/setup.sh; setup_venv dev"], cwd=TOP, check=True, timeout=TIMEOUT_S)
    top = tmp_path_factory.mktemp("clone")
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=TOP, check=True, capture_output=True
    ).stdout.decode()
    for name in tracked.splitlines():
        if (TOP / name).is_file():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TOP / name, top / name)
    (top / ".venv").symlink_to(TOP / ".venv")
    return top


def run(block, folder):
    """Run a block as a user would paste it: in bash, in the top folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VIP_ROUTER")}
    environment["VIP_ROUTER_TESTS"] = "tests/unit/test_layout.py"  # the block that runs all tests would run this one
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


EXPECTED = {
    "deploy/demo.sh": "nobody meddled",
    "tests/run.sh": " passed",
    "vip-router publish": "conversation.assigned",
    "vip-router fairness": "time to assign",
}


@pytest.mark.parametrize("block", blocks("bash"), ids=lambda block: block.split("\n")[0][:40])
def test_a_command_block_runs_as_it_stands(block, checkout):
    ended = run(block, checkout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [expected] = [text for command, text in EXPECTED.items() if command in block]
    assert expected in ended.stdout


def test_each_kind_of_block_is_known():
    """A block in another language would be run by nobody."""
    assert set(re.findall(r"^```(\w+)$", README, re.MULTILINE)) == {"bash", "mermaid", "python", "sh", "toml"}
    assert len(blocks("bash")) == len(EXPECTED)


@pytest.mark.parametrize("block", blocks("toml"), ids=lambda block: block.split("\n")[0])
def test_a_piece_of_a_policy_is_right(block):
    policy = parse_policy(template_text().replace("[agents]\n", f"{block}\n[agents]\n", 1), source="README")
    assert warnings(policy) == []


def test_the_diagram_is_drawn_from_the_machine():
    assert blocks("mermaid") == [mermaid(3).rstrip() + "\n"]


def test_the_consumer_in_the_readme_sees_every_output_once_and_in_order():
    """Duplicates and what was overtaken are dropped, whatever comes back."""
    names: dict[str, Any] = {}
    exec(blocks("python")[0], names)
    seen: list[tuple[int, int]] = []
    last: dict[object, tuple[int, int]] = {}

    def event(seq, n, conversation="v1", source="/vip-router/w/assignments"):
        return {"source": source, "subject": conversation, "data": {"contact": {"id": "c"}, "seq": seq, "n": n}}

    def act(given):
        seen.append((given["data"]["seq"], given["data"]["n"]))

    for seq, n in [(1, 1), (3, 1), (3, 2), (1, 1), (3, 1), (3, 2), (7, 1)]:
        names["consume"](event(seq, n), last, act)
    names["consume"](event(1, 1, "v2"), last, act)
    names["consume"](event(2, 1, source="/vip-router/w/routing"), last, act)
    assert seen == [(1, 1), (3, 1), (3, 2), (7, 1), (1, 1), (2, 1)]
