# Shared by every suite and scenario: where things are, what is missing, and a broker to talk to.
# Source it from a bash script: . "$(dirname "$0")/../lib/suite.sh"
#
# BOOTSTRAP=host:port   talk to that broker; when it is not set, `broker_up` starts one of ours (lib/broker.sh)
# CI                    when set, a missing toolchain is a failure and not a skip
set -euo pipefail

COMPAT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
REPO=$(cd "$COMPAT/../.." && pwd)
# Everything that is built, installed or written by the suites; ignored by git.
WORK=$COMPAT/.work
mkdir -p "$WORK"

. "$COMPAT/lib/broker.sh"

# missing WHAT: says what a suite cannot do without, and ends.
missing() {
  echo "skipped: no $1"
  [ -z "${CI:-}" ] || { echo "a missing toolchain fails in CI"; exit 1; }
  exit 0
}
# need COMMAND [WHERE FROM]: the toolchain that a suite cannot do without.
need() { command -v "$1" >/dev/null 2>&1 || missing "$1${2:+ ($2)}"; }

# need_kcat: the one client that comes from the distribution; installs it where that is possible.
need_kcat() {
  command -v kcat >/dev/null 2>&1 && return 0
  if [ -n "${CI:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq kcat >/dev/null
  fi
  need kcat "apt-get install kcat"
}

# stamped NAME FILE...: true when NAME was marked done for exactly these files' contents (see stamp).
stamped() { local name=$1; shift; [ -f "$WORK/$name.stamp" ] && [ "$(cat "$WORK/$name.stamp")" = "$(cat "$@" | sha256sum)" ]; }
stamp() { local name=$1; shift; cat "$@" | sha256sum >"$WORK/$name.stamp"; }

# need_python: a virtual environment with the pinned clients of lib/python/requirements.txt; sets PYTHON.
need_python() {
  need python3
  local requirements=$COMPAT/lib/python/requirements.txt
  PYTHON=$WORK/venv/bin/python
  export PYTHONPATH=$COMPAT/lib/python PYTHONDONTWRITEBYTECODE=1
  (
    flock 9
    stamped venv "$requirements" && [ -x "$PYTHON" ] && exit 0
    rm -rf "$WORK/venv"
    python3 -m venv "$WORK/venv"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$requirements"
    stamp venv "$requirements"
  ) 9>"$WORK/venv.lock"
}

# need_java: the jars that the pom of the folder names, copied beside it; sets CLASSPATH_DIR. usage: need_java FOLDER
need_java() {
  need java; need javac; need mvn
  local dir=$1 name
  name=$(basename "$dir")
  CLASSPATH_DIR=$WORK/$name-libs
  (
    flock 9
    stamped "$name" "$dir/pom.xml" && [ -d "$CLASSPATH_DIR" ] && exit 0
    rm -rf "$CLASSPATH_DIR"
    mvn -q -B -f "$dir/pom.xml" -DoutputDirectory="$CLASSPATH_DIR" dependency:copy-dependencies >"$WORK/$name-mvn.log" 2>&1 ||
      { cat "$WORK/$name-mvn.log"; exit 1; }
    stamp "$name" "$dir/pom.xml"
  ) 9>"$WORK/$name.lock"
}

# compile_java FOLDER: compiles the folder's src against the jars of need_java; sets CLASSES_DIR.
compile_java() {
  local dir=$1 name
  name=$(basename "$dir")
  CLASSES_DIR=$WORK/$name-classes
  (
    flock 9
    stamped "$name-classes" "$dir/pom.xml" "$dir"/src/*.java && exit 0
    rm -rf "$CLASSES_DIR"
    mkdir -p "$CLASSES_DIR"
    javac -Xlint:all -Werror -d "$CLASSES_DIR" -cp "$CLASSPATH_DIR/*" "$dir"/src/*.java
    stamp "$name-classes" "$dir/pom.xml" "$dir"/src/*.java
  ) 9>"$WORK/$name-classes.lock"
}

# agent_of CLIENT: the command that starts an agent of the client (groups/agent.py), once its `run` has installed it.
agent_of() {
  case $1 in
    kcat) echo "python3 $COMPAT/groups/agent_kcat.py" ;;
    confluent-kafka) echo "$PYTHON $COMPAT/groups/agent_confluent.py" ;;
    kafka-python) echo "$PYTHON $COMPAT/groups/agent_kafka_python.py" ;;
    aiokafka) echo "$PYTHON $COMPAT/groups/agent_aiokafka.py" ;;
    franz-go) echo "$WORK/franz-go agent" ;;
    rdkafka) echo "$WORK/rdkafka-target/release/compat-rdkafka agent" ;;
    kafkajs) echo "node $COMPAT/kafkajs/agent.js" ;;
  esac
}

# client_suite CLIENT COMMAND...: what the client shows by itself, then its groups; closes with the sum of both.
# With ADMIN set, the agent of that client does what this one cannot.
client_suite() {
  local client=$1; shift
  {
    local status=0
    "$@" || status=1
    group_suite "$client" || status=1
    [ $status = 0 ]
  } | sum_up
}
# sum_up: one closing line instead of several.
sum_up() {
  awk '/^[0-9]+ passed, [0-9]+ failed/ { passed += $1; failed += $3; skipped += $5; next }
    { print; fflush() }
    END { print passed + 0 " passed, " failed + 0 " failed" (skipped ? ", " skipped " skipped" : "") }'
}
group_suite() {
  need python3
  PYTHONPATH=$COMPAT/lib/python PYTHONDONTWRITEBYTECODE=1 python3 "$COMPAT/groups/groups.py" "$1" "$(agent_of "$1")" ${ADMIN:+"$(agent_of "$ADMIN")"}
}

# data_file: the records that every client writes and reads (lib/python/dataset.py); sets DATA and NULLS.
data_file() {
  DATA=$WORK/data.tsv
  NULLS=$WORK/nulls.tsv
  dataset "$DATA"
  dataset "$NULLS" nulls
}

# dataset FILE [WHICH]: others may be writing the same file, and in a namespace of their own under the same process id.
dataset() {
  local file=$1 made
  shift
  made=$(mktemp "$file.XXXXXX")
  PYTHONDONTWRITEBYTECODE=1 python3 "$COMPAT/lib/python/dataset.py" "$@" >"$made" && mv "$made" "$file"
}
