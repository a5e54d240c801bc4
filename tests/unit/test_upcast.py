"""Data of an older version is read as if it had been written in the newest."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from events.cloudevents import BadInputError
from events.decode import decode_conversation
from events.log import StoredRecord
from events.upcast import UPCASTS, Upcasts, schema_version
from routing.inputs import Closed

TYPE = "conversation.closed"


def closed(data: Any, dataschema: Any) -> Any:
    event = {"specversion": "1.0", "id": "e", "source": "/s", "type": TYPE, "subject": "v", "partitionkey": "c",
             "dataschema": dataschema, "data": data}  # fmt: skip
    return StoredRecord("conversations.events", 0, 0, None, orjson.dumps(event), (), 0)


def because_to_reason(data: Any) -> Any:
    return {"reason": data["because"]}


def shouted(data: Any) -> Any:
    return {"reason": data["reason"].upper()}


@pytest.fixture
def upcasts() -> Upcasts:
    """Two steps: version 1 said ``because``, version 2 did not shout."""
    upcasts = Upcasts()
    upcasts.register(TYPE, 1, because_to_reason)
    upcasts.register(TYPE, 2, shouted)
    return upcasts


@pytest.mark.parametrize(
    ("dataschema", "data"),
    [
        (None, {"because": "solved"}),
        (f"urn:vip-router:{TYPE}:1", {"because": "solved"}),
        ("https://example.com/our/own.json", {"because": "solved"}),
        (f"urn:vip-router:{TYPE}:2", {"reason": "solved"}),
        (f"urn:vip-router:{TYPE}:3", {"reason": "SOLVED"}),
    ],
)
def test_every_version_is_read_as_the_newest(upcasts: Upcasts, dataschema: Any, data: Any) -> None:
    assert decode_conversation(closed(data, dataschema), upcasts=upcasts).body == Closed(reason="SOLVED")


def test_a_version_newer_than_this_router_is_refused(upcasts: Upcasts) -> None:
    with pytest.raises(BadInputError, match="version 4 is newer than this router, which knows 3") as caught:
        decode_conversation(closed({}, f"urn:vip-router:{TYPE}:4"), upcasts=upcasts)
    assert caught.value.reason == "bad-envelope"


def test_without_upcasts_version_1_is_all_there_is() -> None:
    assert decode_conversation(closed({"reason": "x"}, f"urn:vip-router:{TYPE}:1")).body == Closed(reason="x")
    with pytest.raises(BadInputError, match="newer than this router"):
        decode_conversation(closed({"reason": "x"}, f"urn:vip-router:{TYPE}:2"))


@pytest.mark.parametrize("data", [{}, {"because": 5}, None])
def test_data_that_an_upcast_cannot_use_is_bad_data(upcasts: Upcasts, data: Any) -> None:
    with pytest.raises(BadInputError) as caught:
        decode_conversation(closed(data, None), upcasts=upcasts)
    assert caught.value.reason == "bad-data"


@pytest.mark.parametrize(
    "dataschema",
    ["urn:vip-router:message.received:1", f"urn:vip-router:{TYPE}:0", f"urn:vip-router:{TYPE}:01",
     f"urn:vip-router:{TYPE}:x", f"urn:vip-router:{TYPE}:", "urn:vip-router:", f"urn:vip-router:{TYPE}:" + "9" * 500],
)  # fmt: skip
def test_a_schema_of_ours_that_is_not_this_types_is_refused(dataschema: Any) -> None:
    with pytest.raises(BadInputError) as caught:
        schema_version(TYPE, dataschema)
    assert caught.value.reason == "bad-envelope"
    assert caught.value.detail.startswith("dataschema: ")


def test_what_an_upcast_is_given_stays_as_it_was(upcasts: Upcasts) -> None:
    data = {"because": "solved"}
    assert upcasts.apply(TYPE, None, data) == {"reason": "SOLVED"}
    assert data == {"because": "solved"}


@pytest.mark.parametrize("version", [0, 1, 2, 4])
def test_steps_are_registered_without_a_gap_and_once(upcasts: Upcasts, version: Any) -> None:
    with pytest.raises(ValueError, match="from version 3"):
        upcasts.register(TYPE, version, shouted)


def test_this_release_has_one_version_of_every_type() -> None:
    assert UPCASTS.newest(TYPE) == 1
