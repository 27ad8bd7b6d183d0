# The common parts of the gates, which source this file. A gate is a list of runs. Each run is made,
# also after a failure. The end prints the figures of each scenario, verifies the data directories
# that the crash lab left, and names the failed runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

began=$SECONDS
failed=()
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
# The crash lab keeps the last data directory of each scenario here.
export TRIGGERD_LAB_KEEP="$logs/kept"
seed=${SEED:-$RANDOM}

# run NAME COMMAND…: runs the command, logs its output, and notes a failure.
run() {
    local name=$1 start=$SECONDS
    shift
    printf '\n=== %s: %s\n' "$name" "$*"
    if "$@" 2>&1 | tee "$logs/$name.log"; then
        printf -- '--- %s: ok after %d s\n' "$name" $((SECONDS - start))
    else
        printf -- '--- %s: FAILED after %d s\n' "$name" $((SECONDS - start))
        failed+=("$name")
    fi
}

# lab SCENARIO ROUNDS: runs a scenario of the crash lab. Times and rates are judged, because the
# machine of a gate is idle otherwise.
lab() {
    run "lab-$1" cargo test --locked --test lab -- --exact "$1" --rounds "$2" --seed "$seed" --judge-time
}

# overload BINARY ROUNDS: far too much load and bearable load in turns; see `triggerd bench --help`.
overload() {
    run overload "$1" bench --overload --rounds "$2" --dir "$logs"
}

# finish BINARY: verifies the data directories, prints the summary, ends the script.
finish() {
    local binary=$1 kept
    if "$binary" verify --help >/dev/null 2>&1; then
        for kept in "$TRIGGERD_LAB_KEEP"/*/; do
            [ -d "$kept" ] && run "verify-$(basename "$kept")" env TRIGGERD__STORAGE__DATA_DIR="$kept" "$binary" verify
        done
    else
        printf '\nnot verified: %s has no subcommand verify\n' "$binary"
    fi
    printf '\n=== summary: seed %s, %d s\n' "$seed" $((SECONDS - began))
    grep -hE '^lab [a-z_]+: |^test result: |^[0-9]+ items, |^ +[0-9]+ generated, ' "$logs"/*.log || true
    if [ ${#failed[@]} -gt 0 ]; then
        printf 'FAILED: %s\n' "${failed[@]}"
        exit 1
    fi
}
