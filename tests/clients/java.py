"""The Java client: Apache Kafka's own console tools, which are in the jars that a broker process runs on.

They need a Java to run and none to compile, and nothing beside what ``tests/brokers/dist.py`` brings.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.brokers import dist
from tests.clients.wire import Wire

TIMEOUT_S = 120
PATIENCE_MS = 60_000
PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
TAB, HEADER_END, NAME_END = "\t", "\x1e", "\x1f"  # none of them is in JSON, nor in a header of ours
LOG4J = """\
Configuration:
  Appenders: {Console: {name: err, target: SYSTEM_ERR, PatternLayout: {Pattern: '%p %m%n'}}}
  Loggers: {Root: {level: ERROR, AppenderRef: {ref: err}}}
"""


def produce(bootstrap: str, topic: str, records: Sequence[Wire]) -> None:
    """Write records in order, partitioned as the client does by default; returns when all are acknowledged."""
    lines = "".join(
        f"{HEADER_END.join(NAME_END.join(header) for header in headers)}{TAB}{key}{TAB}{value}\n"
        for key, value, headers in records
    )
    reading = {
        "parse.key": "true",
        "parse.headers": "true",
        "headers.separator": HEADER_END,
        "headers.key.separator": NAME_END,
    }
    _run(PRODUCER, bootstrap, topic, *_properties("--reader-property", reading), stdin=lines)


def consume(bootstrap: str, topic: str, count: int) -> list[Wire]:
    """The first ``count`` records of the topic, in the order in which this client got them; without headers."""
    printing = {"print.key": "true", "print.value": "true", "print.headers": "false", "key.separator": TAB}
    out = _run(
        CONSUMER, bootstrap, topic, "--from-beginning", "--max-messages", str(count), "--timeout-ms", str(PATIENCE_MS),
        *_properties("--formatter-property", printing),
    )  # fmt: skip
    lines = [line.partition(TAB) for line in out.splitlines()]
    return [Wire(key, value) for key, _tab, value in lines]


def _properties(option: str, properties: dict[str, str]) -> list[str]:
    return [word for name, value in properties.items() for word in (option, f"{name}={value}")]


def _run(main: str, bootstrap: str, topic: str, *arguments: str, stdin: str = "") -> str:
    with tempfile.TemporaryDirectory() as folder:
        log4j = Path(folder, "log4j2.yaml")
        log4j.write_text(LOG4J)
        options = [f"-Dlog4j2.configurationFile={log4j}", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8"]
        java = [str(dist.JAVA), "-XX:TieredStopAtLevel=1", *options, "-cp", ":".join(map(str, dist.jars()))]
        done = subprocess.run(
            [*java, main, "--bootstrap-server", bootstrap, "--topic", topic, *arguments],
            input=stdin.encode(),
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    err = done.stderr.decode()
    assert done.returncode == 0, f"{main} ended with {done.returncode}: {err}"
    assert "ERROR" not in err, err
    return done.stdout.decode()
