#!/usr/bin/env bash
# launch/gke/run.sh: a run on the TPU node pools of a Google Kubernetes Engine cluster, as a JobSet.
#
#   launch/gke/run.sh --name math --accelerator tpu-v5-lite-podslice --topology 16x16 --image IMAGE --claim runs -- \
#     stepjax ppo --config=math --workdir=/mnt/runs/math
#
#   --name NAME          of the JobSet (needed)
#   --accelerator A      node label: tpu-v5-lite-podslice, tpu-v6e-slice, tpu-v5p-slice … (needed)
#   --topology T         of a slice, as the node pool has it: 4x4, 16x16, 4x4x4 … (needed)
#   --image IMAGE        container with stepjax and jax[tpu] (needed)
#   --claim CLAIM        persistent volume claim (ReadWriteMany) mounted at /mnt/runs, for the work directory (needed)
#   --chips N            chips of a host (4)
#   --slices N           slices of that topology (1)
#   --restarts N         how often the run may start again after a lost host (100)
#   --dry-run            print the manifest and the command and apply nothing
#
# The cluster needs the JobSet controller (https://jobset.sigs.k8s.io) and node pools of that accelerator and topology.
# Cost: every host of the node pool, with all of its chips, as long as the pool has it, whether a pod runs or not: let the
# pool scale down to 0. See https://cloud.google.com/tpu/pricing.
# Stop: kubectl delete jobset NAME (the run saves itself and goes; the same command continues it); then check with
# kubectl get nodes that the pool has shrunk.
set -euo pipefail

usage() { sed -n '2,/^set /p' "$0" | sed -n 's/^# \{0,1\}//p'; }
fail() { echo "launch/gke/run.sh: $*" >&2; exit 2; }

name='' accelerator='' topology='' image='' claim='' chips=4 slices=1 restarts=100 dry=0
while [ $# -gt 0 ]; do
  case "$1" in
    --name | --accelerator | --topology | --image | --claim | --chips | --slices | --restarts)
      [ $# -ge 2 ] || fail "$1 needs a value"
      declare "${1#--}=$2"; shift 2 ;;
    --dry-run) dry=1; shift ;;
    -h | --help) usage; exit 0 ;;
    --) shift; break ;;
    *) fail "what is '$1'? See launch/gke/run.sh --help" ;;
  esac
done
for needed in name accelerator topology image claim; do [ -n "${!needed}" ] || fail "--$needed is missing"; done
[ $# -gt 0 ] || fail "name a command after --"
for number in chips slices restarts; do
  case "${!number}" in '' | *[!0-9]*) fail "--$number must be a number, not '${!number}'" ;; esac
done
[[ $topology =~ ^[1-9][0-9]*(x[1-9][0-9]*){1,2}$ ]] || fail "--topology must be written 4x4 or 4x4x4, not '$topology'"
[[ $name =~ ^[a-z]([-a-z0-9]{0,30}[a-z0-9])?$ ]] || fail "--name must be of small letters, digits and -, not '$name'"
for text in "$accelerator" "$image" "$claim"; do
  [[ $text =~ ^[A-Za-z0-9][-A-Za-z0-9._/:@]*$ ]] || fail "'$text' is no name of an accelerator, an image or a claim"
done
total=$((${topology//x/*} * 1))
[ "$chips" -gt 0 ] && [ $((total % chips)) = 0 ] || fail "--chips $chips does not divide the $total chips of $topology"
hosts=$((total / chips))

# A JSON list, which is YAML too: every argument stays one argument.
quoted() {
  local out='' argument
  for argument in "$@"; do
    argument=${argument//\\/\\\\}
    argument=${argument//\"/\\\"}
    out+="${out:+, }\"$argument\""
  done
  printf '[%s]' "$out"
}
case "$*" in *$'\n'*) fail "the command holds a line break" ;; esac

manifest() {
  local line command
  command=$(quoted "$@")
  while IFS= read -r line; do
    line=${line/": NAME"/": $name"}
    line=${line/": RESTARTS"/": $restarts"}
    line=${line/": SLICES"/": $slices"}
    line=${line/": HOSTS"/": $hosts"}
    line=${line/": ACCELERATOR"/": $accelerator"}
    line=${line/": TOPOLOGY"/": $topology"}
    line=${line/": IMAGE"/": $image"}
    line=${line/": CHIPS"/": $chips"}
    line=${line/": CLAIM"/": $claim"}
    case "$line" in *": COMMAND") line=${line%COMMAND}$command ;; esac
    printf '%s\n' "$line"
  done <"$(dirname "$0")/jobset.yaml"
}

if [ "$dry" = 1 ]; then
  manifest "$@"
  echo "# kubectl apply -f -"
  exit 0
fi
manifest "$@" | kubectl apply -f -
echo "follow it: kubectl logs -f -l jobset.sigs.k8s.io/jobset-name=$name --prefix --max-log-requests=$((hosts * slices))" >&2
echo "stop it:   kubectl delete jobset $name" >&2
