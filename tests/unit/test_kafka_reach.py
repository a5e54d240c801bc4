"""What the admin client makes of brokers that go away while it asks them."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient

from events.kafka import reach as kafka_reach
from events.kafka.reach import admin_client
from events.kafka.settings import kafka_settings
from events.log import LogUnavailableError

SETTINGS = kafka_settings("kafka://127.0.0.1:1", {})


@pytest.fixture(autouse=True)
def _let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brokers that let us in; what is asked of them is the test's business."""

    async def nothing(*_: Any) -> None:
        """Succeed."""

    monkeypatch.setattr(kafka_reach, "ensure_reachable", nothing)
    monkeypatch.setattr(AIOKafkaAdminClient, "start", nothing)
    monkeypatch.setattr(AIOKafkaAdminClient, "close", nothing)


@pytest.mark.parametrize(
    "error",
    [
        errors.NodeNotReadyError(),
        errors.KafkaConnectionError(),
        errors.RequestTimedOutError(),
        errors.NotControllerError(),
        ConnectionResetError(),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_broker_that_goes_away_meanwhile_is_unavailable(error: Exception) -> None:
    """The program ends as for a log that cannot be reached, and may be started again."""
    with pytest.raises(LogUnavailableError, match=type(error).__name__):
        async with admin_client(SETTINGS):
            raise error


async def test_what_a_broker_refuses_is_not_taken_for_its_absence() -> None:
    """Waiting mends no missing right."""
    with pytest.raises(errors.ClusterAuthorizationFailedError):
        async with admin_client(SETTINGS):
            raise errors.ClusterAuthorizationFailedError
