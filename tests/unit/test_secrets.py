"""Secrets come from the environment or a folder, and their values stand in nothing that is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumers.secrets import SecretError, Secrets, missing_secrets, secret_names
from tests.crm_support import make_policy

CANARY = "canary-s3cret"


def test_the_environment_is_asked_first_then_the_folder(tmp_path: Path) -> None:
    (tmp_path / "TOKEN").write_text("from the file\n", encoding="utf-8")
    folder = {"VIP_ROUTER_SECRETS_DIR": str(tmp_path)}
    assert Secrets.from_environment(folder).get("TOKEN") == "from the file"
    assert Secrets.from_environment({**folder, "TOKEN": "from outside"}).get("TOKEN") == "from outside"


def test_a_file_that_changes_counts_at_once(tmp_path: Path) -> None:
    secrets = Secrets(environment={}, directory=tmp_path)
    (tmp_path / "TOKEN").write_text("old", encoding="utf-8")
    assert secrets.get("TOKEN") == "old"
    (tmp_path / "TOKEN").write_text("new", encoding="utf-8")
    assert secrets.get("TOKEN") == "new"


def test_without_folder_the_error_names_the_secret_and_both_ways_to_give_it() -> None:
    with pytest.raises(
        SecretError, match=r"\$\{TOKEN\}: not found; set the environment variable TOKEN, or VIP_"
    ) as told:
        Secrets.from_environment({}).get("TOKEN")
    assert told.value.name == "TOKEN"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"canary-s3cret\r\nHost: evil", "line break"),
        (b"canary-s3cret\x00", "control character"),
        (b"canary-s3cret\xff", "UTF-8"),
        (b"canary-s3cret" * 6_000, "65,536 bytes"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_holds_no_usable_secret_is_refused_without_quoting_it(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / "TOKEN").write_bytes(content)
    with pytest.raises(SecretError, match=problem) as told:
        Secrets(environment={}, directory=tmp_path).get("TOKEN")
    assert CANARY not in str(told.value)
    assert told.value.__cause__ is None


def test_a_value_of_the_environment_is_held_to_the_same_rules() -> None:
    with pytest.raises(SecretError, match="line break"):
        Secrets(environment={"TOKEN": "canary-s3cret\nX: y"}).get("TOKEN")


def test_values_are_in_no_repr() -> None:
    secrets = Secrets(environment={"TOKEN": CANARY})
    assert CANARY not in repr(secrets) + str(secrets)


def test_a_policys_secrets_are_those_of_headers_and_body() -> None:
    headers = {"Authorization": "Bearer ${B_TOKEN}", "X-Key": "${A_KEY}-${B_TOKEN}"}
    policy = make_policy("http://127.0.0.1/", headers=headers, body='{"k":"${C_KEY}"}')
    assert secret_names(policy.crm) == ["A_KEY", "B_TOKEN", "C_KEY"]


def test_every_missing_secret_of_a_policy_is_told() -> None:
    policy = make_policy("http://127.0.0.1/", headers={"X-A": "${A}", "X-B": "${B}", "X-C": "${C}"})
    problems = missing_secrets(policy, Secrets(environment={"A": "1", "C": ""}))
    assert [problem.name for problem in problems] == ["B", "C"]
    assert missing_secrets(policy, Secrets(environment={"A": "1", "B": "2", "C": "3"})) == []
