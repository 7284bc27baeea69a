# Starts, restarts, kills and stops our broker for the suites. Sourced through suite.sh.
#
#   broker_up [ARGS...]   starts one unless BOOTSTRAP is set; sets BOOTSTRAP, BROKER_PID, BROKER_DIR; cleans up at exit
#   broker_start [ARGS]   (re)starts on the same port and data directory, returns when it answers ApiVersions
#   broker_kill           kill -9
#   broker_stop           SIGTERM, and SIGKILL if that takes over 30 s
#
# BROKER_BIN   the binary; default target/release/broker, built when it is missing
# BROKER_TMP   where data goes; default tools/compat/.work (a real disk: tmpfs knows no O_DIRECT)
# BROKER_READY_SECONDS  how long a start may take (default 60)

# Groups settle and expire soon enough for tests; everything else is as it comes.
GROUP_SETTINGS=(BROKER_GROUP_INITIAL_REBALANCE_DELAY_MS=100
  BROKER_GROUP_CONSUMER_MIN_SESSION_TIMEOUT_MS=6000 BROKER_GROUP_CONSUMER_SESSION_TIMEOUT_MS=6000
  BROKER_GROUP_CONSUMER_MIN_HEARTBEAT_INTERVAL_MS=500 BROKER_GROUP_CONSUMER_HEARTBEAT_INTERVAL_MS=500)

BROKER_PID=${BROKER_PID:-}
BROKER_DIR=${BROKER_DIR:-}
BROKER_CLEANUP=()

# at_exit COMMAND: runs at the end of the script, newest first, whatever the end is.
at_exit() { BROKER_CLEANUP=("$1" ${BROKER_CLEANUP[@]+"${BROKER_CLEANUP[@]}"}); }
_run_at_exit() { local status=$? c; trap - EXIT; for c in ${BROKER_CLEANUP[@]+"${BROKER_CLEANUP[@]}"}; do eval "$c" || true; done; exit $status; }
trap _run_at_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

free_port() { python3 "$COMPAT/lib/python/ports.py"; }

# broker_binary: prints the path of the binary and builds it first when there is none.
broker_binary() {
  if [ -n "${BROKER_BIN:-}" ]; then echo "$BROKER_BIN"; return; fi
  local bin=${CARGO_TARGET_DIR:-$REPO/target}/release/broker
  if [ ! -x "$bin" ]; then
    echo "building the broker ..." >&2
    (cd "$REPO" && cargo build --release --locked --bin broker) >&2
  fi
  echo "$bin"
}

broker_up() {
  [ -n "${BOOTSTRAP:-}" ] && return 0
  BROKER_DIR=$(mktemp -d "${BROKER_TMP:-$WORK}/broker.XXXXXX")
  BROKER_PORT=$(free_port)
  BROKER_ADMIN_PORT=$(free_port)
  export BOOTSTRAP=127.0.0.1:$BROKER_PORT
  at_exit 'rm -rf "$BROKER_DIR"'
  at_exit broker_stop
  broker_start "$@"
}

broker_start() {
  local bin deadline
  bin=$(broker_binary)
  # The broker takes variables named BROKER_* for settings.
  env -u BROKER_BIN -u BROKER_TMP -u BROKER_READY_SECONDS "${GROUP_SETTINGS[@]}" "$bin" --listen "127.0.0.1:$BROKER_PORT" --admin "127.0.0.1:$BROKER_ADMIN_PORT" --data-dir "$BROKER_DIR/data" "$@" \
    >>"$BROKER_DIR/log" 2>&1 </dev/null 9>&- &
  BROKER_PID=$!
  deadline=$((SECONDS + ${BROKER_READY_SECONDS:-60}))
  until python3 "$COMPAT/lib/python/ready.py" "$BOOTSTRAP"; do
    if ! kill -0 "$BROKER_PID" 2>/dev/null; then
      echo "the broker ended while it started; its last words:" >&2; tail -n 30 "$BROKER_DIR/log" >&2; BROKER_PID=; return 1
    fi
    if [ $SECONDS -ge $deadline ]; then
      echo "the broker did not answer within ${BROKER_READY_SECONDS:-60} s; its last words:" >&2; tail -n 30 "$BROKER_DIR/log" >&2; return 1
    fi
    sleep 0.02
  done
}

broker_kill() { [ -n "$BROKER_PID" ] || return 0; kill -9 "$BROKER_PID" 2>/dev/null || true; wait "$BROKER_PID" 2>/dev/null || true; BROKER_PID=; }

broker_stop() {
  [ -n "$BROKER_PID" ] || return 0
  local i
  kill -TERM "$BROKER_PID" 2>/dev/null || true
  for i in $(seq 300); do kill -0 "$BROKER_PID" 2>/dev/null || break; sleep 0.1; done
  if kill -0 "$BROKER_PID" 2>/dev/null; then echo "the broker did not stop within 30 s of SIGTERM: killed" >&2; kill -9 "$BROKER_PID"; fi
  wait "$BROKER_PID" 2>/dev/null || true
  BROKER_PID=
}
