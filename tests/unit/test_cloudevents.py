"""Bytes and headers become a checked envelope, or are refused with the reason and without a word of the content."""

from __future__ import annotations

import json
import time
from typing import Any, get_args

import orjson
import pytest

from events.cloudevents import (
    DEPTH_MAX,
    STRUCTURED_HEADERS,
    BadInputError,
    Reason,
    envelope,
    open_envelope,
    parse_object,
)
from events.topics import INPUT_BYTES_MAX

NOON = "2026-11-22T12:00:00.000Z"
NOON_MS = 1_795_348_800_000


def event(**changes: Any) -> Any:
    """A plain event; a change to None leaves the attribute out."""
    values: dict[str, Any] = {
        "specversion": "1.0",
        "id": "m1",
        "source": "/chat",
        "type": "message.received",
        "subject": "v1",
        "time": NOON,
        "partitionkey": "c1",
        "data": {"text": "hi"},
    }
    values.update(changes)
    return orjson.dumps({name: value for name, value in values.items() if value is not None})


def refused(raw: Any, headers: Any = (), **options: Any) -> Any:
    with pytest.raises(BadInputError) as caught:
        open_envelope(raw, headers, **options)
    assert caught.value.reason in get_args(Reason)
    assert caught.value.detail
    return caught.value


def nested(depth: Any) -> Any:
    """An event with exactly ``depth`` containers inside one another: itself, ``data``, and arrays."""
    return event(data={"x": None}).replace(b"null", b"[" * (depth - 2) + b"]" * (depth - 2))


def test_an_event_in_structured_mode_is_taken_with_or_without_content_type() -> None:
    plain = open_envelope(event())
    assert (plain.id, plain.source, plain.type, plain.subject) == ("m1", "/chat", "message.received", "v1")
    assert (plain.time_ms, plain.partitionkey, plain.workspace) == (NOON_MS, "c1", None)
    assert plain.data == {"text": "hi"}
    assert open_envelope(event(), STRUCTURED_HEADERS) == plain
    assert open_envelope(event(), (("Content-Type", b"application/CloudEvents+json; charset=UTF-8"),)) == plain
    assert open_envelope(event(), (("content-type", b"application/json"),)) == plain


def test_optional_attributes_may_be_absent_or_null() -> None:
    raw = b'{"specversion":"1.0","id":"1","source":"s","type":"t","subject":null,"time":null,"data":null}'
    opened = open_envelope(raw)
    assert (opened.subject, opened.time_ms, opened.partitionkey, opened.dataschema) == (None, None, None, None)
    assert opened.data == {}


def test_extension_attributes_that_we_do_not_know_are_ignored() -> None:
    assert open_envelope(event(traceparent="00-x", sequence=7)) == open_envelope(event())


class TestBinaryMode:
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"m1"),
        ("ce_source", b"/chat"),
        ("ce_type", b"message.received"),
        ("ce_subject", b"v1"),
        ("ce_time", NOON.encode()),
        ("ce_partitionkey", b"c1"),
        ("content-type", b"application/json; charset=utf-8"),
        ("other", b"\xff\x00"),
    )

    def test_it_says_the_same_as_structured_mode(self) -> None:
        assert open_envelope(b'{"text":"hi"}', self.headers) == open_envelope(event())

    @pytest.mark.parametrize("value", [None, b"", b"{}"])
    def test_no_value_is_no_data(self, value: Any) -> None:
        assert open_envelope(value, self.headers).data == {}

    def test_a_header_that_stands_twice_is_refused(self) -> None:
        assert refused(b"{}", (*self.headers, ("ce_id", b"m2"))).reason == "duplicate-keys"

    def test_a_header_that_is_not_utf_8_is_refused(self) -> None:
        assert refused(b"{}", (*self.headers, ("ce_workspace", b"\xff"))).reason == "bad-envelope"

    def test_data_of_another_format_is_refused(self) -> None:
        headers = (*self.headers[:-2], ("content-type", b"application/avro"))
        assert refused(b"{}", headers).detail.startswith("datacontenttype")

    @pytest.mark.parametrize(("value", "reason"), [(b"hi", "not-json"), (b'"hi"', "not-an-object")])
    def test_a_value_that_is_no_json_object_is_refused(self, value: Any, reason: str) -> None:
        assert refused(value, self.headers).reason == reason

    def test_headers_count_against_the_size(self) -> None:
        headers = (*self.headers, ("x", b"1" * INPUT_BYTES_MAX))
        assert refused(b"{}", headers).reason == "too-large"

    def test_a_cloudevents_content_type_means_structured_mode(self) -> None:
        headers = (*self.headers[:-2], *STRUCTURED_HEADERS)
        assert refused(b'{"text":"hi"}', headers).detail.startswith("no specversion")


@pytest.mark.parametrize(
    ("content_type", "says"),
    [
        (b"application/cloudevents-batch+json", "batch"),
        (b"application/cloudevents+avro", "only application/cloudevents+json"),
        (b"application/cloudevents+protobuf; x=y", "only application/cloudevents+json"),
    ],
)
def test_other_cloudevents_formats_are_refused(content_type: bytes, says: str) -> None:
    error = refused(event(), (("content-type", content_type),))
    assert error.reason == "bad-envelope"
    assert says in error.detail


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"   ", b"hello", b"{", b"{}{}", b"{'id':1}", b'{"a":1,}', b"\xef\xbb\xbf{}", b"NaN", b'{"x":NaN}',
        b'{"x":Infinity}', b'{"x":-Infinity}', b'{"x":1e999}', b'{"x":01}', b'{"x":"\\ud800"}',
        b'{"x":"\\udc00\\ud800"}', b'{"x":"\xff"}', b'{"x":"\xed\xa0\x80"}', b'{"x":"a\nb"}', b'{"x":"a\x00b"}',
        "{}".encode("utf-16"), None,
    ],
)  # fmt: skip
def test_what_is_not_json_is_refused(raw: bytes) -> None:
    assert refused(raw).reason == "not-json"


@pytest.mark.parametrize("raw", [b"null", b"1", b'"x"', b"true", b"[]", b"[{}]"])
def test_json_that_is_no_object_is_refused(raw: bytes) -> None:
    assert refused(raw).reason == "not-an-object"


def test_a_batch_is_refused_in_so_many_words() -> None:
    assert "batches are not taken" in refused(b"[" + event() + b"]").detail


class TestLimits:
    def test_the_largest_event_is_taken_and_one_byte_more_is_not(self) -> None:
        raw = event(data={"text": ""})
        fits = raw.replace(b'"text":""', b'"text":"' + b"x" * (INPUT_BYTES_MAX - len(raw)) + b'"')
        assert len(fits) == INPUT_BYTES_MAX
        assert open_envelope(fits).data["text"].startswith("x")
        assert refused(fits + b" ").reason == "too-large"

    def test_headers_of_a_structured_event_do_not_count(self) -> None:
        raw = event(data={"text": ""})
        fits = raw.replace(b'"text":""', b'"text":"' + b"x" * (INPUT_BYTES_MAX - len(raw)) + b'"')
        assert open_envelope(fits, (*STRUCTURED_HEADERS, ("trace", b"1" * 500))).id == "m1"

    def test_ten_megabytes_are_refused_before_they_are_read(self) -> None:
        assert refused(b'{"x":"' + b"x" * 10_000_000 + b'"}').reason == "too-large"

    def test_the_deepest_event_is_taken_and_one_level_more_is_not(self) -> None:
        assert open_envelope(nested(DEPTH_MAX)).id == "m1"
        assert refused(nested(DEPTH_MAX + 1)).reason == "too-deep"

    @pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"":'])
    def test_depth_of_a_hundred_thousand_is_refused(self, opening: bytes) -> None:
        assert refused((opening * 100_000)[:INPUT_BYTES_MAX]).reason == "too-deep"

    def test_a_deep_event_that_is_closed_is_too_deep_as_well(self) -> None:
        assert refused(nested(100_000)).reason == "too-deep"

    def test_many_brackets_are_no_depth(self) -> None:
        data = {"list": [{}] * 500, "text": "[[[{{{" * 100, 'quoted"[[\\"': "\\" * 40 + '"[[[' * 40}
        assert open_envelope(event(data=data)).data == data

    @pytest.mark.parametrize("piece", [b'"', b'\\"', b'"\\', b"\\", b'"[', b'\\"{'])
    def test_counting_depth_costs_no_more_on_hostile_text_than_on_brackets(self, piece: bytes) -> None:
        """Quotes without end: a pattern that looks again from each one would need a hundred times as long."""

        def cost(body: Any) -> Any:
            raw = (b"[" * 70 + body * 20_000)[:20_000]
            started = time.process_time()
            refused(raw)
            return time.process_time() - started

        assert cost(piece) < 20 * cost(b'"[')


class TestDuplicateKeys:
    @pytest.mark.parametrize(
        "raw",
        [
            b'{"a":1,"a":1}',
            b'{"a":1,"a":2}',
            b'{ "a" : 1 , "a" : 2 }',
            b'{"a":1,"\\u0061":2}',
            b'{"x":{"a":1,"b":2,"a":3}}',
            b'{"x":[1,{"a":1,"a":1}]}',
            b'{"a":1,"a":"x","b":"\\u003a"}',  # as many colons as without the duplicate
            b'{"a":1,"a":"x","b":"\\u003A:"}',
            b'{"a":":","a":"::"}',
            b'{"":1,"":2}',
            '{"é":1,"\\u00e9":2}'.encode(),
        ],
    )
    def test_they_are_refused_wherever_they_stand(self, raw: bytes) -> None:
        assert refused(raw).reason == "duplicate-keys"

    @pytest.mark.parametrize(
        "raw",
        [
            b'{"a":{"a":{"a":1}}}',
            b'{"x":[{"a":1},{"a":1}]}',
            b'{ "a": "b:c", "d": ":" }',
            b'{"a":"\\u003a","b":"\\u003A:"}',
            b'{"a":"\\\\u003a"}',
            b'{"a":1.0e1,"b":18446744073709551615,"c":-0.0,"d":1e300}',
            '{"é":"\\u00e9"}'.encode(),
        ],
    )
    def test_other_objects_are_read_as_they_are(self, raw: bytes) -> None:
        assert parse_object(raw) == json.loads(raw)

    def test_numbers_without_end_do_not_stop_the_search(self) -> None:
        """The standard library refuses to read whole numbers of more than 4,300 digits; here they only stand by."""
        digits = b"0." + b"1" * 5000
        assert refused(b'{"a":' + digits + b',"a":1}').reason == "duplicate-keys"


class TestIds:
    @pytest.mark.parametrize("field", ["id", "subject", "partitionkey", "workspace"])
    @pytest.mark.parametrize(("number", "text"), [(7, "7"), (-7, "-7"), (0, "0"), (2**64 - 1, str(2**64 - 1))])
    def test_whole_numbers_are_read_as_text(self, field: str, number: int, text: str) -> None:
        assert getattr(open_envelope(event(**{field: number})), field) == text

    @pytest.mark.parametrize("field", ["id", "subject", "partitionkey", "workspace"])
    @pytest.mark.parametrize(
        "value", [b"true", b"1.0", b"1.5", b"1e3", b"123456789012345678901234567890", b"[]", b"{}", b'""']
    )
    def test_nothing_else_is(self, field: str, value: Any) -> None:
        raw = event(**{field: "MARK"}).replace(b'"MARK"', value)
        error = refused(raw)
        assert error.reason == "bad-envelope"
        assert error.detail.startswith(f"{field}: ")

    def test_a_number_that_json_readers_round_is_told_to_be_sent_as_text(self) -> None:
        error = refused(event(id="MARK").replace(b'"MARK"', b"123456789012345678901234567890"))
        assert error.detail == "id: an id is a string, or a whole number of at most 64 bits: send it as a string"

    @pytest.mark.parametrize("field", ["id", "subject", "partitionkey", "workspace"])
    @pytest.mark.parametrize("text", ["a\x00b", "\n", "a\x7f", "\x85b"])
    def test_control_characters_are_refused(self, field: str, text: str) -> None:
        error = refused(event(**{field: text}))
        assert (error.reason, error.detail.split(":")[0]) == ("bad-envelope", field)

    @pytest.mark.parametrize("text", ["a b", "é", "日本", "👩‍👩‍👧", "a\u00a0b", "a/b%"])
    def test_any_other_text_is_taken_as_it_is(self, text: str) -> None:
        assert open_envelope(event(id=text, partitionkey=text)).partitionkey == text

    @pytest.mark.parametrize("field", ["id", "subject", "partitionkey", "workspace"])
    def test_256_characters_are_taken_and_257_are_not(self, field: str) -> None:
        assert getattr(open_envelope(event(**{field: "é" * 256})), field) == "é" * 256
        assert refused(event(**{field: "é" * 257})).reason == "bad-envelope"

    def test_ids_of_our_own_may_be_longer(self) -> None:
        assert open_envelope(event(id="x" * 8192), id_chars_max=8192).id == "x" * 8192
        assert refused(event(id="x" * 8193), id_chars_max=8192).reason == "bad-envelope"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"specversion": None}, "no specversion"),
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": 1.0}, "specversion"),
        ({"id": None}, "`id`"),
        ({"source": None}, "`source`"),
        ({"type": None}, "`type`"),
        ({"source": ""}, "source"),
        ({"source": "a\x00"}, "source"),
        ({"source": "x" * 1025}, "source"),
        ({"type": 5}, "type"),
        ({"time": 1_795_348_800}, "time"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-11-22 12:00:00"}, "time"),
        ({"datacontenttype": "text/xml"}, "datacontenttype"),
        ({"data_base64": "e30="}, "data_base64"),
    ],
)
def test_a_bad_envelope_is_refused_naming_the_attribute(changes: Any, says: str) -> None:
    error = refused(event(**changes))
    assert error.reason == "bad-envelope"
    assert says in error.detail


@pytest.mark.parametrize("content", ["application/json", "application/json; charset=utf-8", "application/vnd.x+JSON"])
def test_json_by_any_name_is_taken(content: str) -> None:
    assert open_envelope(event(datacontenttype=content)).data == {"text": "hi"}


@pytest.mark.parametrize("data", ["text", 5, [], [{}], True])
def test_data_that_is_no_object_is_bad_data(data: Any) -> None:
    assert refused(event(data=data)).reason == "bad-data"


def test_the_error_never_quotes_the_record() -> None:
    secret = "ann@acme.com"
    for raw in (
        secret.encode(),
        event(time=secret),
        event(specversion=secret),
        event(datacontenttype=secret),
        event(id=secret + "\x00"),
        event(id={secret: secret}),
        event(data=secret),
        f'{{"{secret}":1,"{secret}":2}}'.encode(),
    ):
        assert secret not in str(refused(raw))


class TestEnvelope:
    def test_the_bytes_are_canonical(self) -> None:
        raw = envelope(
            id="c1/v1/3/0",
            source="/vip-router/default/routing",
            type="email.accepted",
            subject="v1",
            time_ms=NOON_MS,
            partitionkey="c1",
            workspace="default",
            data={"run": 1, "seq": 3},
        )
        assert raw == (
            b'{"specversion":"1.0","id":"c1/v1/3/0","source":"/vip-router/default/routing","type":"email.accepted",'
            b'"subject":"v1","time":"2026-11-22T12:00:00.000Z","datacontenttype":"application/json",'
            b'"dataschema":"urn:vip-router:email.accepted:1","partitionkey":"c1","workspace":"default",'
            b'"data":{"run":1,"seq":3}}'
        )

    def test_what_is_none_is_left_out(self) -> None:
        raw = envelope(
            id="1", source="s", type="t", subject=None, time_ms=0, partitionkey=None, workspace=None, data={}, version=3
        )
        assert list(orjson.loads(raw)) == ["specversion", "id", "source", "type", "time", "datacontenttype",
                                           "dataschema", "data"]  # fmt: skip
        assert b'"urn:vip-router:t:3"' in raw

    def test_it_can_expire(self) -> None:
        raw = envelope(
            id="1", source="s", type="t", subject="v", time_ms=0, partitionkey="c", workspace="w", data={},
            expiry_ms=NOON_MS,
        )  # fmt: skip
        assert orjson.loads(raw)["expirytime"] == NOON

    def test_what_is_written_can_be_read(self) -> None:
        raw = envelope(
            id="1", source="/s", type="t", subject="v", time_ms=NOON_MS, partitionkey="c", workspace="w",
            data={"x": ["é:", None]},
        )  # fmt: skip
        opened = open_envelope(raw)
        assert (opened.time_ms, opened.subject, opened.data) == (NOON_MS, "v", {"x": ["é:", None]})
        assert opened.dataschema == "urn:vip-router:t:1"
