#!/usr/bin/env bash
# Sets vip-router up in .venv and runs every check: style, types, tests. The test runner's summary comes last.
# Arguments go to pytest. VIP_ROUTER_TESTS: run these tests alone (separated by blanks).
# The tests run on real Kafka brokers. VIP_ROUTER_TEST_BROKERS=containers|processes: what they are made of; without it,
# containers where a Docker engine can be had without installing one, else processes.
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/setup.sh
setup_venv dev
source tests/brokers/engine.sh

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
trap stop_engine EXIT
start_engine
read -ra only <<<"${VIP_ROUTER_TESTS:-}"
.venv/bin/python -m pytest "${only[@]}" "$@"
