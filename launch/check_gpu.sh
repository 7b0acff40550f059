#!/usr/bin/env bash
# launch/check_gpu.sh: one check of a machine with an NVIDIA GPU, in at most nine minutes: installs stepjax, runs the
# device tests, times the programs of a run, trains the quickstart, and prints one JSON object with shares of the GPU's
# bandwidth and peak beside what its public figures predict.
#
#   launch/check_gpu.sh
#   launch/check_gpu.sh --out results --seconds 300 --only tests,bench
#
#   --out FOLDER      logs, and the JSON as check.json (check_gpu)
#   --seconds N       of the whole check (540); a part that does not fit any more is left out, and the JSON says so
#   --only A,B        parts of install, tests, bench, round, quickstart (all, in this order)
#   --dry-run         print the commands and do nothing
#
# Install: pip install -e '.[test]' and JAX for CUDA 12. Where they are there already: --only tests,bench,round,quickstart.
# Cost: the machine's own price for these minutes. Stop: Ctrl-C; nothing goes on.
set -euo pipefail

usage() { sed -n '2,/^set /p' "$0" | sed -n 's/^# \{0,1\}//p'; }
fail() { echo "launch/check_gpu.sh: $*" >&2; exit 2; }

out=check_gpu seconds=540 only=install,tests,bench,round,quickstart dry=0
while [ $# -gt 0 ]; do
  case "$1" in
    --out | --seconds | --only)
      [ $# -ge 2 ] || fail "$1 needs a value"
      declare "${1#--}=$2"; shift 2 ;;
    --dry-run) dry=1; shift ;;
    -h | --help) usage; exit 0 ;;
    *) fail "what is '$1'? See launch/check_gpu.sh --help" ;;
  esac
done
case "$seconds" in '' | *[!0-9]*) fail "--seconds must be a number, not '$seconds'" ;; esac
[ -n "${only//,/}" ] || fail "--only: name parts of install, tests, bench, round, quickstart"
for part in ${only//,/ }; do
  case "$part" in install | tests | bench | round | quickstart) ;; *) fail "--only: no part '$part'; there are install, tests, bench, round, quickstart" ;; esac
done
cd "$(dirname "$0")/.."
[ $dry = 1 ] || mkdir -p "$out"
export STEPJAX_QUIET=1
began=$SECONDS child=''
# `timeout` passes the signal on to what it runs, with all of its processes.
trap '[ -z "$child" ] || kill "$child"; exit 130' INT TERM

wanted() { case ",$only," in *",$1,"*) return 0 ;; *) return 1 ;; esac; }

# run NAME LIMIT COMMAND…: at most LIMIT seconds and what is left of the whole; a failure is noted, and the check goes on.
run() {
  local name=$1 limit=$2 left=$((seconds - (SECONDS - began))) status=0 start=$SECONDS
  shift 2
  if [ $dry = 1 ]; then printf '%q ' "$@"; echo; return; fi
  [ "$limit" -le "$left" ] || limit=$left
  if [ "$limit" -lt 15 ]; then
    status=left_out
  else
    timeout -k 5 "$limit" "$@" >"$out/$name.out" 2>"$out/$name.err" &
    child=$!
    wait "$child" || status=$?
    child=''
  fi
  echo "$name $status $((SECONDS - start))" | tee -a "$out/parts.txt" >&2
}

[ $dry = 1 ] || : >"$out/parts.txt"
if wanted install; then
  run install 150 python3 -m pip install --quiet -e '.[test]' 'jax[cuda12]'
fi
if wanted tests; then
  run tests 120 env STEPJAX_TEST_PLATFORM=cuda,cpu python3 -m pytest -n0 -m 'slow or not slow' tests/device
fi
if wanted bench; then
  for shape in 135m 0.5b 1m; do
    common=(--config.shape="$shape" --config.dtype=bfloat16 --json)
    run "rollout-$shape" 90 stepjax bench rollout "${common[@]}"
    run "rollout_geometric-$shape" 60 stepjax bench rollout --config.mean_length=64 "${common[@]}"
    run "update-$shape" 60 stepjax bench update "${common[@]}"
    run "score-$shape" 60 stepjax bench score --config.prm=True "${common[@]}"
  done
  # Long limits decode from a cache of blocks.
  run rollout_long-0.5b 120 stepjax bench rollout --config.mean_length=256 --config.new_tokens=4096 \
    --config.repeats=1 --config.shape=0.5b --config.dtype=bfloat16 --json
fi
if wanted round; then
  run round-gsm8k_qwen05b 120 stepjax bench iteration --config=gsm8k_qwen05b --config.shape=own --config.repeats=1 --json
fi
if wanted quickstart; then
  workdir="$out/quickstart" again=2  # a finished one would take no time
  while [ -e "$workdir" ]; do workdir="$out/quickstart-$((again++))"; done
  run quickstart 120 stepjax quickstart --workdir="$workdir"
fi
[ $dry = 1 ] && exit 0

python3 - "$out" <<'END'
import json, sys
from pathlib import Path

out = Path(sys.argv[1])
KEYS = ("useful_tokens", "seconds", "tokens_per_second", "peak_flops_share", "peak_bandwidth_share",
        "predicted_seconds", "compile_seconds", "device_bytes", "device", "jax", "cache_tokens", "held_tokens",
        "restarted_tokens")


def lines(name):
    try:
        text = (out / f"{name}.out").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in text:
        try:
            found.append(json.loads(line))
        except ValueError:
            pass
    return [line for line in found if isinstance(line, dict)]


parts = {}
for told in (out / "parts.txt").read_text().splitlines():
    name, status, seconds = told.split()
    part = {"status": int(status) if status.isdigit() else status, "wall_seconds": int(seconds)}
    if status == "left_out":  # what lies there is of an earlier check
        pass
    elif name.startswith(("rollout", "score", "update", "round")) and (found := lines(name)):
        part |= {key: found[-1][key] for key in KEYS if key in found[-1]}
    elif name == "tests":
        part["result"] = ((out / "tests.out").read_text().strip().splitlines() or ["no output"])[-1]
    if status not in ("0", "left_out"):
        part["error"] = ((out / f"{name}.err").read_text().strip().splitlines() or ["no message"])[-1][:300]
    parts[name] = part
(out / "check.json").write_text(json.dumps(parts, indent=1) + "\n")
print(json.dumps(parts, indent=1))
sys.exit(any(part["status"] not in (0, "left_out") for part in parts.values()))
END
