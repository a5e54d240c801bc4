# Brings a Docker engine for the tests' brokers where there is none; sourced by tests/run.sh, from the top folder.
# VIP_ROUTER_TEST_BROKERS=processes: does nothing. =containers: installs one if need be (Debian, as root), or fails.
# Neither: starts one where it is installed and we are root; without one, brokers run as processes.
# The engine has folders of its own and is reached by DOCKER_HOST alone; stop_engine ends it and removes them.
# usage: source tests/brokers/engine.sh; trap stop_engine EXIT; start_engine

engine_folder= engine_pid=

start_engine() {
  local asked=${VIP_ROUTER_TEST_BROKERS:-}
  if [ "$asked" = processes ] || engine_answers; then
    return
  fi
  if [ "$(id -u)" != 0 ]; then
    [ "$asked" != containers ] || engine_missing "and only root can start one"
    return
  fi
  if [ "$asked" = containers ] && ! command -v dockerd >/dev/null; then
    command -v apt-get >/dev/null || engine_missing "and it is not installed" || return
    echo "vip-router: installing a Docker engine ..." >&2
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends docker.io iptables; } >/dev/null ||
      engine_missing "and apt-get cannot install one" || return
  fi
  command -v dockerd >/dev/null || return 0
  run_dockerd || { [ "$asked" != containers ] || engine_missing "and dockerd does not start (see above)"; }
}

stop_engine() {
  [ -n "$engine_pid" ] || return 0
  kill "$engine_pid" 2>/dev/null || true
  wait "$engine_pid" 2>/dev/null || true
  umount "$engine_folder"/exec/netns/* 2>/dev/null || true # what containers on the host's network leave
  rm -rf "$engine_folder"
  engine_pid=
}

engine_answers() {
  .venv/bin/python -c 'import docker; docker.from_env(timeout=5).ping()' 2>/dev/null
}

engine_missing() {
  echo "vip-router: no Docker engine answers, $1: start one, or set VIP_ROUTER_TEST_BROKERS=processes" >&2
  return 4
}

run_dockerd() {
  local guard=()
  ! command -v setpriv >/dev/null || guard=(setpriv --pdeathsig TERM --) # ends with this shell, whatever ends it
  engine_folder=$(mktemp -d /var/tmp/vip-router-docker.XXXXXX)           # not in /tmp: memory on some machines
  "${guard[@]}" dockerd --host "unix://$engine_folder/docker.sock" --data-root "$engine_folder/data" \
    --exec-root "$engine_folder/exec" --pidfile "$engine_folder/pid" >"$engine_folder/log" 2>&1 &
  engine_pid=$!
  export DOCKER_HOST="unix://$engine_folder/docker.sock"
  local tries=0
  until engine_answers; do
    tries=$((tries + 1))
    if [ "$tries" -gt 100 ] || ! kill -0 "$engine_pid" 2>/dev/null; then
      tail -n 5 "$engine_folder/log" >&2
      unset DOCKER_HOST
      stop_engine
      return 4
    fi
    sleep 0.2
  done
}
