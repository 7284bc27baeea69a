# Starts, restarts, kills and stops our broker for the suites. Sourced through suite.sh.
#
#   broker_up [ARGS...]   starts one unless BOOTSTRAP is set, or a cluster of $NODES; sets BOOTSTRAP, BROKER_PIDS, BROKER_DIR; cleans up at exit
#   broker_join NODE      starts another broker of the cluster, which does not vote
#   broker_alive          whether all of them run
#   broker_logs           the names of their logs
#   broker_stop           SIGTERM, and SIGKILL if that takes over 30 s
#
# NODES=3      three brokers that are one cluster, where whatever does not say otherwise is on all of them
# REPLICATION_FACTOR, MIN_INSYNC_REPLICAS  what suites give topics, and expect as a default: broker_up sets them; for a BOOTSTRAP they can be given (1, 1)
# BROKER_BIN   the binary; default target/release/broker, built when it is missing
# BROKER_TMP   where data goes; default tools/compat/.work (a real disk: tmpfs knows no O_DIRECT)
# BROKER_READY_SECONDS  how long a start may take (default 60)

# Groups settle and expire soon enough for tests; everything else is as it comes.
GROUP_SETTINGS=(BROKER_GROUP_INITIAL_REBALANCE_DELAY_MS=100
  BROKER_GROUP_CONSUMER_MIN_SESSION_TIMEOUT_MS=6000 BROKER_GROUP_CONSUMER_SESSION_TIMEOUT_MS=6000
  BROKER_GROUP_CONSUMER_MIN_HEARTBEAT_INTERVAL_MS=500 BROKER_GROUP_CONSUMER_HEARTBEAT_INTERVAL_MS=500)

NODES=${NODES:-1}
BROKER_PIDS=()
CLUSTER_ARGS=()
BROKER_DIR=${BROKER_DIR:-}
export REPLICATION_FACTOR=${REPLICATION_FACTOR:-1}
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
  local node voters=
  BROKER_DIR=$(mktemp -d "${BROKER_TMP:-$WORK}/broker.XXXXXX")
  BROKER_PORTS=()
  BOOTSTRAP=
  for ((node = 1; node <= NODES; node++)); do
    BROKER_PORTS+=("$(free_port)")
    BOOTSTRAP=${BOOTSTRAP:+$BOOTSTRAP,}127.0.0.1:${BROKER_PORTS[-1]}
    voters=${voters:+$voters,}$node@127.0.0.1:$(free_port)
  done
  export BOOTSTRAP REPLICATION_FACTOR=$NODES
  at_exit 'rm -rf "$BROKER_DIR"'
  at_exit broker_stop
  if [ "$NODES" -gt 1 ]; then
    # With three brokers and a client on few cores somebody may be silent for a while; how soon that is noticed is for other tests.
    (umask 077; head -c 32 /dev/urandom | base64 >"$BROKER_DIR/secret")
    set -- --memory 768M --set "controller_quorum_voters=$voters" --set "cluster_secret_file=$BROKER_DIR/secret" \
      --set "default_replication_factor=$NODES" --set "offsets_topic_replication_factor=$NODES" --set min.insync.replicas=2 \
      --set broker_session_timeout_ms=9000 "$@"
    export MIN_INSYNC_REPLICAS=2
    CLUSTER_ARGS=("$@")
  fi
  for ((node = 1; node <= NODES; node++)); do broker_start "$node" "$@"; done
  for ((node = 1; node <= NODES; node++)); do broker_wait "$node"; done
}

# broker_start NODE ARGS...
broker_start() {
  local node=$1 bin
  shift
  bin=$(broker_binary)
  # The broker takes variables named BROKER_* for settings.
  env -u BROKER_BIN -u BROKER_TMP -u BROKER_READY_SECONDS "${GROUP_SETTINGS[@]}" "$bin" --node-id "$node" --listen "127.0.0.1:${BROKER_PORTS[node - 1]}" \
    --admin "127.0.0.1:$(free_port)" --data-dir "$BROKER_DIR/data-$node" --ready-file "$BROKER_DIR/ready-$node" "$@" \
    >>"$BROKER_DIR/log-$node" 2>&1 </dev/null 9>&- &
  BROKER_PIDS[node - 1]=$!
}

broker_join() {
  BROKER_PORTS[$1 - 1]=$(free_port)
  broker_start "$1" "${CLUSTER_ARGS[@]}" --set process_roles=broker --set "cluster_listen=127.0.0.1:$(free_port)"
  broker_wait "$1"
}

# broker_wait NODE: until it lets clients in.
broker_wait() {
  local log=$BROKER_DIR/log-$1 deadline=$((SECONDS + ${BROKER_READY_SECONDS:-60}))
  until [ -f "$BROKER_DIR/ready-$1" ]; do
    if ! kill -0 "${BROKER_PIDS[$1 - 1]}" 2>/dev/null; then
      echo "the broker ended while it started; its last words:" >&2; tail -n 30 "$log" >&2; return 1
    fi
    if [ $SECONDS -ge $deadline ]; then
      echo "the broker did not answer within ${BROKER_READY_SECONDS:-60} s; its last words:" >&2; tail -n 30 "$log" >&2; return 1
    fi
    sleep 0.02
  done
}

broker_alive() { local pid; for pid in ${BROKER_PIDS[@]+"${BROKER_PIDS[@]}"}; do kill -0 "$pid" 2>/dev/null || return 1; done; }
broker_logs() { [ ${#BROKER_PIDS[@]} = 0 ] || ls "$BROKER_DIR"/log-*; }

# One after the other, so that each can hand over what it leads.
broker_stop() {
  local i pid
  for pid in ${BROKER_PIDS[@]+"${BROKER_PIDS[@]}"}; do
    kill -TERM "$pid" 2>/dev/null || true
    for i in $(seq 300); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    if kill -0 "$pid" 2>/dev/null; then echo "the broker did not stop within 30 s of SIGTERM: killed" >&2; kill -9 "$pid"; fi
    wait "$pid" 2>/dev/null || true
  done
  BROKER_PIDS=()
}
