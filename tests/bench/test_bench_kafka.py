"""The benchmark on Kafka runs, and what it counts exactly is right. No second is asserted: machines are noisy."""

from __future__ import annotations

from tests.bench import bench_kafka
from tests.bench.yardsticks import Chain
from tests.brokers.cluster import Cluster


def test_the_benchmark_on_kafka_measures_every_line(kafka: Cluster):
    """Each line counts what it has written against what the workflow needs, so a run that ends has done the work."""
    rows = bench_kafka.bench(kafka, conversations=30, rounds=1, rates=(20,), seconds=1, session_s=2)
    by_name = {row.what: row for row in rows}
    assert by_name["records/s: router lane"].beside.endswith("of copy")
    assert by_name["inputs/s: whole workflow"].beside.endswith("of full")
    for word in ("restore", "whole + broker", "router", "crm", "assigner", "broker", "p50", "p99", "take-over"):
        assert any(word in name for name in by_name), word


def test_the_full_yardstick_does_the_whole_workflow():
    """Of three inputs and the CRM's answer: four log records, three replies, one assignment, and the right route."""
    chain = Chain()
    common = {"id": "1", "partitionkey": "c", "subject": "v", "time": "t"}
    texts = ({"text": "why?"}, {"text": "sure, ann@example.com"})
    inputs = [
        {**common, "type": "conversation.opened", "data": {}},
        *({**common, "type": "message.received", "data": data} for data in texts),
        {**common, "type": "crm.answered", "data": {"variables": {"customer_type": "VIP"}}},
    ]
    made = [chain.take(event) for event in inputs]
    assert [logged["data"]["to"] for logged, _, _ in made] == [
        "awaiting-email", "email-retry-1", "fetching-crm", "routed-vip",
    ]  # fmt: skip
    assert sum(reply is not None for _, reply, _ in made) == 3
    assigned = [one for _, _, one in made if one is not None]
    assert [one["data"]["agent"] for one in assigned] == ["anna"]
