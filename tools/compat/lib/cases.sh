# Test cases of the suites that are shell scripts. Source it after suite.sh.
#
#   suite_named NAME          what the lines begin with; makes the folder $scratch, removed at exit
#   test_case NAME FUNCTION   the function's exit status is the verdict; what it printed is shown when it failed
#   has FILE TEXT, lacks FILE TEXT, equals GOT WANTED [WHAT]
#   eventually SECONDS COMMAND...   until it succeeds; fails, with what it printed last, when it does not in time
#   verdict                   'N passed, N failed', and the exit status

passed=0
failed=0

suite_named() {
  suite_name=$1
  scratch=$(mktemp -d "$WORK/$suite_name.XXXXXX")
  at_exit 'rm -rf "$scratch"'
}

test_case() {
  local started=$SECONDS status=0
  # Not in a condition: there `set -e` would not stop at the first failure within.
  (set -euo pipefail; "$2") >"$scratch/out" 2>&1 & wait $! || status=$?
  if [ $status = 0 ]; then
    passed=$((passed + 1)); echo "ok $suite_name: $1 ($((SECONDS - started)) s)"
  else
    failed=$((failed + 1)); echo "FAILED $suite_name: $1 ($((SECONDS - started)) s)"; tail -n 25 "$scratch/out"
  fi
}

has() { grep -qF -- "$2" "$1" || { echo "'$2' is not in:"; cat "$1"; return 1; }; }
lacks() { ! grep -qF -- "$2" "$1" || { echo "'$2' is in:"; cat "$1"; return 1; }; }
equals() { [ "$1" = "$2" ] || { echo "${3:-value}: expected '$2', got '$1'"; return 1; }; }

eventually() {
  local deadline=$((SECONDS + $1)) said; shift
  until said=$("$@" 2>&1); do
    [ $SECONDS -lt $deadline ] || { echo "did not come true in time: $*"; echo "$said"; return 1; }
    sleep 0.1
  done
}

verdict() {
  echo "$passed passed, $failed failed"
  [ $failed = 0 ]
}
