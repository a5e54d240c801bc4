# Makes .venv with everything that vip-router needs; sourced by demo.sh and tests/run.sh, run from the top folder.
# Needs Python 3.11 or newer, or uv, and a package index that pip or uv can reach. Does nothing when all is there.
# usage: bash deploy/setup.sh, to run vip-router; or, in a script:
#        source deploy/setup.sh; setup_venv run|dev     (dev: with what the tests need, which serves to run, too)

setup_venv() {
  local stamp=.venv/.vip-router-setup made sums
  sums="$(cksum <uv.lock) $(cksum <pyproject.toml)"
  made=$(cat "$stamp" 2>/dev/null || true)
  if [ -x .venv/bin/vip-router ] && { [ "$made" = "$1 $sums" ] || [ "$made" = "dev $sums" ]; }; then
    return
  fi
  echo "vip-router: setting up .venv ..." >&2
  local uv=(uv)
  if ! command -v uv >/dev/null; then
    make_venv_with_uv || return
    uv=(.venv/bin/python -m uv)
  fi
  local group=--no-dev
  [ "$1" = dev ] && group=--dev
  "${uv[@]}" sync --quiet --frozen --inexact "$group" || return 3
  echo "$1 $sums" >"$stamp"
}

make_venv_with_uv() {
  local python
  if ! [ -x .venv/bin/python ]; then
    python=$(find_python) || {
      echo "vip-router needs Python 3.11 or newer, or uv (https://docs.astral.sh/uv/): install one of them" >&2
      return 2
    }
    "$python" -m venv .venv || {
      echo "vip-router: '$python -m venv' failed: install Python's venv module (Debian: python3-venv), or uv" >&2
      return 2
    }
  fi
  if ! .venv/bin/python -m uv --version >/dev/null 2>&1; then
    .venv/bin/python -m ensurepip --upgrade >/dev/null 2>&1 || true # a .venv that uv made has no pip
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$(uv_version)" || return 3
  fi
}

uv_version() { # stands in one place, with the image's
  sed -n 's/^ARG UV_VERSION=//p' deploy/Dockerfile
}

find_python() {
  local name
  for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
    if command -v "$name" >/dev/null &&
      "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  return 1
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  cd "$(dirname "$0")/.." || exit 3
  setup_venv run
fi
