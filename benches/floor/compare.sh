#!/usr/bin/env bash
# Measures triggerd against the limit servers (src/main.rs) on this machine, alternating round by round.
#
#   cargo build --release && benches/floor/compare.sh          from the root of the checkout
#
# Environment: TRIGGERD_BIN (default target/release/triggerd), ROUNDS (3), SECS per measurement (4),
# CONNS ("20 64 256"), WITH_DELIVERY=0 leaves the end-to-end part out. Needs wrk, curl and python3.
# Lines that start with RESULT are for programs.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
triggerd=${TRIGGERD_BIN:-${CARGO_TARGET_DIR:-target}/release/triggerd}
rounds=${ROUNDS:-3} secs=${SECS:-4} conns=${CONNS:-20 64 256}
unset TRIGGERD_BIN # so that triggerd does not see it
build=${TMPDIR:-/tmp}/triggerd-limit
work=$(mktemp -d "${TMPDIR:-/tmp}/triggerd-compare-XXXXXX")
pids=()

cleanup() {
  for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail() { echo "compare: $*" >&2; exit 1; }
for program in wrk curl python3; do command -v $program >/dev/null || fail "$program is not installed"; done
[ -x "$triggerd" ] || fail "$triggerd is missing; run cargo build --release"

CARGO_TARGET_DIR=$build cargo build --release --locked --quiet --manifest-path "$here/Cargo.toml"
limit=$build/release/limit

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

wait_open() { # url
  for _ in $(seq 600); do curl -fso /dev/null "$1" && return; sleep 0.05; done
  fail "$1 does not answer: $(tail -n 3 "$work/server.log")"
}

start() { # name: triggerd, log or null; sets port, pid and KEY
  port=$(free_port) data=$work/data
  rm -rf "$data" && mkdir "$data"
  case $1 in
    triggerd)
      cat >"$work/triggerd.toml" <<TOML
[server]
listen = "127.0.0.1:$port"

[storage]
data_dir = "$data"

[egress]
allow_networks = ["127.0.0.0/8"]

[tiers.enterprise]
events_per_second = 10000000
burst = 10000000
TOML
      "$triggerd" serve --config "$work/triggerd.toml" >"$work/server.log" 2>&1 & pid=$!; pids+=("$pid")
      wait_open "http://127.0.0.1:$port/health/ready"
      KEY=$("$triggerd" key create --org bench --tier enterprise --json --config "$work/triggerd.toml" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["key"])') ;;
    log) "$limit" log "127.0.0.1:$port" "$data" >"$work/server.log" 2>&1 & pid=$!; pids+=("$pid") ;;
    null) "$limit" null "127.0.0.1:$port" >"$work/server.log" 2>&1 & pid=$!; pids+=("$pid") ;;
  esac
  export KEY=${KEY:-none}
  for _ in $(seq 100); do (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return; sleep 0.05; done
  fail "$1 does not listen"
}

stop() { kill -TERM "$1" 2>/dev/null || true; wait "$1" 2>/dev/null || true; }

load() { # connections seconds: prints the RESULT words of post.lua
  wrk -t2 -c"$1" -d"$2s" --timeout 10s -s "$here/post.lua" "http://127.0.0.1:$port/api/events" | sed -n 's/^RESULT //p'
}

echo "machine: $(nproc) cores, $(uname -sr); $rounds rounds of $secs s; 1 KiB events"
for round in $(seq "$rounds"); do
  for server in log triggerd null; do
    start "$server"
    load 16 1 >/dev/null
    for c in $conns; do echo "$round $server $c $(load "$c" "$secs")" >>"$work/figures"; done
    stop "$pid"
  done
done

python3 - "$work/figures" <<'PY'
import statistics, sys
runs = {}  # (server, connections) -> round -> figures
for line in open(sys.argv[1]):
    round, server, connections, *words = line.split()
    runs.setdefault((server, int(connections)), {})[int(round)] = {k: float(v) for k, v in (w.split("=") for w in words)}
median = lambda key, name: statistics.median(r[name] for r in runs[key].values())
print(f"{'connections':>11} {'server':>9} {'requests/s':>11} {'p50 ms':>8} {'p99 ms':>8} {'errors':>7}   triggerd to it")
for c in sorted({c for _, c in runs}):
    for server in ("triggerd", "log", "null"):
        ratio = ""
        if server != "triggerd":
            pairs = [runs["triggerd", c][r]["rps"] / runs[server, c][r]["rps"] for r in runs[server, c]]
            ratio = f"{statistics.median(pairs):.2f}  ({min(pairs):.2f} to {max(pairs):.2f})"
        errors = sum(r["errors"] for r in runs[server, c].values())
        print(f"{c:>11} {server:>9} {median((server, c), 'rps'):>11,.0f} {median((server, c), 'p50_ms'):>8.2f} "
              f"{median((server, c), 'p99_ms'):>8.2f} {errors:>7.0f}   {ratio}")
failed = sum(r["errors"] for rounds in runs.values() for r in rounds.values())
if failed:
    sys.exit(f"{failed:.0f} requests failed or were refused: the figures above count them as answered")
for c in sorted({c for _, c in runs}):
    for server in ("triggerd", "log", "null"):
        pairs = [runs["triggerd", c][r]["rps"] / runs[server, c][r]["rps"] for r in runs[server, c]]
        print(f"RESULT connections={c} server={server} rps={median((server, c), 'rps'):.0f} p50_ms={median((server, c), 'p50_ms'):.2f} "
              f"p99_ms={median((server, c), 'p99_ms'):.2f} errors={sum(r['errors'] for r in runs[server, c].values()):.0f} "
              f"triggerd_ratio={statistics.median(pairs):.3f}")
PY

[ "${WITH_DELIVERY:-1}" = 1 ] || exit 0
sink=$(free_port)
"$limit" sink "127.0.0.1:$sink" >/dev/null 2>&1 & pids+=("$!")
wait_open "http://127.0.0.1:$sink/count"
start triggerd
curl -fsS -o /dev/null -H "X-API-Key: $KEY" -H "Content-Type: application/json" -d "{\"url\":\"http://127.0.0.1:$sink/\"}" \
  "http://127.0.0.1:$port/api/webhook/config"
began=$(date +%s.%N)
posted=$(load 64 "$secs")
python3 - "$sink" "$began" "$posted" <<'PY'
import sys, time, urllib.request
url, began = f"http://127.0.0.1:{sys.argv[1]}/count", float(sys.argv[2])
posted = {k: float(v) for k, v in (w.split("=") for w in sys.argv[3].split())}
count = lambda: int(urllib.request.urlopen(url).read())
seen, last = count(), time.time()
while seen < posted["requests"] and time.time() - last < 5:
    time.sleep(0.02)
    now = count()
    if now != seen:
        seen, last = now, time.time()
rate = seen / (last - began)
print(f"end to end at 64 connections: {posted['rps']:,.0f} events/s taken in, {rate:,.0f} deliveries/s "
      f"({seen:,} of {posted['requests']:,.0f} answered events delivered, the last {last - began - posted['seconds']:.1f} s after the load)")
print(f"RESULT delivery ingest_rps={posted['rps']:.0f} deliveries_per_s={rate:.0f} delivered={seen} answered={posted['requests']:.0f}")
PY
