#!/usr/bin/env bash
# launch/tpu_vm.sh: a run on a Cloud TPU slice of any size: asks for it, starts the command on every worker, asks again
# after a preemption, and gives the slice back at the end.
#
#   launch/tpu_vm.sh --name math --zone us-west4-a --type v5litepod-256 --bucket my-runs -- \
#     stepjax ppo --config=math_7b --workdir=/mnt/runs/math
#
#   --name NAME          of the queued resource and of the node (needed)
#   --zone ZONE          where (needed)
#   --type TYPE          accelerator type: v5litepod-256, v6e-64, v5p-128 … (needed)
#   --bucket BUCKET      Cloud Storage bucket, mounted on every worker at /mnt/runs: the work directory must lie there,
#                        since all workers write one checkpoint (needed; use one with a hierarchical namespace)
#   --project PROJECT    (gcloud's own default)
#   --runtime VERSION    software version of the workers (by the type: v2-alpha-tpuv5-lite, v2-alpha-tpuv6e, …)
#   --send PATH          a file or folder of yours (a config, data) to put beside stepjax; may be given several times
#   --spot               pay less for a slice that may be taken away; the run then starts again by itself
#   --retries N          how many new slices may follow a lost one (20)
#   --keep               leave the slice running at the end
#   --dry-run            print the commands and do nothing
#
# Cost: a slice is paid by the second from the moment it is ACTIVE until it is deleted, idle or not: every chip of it, at
# the price an hour of https://cloud.google.com/tpu/pricing (a v5litepod-256 is 256 chips). The bucket is paid as well.
# Stop: Ctrl-C here ends the command on the workers and deletes the slice. Should this machine be cut off, run
#   gcloud compute tpus queued-resources delete NAME --zone ZONE --force --quiet
set -euo pipefail

usage() { sed -n '2,/^set /p' "$0" | sed -n 's/^# \{0,1\}//p'; }
fail() { echo "launch/tpu_vm.sh: $*" >&2; exit 2; }

name='' zone='' type='' bucket='' project='' runtime='' retries=20 spot=0 keep=0 dry=0 sent=()
while [ $# -gt 0 ]; do
  case "$1" in
    --name | --zone | --type | --bucket | --project | --runtime | --retries)
      [ $# -ge 2 ] || fail "$1 needs a value"
      declare "${1#--}=$2"; shift 2 ;;
    --send)
      [ -e "${2:-}" ] || fail "--send: no file '${2:-}'"
      sent+=(-C "$(cd "$(dirname "$2")" && pwd)" "$(basename "$2")"); shift 2 ;;
    --spot) spot=1; shift ;;
    --keep) keep=1; shift ;;
    --dry-run) dry=1; shift ;;
    -h | --help) usage; exit 0 ;;
    --) shift; break ;;
    *) fail "what is '$1'? See launch/tpu_vm.sh --help" ;;
  esac
done
for needed in name zone type bucket; do [ -n "${!needed}" ] || fail "--$needed is missing"; done
[ $# -gt 0 ] || fail "name a command after --"
case "$retries" in '' | *[!0-9]*) fail "--retries must be a number, not '$retries'" ;; esac
if [ -z "$runtime" ]; then
  case "$type" in
    v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
    v5p-*) runtime=v2-alpha-tpuv5 ;;
    v6e-*) runtime=v2-alpha-tpuv6e ;;
    v4-*) runtime=tpu-ubuntu2204-base ;;
    tpu7x-*) runtime=v2-alpha-tpu7-ubuntu2404 ;;
    *) fail "--runtime is missing: no default for type '$type'" ;;
  esac
fi
where=(--zone "$zone")
[ -z "$project" ] || where+=(--project "$project")
root=$(cd "$(dirname "$0")/.." && pwd)
package=${TMPDIR:-/tmp}/stepjax-$name.tar.gz

run() {
  if [ "$dry" = 1 ]; then printf '%q ' "$@"; echo; else "$@"; fi
}

everywhere() { run gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all --command "$1"; }

create() {
  local more=()
  [ "$spot" = 0 ] || more+=(--spot)
  run gcloud compute tpus queued-resources create "$name" --node-id "$name" "${where[@]}" \
    --accelerator-type "$type" --runtime-version "$runtime" "${more[@]+"${more[@]}"}"
}

delete() { run gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet; }

state() {
  gcloud compute tpus queued-resources describe "$name" "${where[@]}" --format='value(state.state)' 2>/dev/null || true
}

await() {
  if [ "$dry" = 1 ]; then
    run gcloud compute tpus queued-resources describe "$name" "${where[@]}" '--format=value(state.state)'
    return 0
  fi
  local now=''
  until [ "$now" = ACTIVE ]; do
    now=$(state)
    case "$now" in FAILED | SUSPENDED | SUSPENDING) echo "$name: the request is $now" >&2; return 1 ;; esac
    [ "$now" = ACTIVE ] || { echo "$name: ${now:-not there yet}" >&2; sleep 30; }
  done
}

prepare() {
  run tar -C "$root" -czf "$package" pyproject.toml README.md LICENSE stepjax configs "${sent[@]+"${sent[@]}"}"
  run gcloud compute tpus tpu-vm scp "$package" "$name:stepjax.tar.gz" "${where[@]}" --worker=all
  everywhere "set -e; mkdir -p ~/stepjax; tar -C ~/stepjax -xzf ~/stepjax.tar.gz; python3 -m venv ~/venv; ~/venv/bin/pip install --quiet -e ~/stepjax 'jax[tpu]'; \
command -v gcsfuse >/dev/null || { sudo apt-get update -qq && sudo apt-get install -y -qq gcsfuse; }; \
sudo mkdir -p /mnt/runs; sudo chown \$(id -u) /mnt/runs; mountpoint -q /mnt/runs || gcsfuse --implicit-dirs $(printf %q "$bucket") /mnt/runs"
}

finish() {
  trap - EXIT INT TERM
  rm -f "$package" "$log"
  [ "$keep" = 1 ] || delete || echo "$name could not be deleted: do it by hand, it costs money" >&2
}

if [ "$dry" = 0 ]; then
  trap finish EXIT
  trap 'exit 130' INT TERM
fi
command=$(printf '%q ' "$@")
log=${TMPDIR:-/tmp}/stepjax-$name.log

start() { everywhere "cd ~/stepjax && PATH=~/venv/bin:\$PATH $command" 2>&1 | tee "$log"; }

# gcloud does not hand a worker's exit status on for certain: what the run itself says counts.
interrupted() { grep -qE 'stepjax: .*(the same command continues| is lost: |let the others wait)' "$log"; }

if [ "$dry" = 1 ]; then
  log=/dev/null
  create && await && prepare && start
  [ "$keep" = 1 ] || delete
  exit 0
fi
attempt=0 there=0
while :; do
  status=0
  : >"$log"
  # No `set -e` in a condition: each part hands its own failure on.
  [ "$there" = 1 ] || { create && await && prepare; } || status=$?
  if [ "$status" = 0 ]; then start || status=$?; fi
  [ "$status" != 0 ] || exit 0
  now=$(state)
  there=0
  if [ "$now" = ACTIVE ]; then
    # The slice is there, so the run failed by itself, unless it says otherwise or the connection broke.
    interrupted || [ "$status" = 75 ] || [ "$status" = 255 ] || exit "$status"
    there=1
  fi
  attempt=$((attempt + 1))
  [ "$attempt" -le "$retries" ] || { echo "$name: interrupted $attempt times, giving up" >&2; exit 75; }
  echo "$name: the run was interrupted (status $status, slice ${now:-gone}) and continues ($attempt of $retries)" >&2
  [ "$there" = 1 ] || delete || true
  sleep 20
done
