#!/usr/bin/env bash
# Three brokers on this machine that are one cluster, for trying things out.
#
#   tools/cluster/cluster.sh start [DIR]   starts them, with everything in DIR (default: ./cluster), and waits until they are ready
#   tools/cluster/cluster.sh stop  [DIR]   stops them in good order
#   tools/cluster/cluster.sh kill N [DIR]  kills node N without warning, as a crash would
#   tools/cluster/cluster.sh start [DIR]   starts those that do not run again
#   tools/cluster/cluster.sh status [DIR]  says which run
#
# Clients: 127.0.0.1:9092, :9093, :9094. Between the nodes: 19092-19094. HTTP: 9644-9646. BASE_PORT, NODES, MEMORY and BROKER (the binary) can be set
# in the environment.
set -euo pipefail

nodes=${NODES:-3}
base=${BASE_PORT:-9092}
memory=${MEMORY:-512M}
broker=${BROKER:-$(command -v broker || echo "$(dirname "$0")/../../target/release/broker")}

usage() {
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    exit 2
}

is_running() { # NODE
    local state
    # One that has ended may still have a number.
    [[ -f $dir/$1/pid ]] && state=$(ps -o stat= -p "$(<"$dir/$1/pid")") && [[ $state != Z* ]]
}

voters() {
    local list=()
    for ((n = 1; n <= nodes; n++)); do list+=("$n@127.0.0.1:$((base + 10000 + n - 1))"); done
    (IFS=,; echo "${list[*]}")
}

start_node() { # NODE
    local home=$dir/$1
    mkdir -p "$home"
    rm -f "$home/ready.json"
    "$broker" --node-id "$1" --data-dir "$home/data" --ready-file "$home/ready.json" --memory "$memory" \
        --listen "127.0.0.1:$((base + $1 - 1))" --admin "127.0.0.1:$((9644 + base - 9092 + $1 - 1))" \
        --set "controller_quorum_voters=$(voters)" --set "cluster_secret_file=$dir/secret" \
        >"$home/out" 2>>"$home/log" &
    echo $! >"$home/pid"
}

start() {
    [[ -x $broker ]] || { echo "no broker at $broker: cargo build --release --bin broker, or set BROKER" >&2; exit 1; }
    mkdir -p "$dir"
    if [[ ! -f $dir/secret ]]; then
        (umask 077; head -c 32 /dev/urandom | base64 >"$dir/secret")
    fi
    local started=()
    for ((n = 1; n <= nodes; n++)); do
        is_running "$n" || { start_node "$n"; started+=("$n"); }
    done
    for n in "${started[@]}"; do
        until [[ -f $dir/$n/ready.json ]]; do
            is_running "$n" || { echo "node $n has ended:" >&2; tail -n 5 "$dir/$n/log" >&2; exit 1; }
            sleep 0.1
        done
    done
    status
}

status() {
    for ((n = 1; n <= nodes; n++)); do
        if is_running "$n"; then
            echo "node $n runs (pid $(<"$dir/$n/pid")), clients at 127.0.0.1:$((base + n - 1)), log in $dir/$n/log"
        else
            echo "node $n does not run"
        fi
    done
}

stop() {
    local pids=()
    # One after the other, so that each can hand over what it leads.
    for ((n = 1; n <= nodes; n++)); do
        is_running "$n" || continue
        pids+=("$(<"$dir/$n/pid")")
        kill "${pids[-1]}"
        while is_running "$n"; do sleep 0.1; done
    done
    echo "stopped ${#pids[@]} nodes"
}

command=${1:-}
case $command in
    start | stop | status)
        dir=$(realpath -m "${2:-cluster}")
        "$command"
        ;;
    kill)
        [[ ${2:-} =~ ^[0-9]+$ ]] || usage
        dir=$(realpath -m "${3:-cluster}")
        is_running "$2" || { echo "node $2 does not run" >&2; exit 1; }
        kill -9 "$(<"$dir/$2/pid")"
        while is_running "$2"; do sleep 0.1; done
        echo "killed node $2"
        ;;
    *) usage ;;
esac
