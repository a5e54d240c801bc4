#!/usr/bin/env bash
# Sets vip-router up in .venv and runs every check: style, types, tests. The test runner's summary comes last.
# Arguments go to pytest. VIP_ROUTER_TESTS: run these tests alone (separated by blanks).
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/setup.sh
setup_venv dev

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
read -ra only <<<"${VIP_ROUTER_TESTS:-}"
exec .venv/bin/python -m pytest "${only[@]}" "$@"
