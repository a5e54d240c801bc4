#!/usr/bin/env bash
# Sets vip-router up in .venv and runs its demo; arguments go to `vip-router demo`.
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/setup.sh
setup_venv run
exec .venv/bin/vip-router demo "$@"
