"""Contact ids that are personal data are warned about, once, and not repeated."""

from __future__ import annotations

import pytest

from consumers.personal_ids import PersonalIds
from routing.decider import LogRecord
from tests.bench.workload import Conversation
from tests.unit.test_deciding_ahead import entries, stored


def started(contact: str, workspace: str = "default") -> LogRecord:
    return LogRecord(
        type="conversation.started", workspace=workspace, contact=contact, subject="talk-1",
        data={}, hash="", offset=17, at_ms=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    "contact", ["ann.lee@example.org", "+4917012345678", "+49 170 1234567", "whatsapp:+1 (555) 010-9999"]
)
def test_an_address_or_a_number_is_warned_about_and_not_repeated(
    contact: str, caplog: pytest.LogCaptureFixture
) -> None:
    PersonalIds().look_at(started(contact), "routing.log/3")
    assert "workspace default: a contact id looks like" in caplog.text
    assert "routing.log/3 at offset 17" in caplog.text
    assert contact not in caplog.text


@pytest.mark.parametrize("contact", ["c1", "15550001234", "0000000123", "a@b", "@team", "3f2b-11", "+12", "+c12345678"])
def test_ids_that_mean_nothing_are_not(contact: str, caplog: pytest.LogCaptureFixture) -> None:
    PersonalIds().look_at(started(contact), "routing.log/3")
    assert caplog.text == ""


def test_each_workspace_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    ids = PersonalIds()
    for workspace in ("one", "one", "two", "one", "two"):
        ids.look_at(started("ann@example.org", workspace), "routing.log/0")
    told = [record.getMessage() for record in caplog.records]
    assert [text.partition(":")[0] for text in told] == ["workspace one", "workspace two"]


def test_the_router_looks_at_conversations_that_start(caplog: pytest.LogCaptureFixture) -> None:
    opened = Conversation(1, 1, "2026-11-22T10:00:00.000Z").opened()
    value = (opened.value or b"").replace(b"contact-0000001", b"ann.lee@example.org")
    assert len(entries(stored([opened._replace(value=value)]), 500)) == 2, "worked like all others"
    assert "looks like an e-mail address" in caplog.text
