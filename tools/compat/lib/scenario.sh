# Runs scenarios/NAME.py of the calling script NAME with a broker binary and the Python clients at hand.
# Source it: . "$(dirname "$0")/../lib/scenario.sh"
. "$(dirname "${BASH_SOURCE[0]}")/suite.sh"
need_python
[ -n "${BROKER_COMMAND:-}" ] || BROKER_BIN=$(broker_binary)
export BROKER_BIN BROKER_TMP=${BROKER_TMP:-$WORK}
# Clients in C that crash say where.
export PYTHONFAULTHANDLER=1
unset BOOTSTRAP
scenario() { "$PYTHON" "$COMPAT/scenarios/$(basename "$0" | tr - _).py" "$@"; }
